"""Addresses by a geocoder on the network, through geopy; nothing is sent unless it is asked for."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from .errors import UsageError

SERVICES = ("nominatim", "photon")
"""Geocoders that need no key; both can be run by oneself."""

PATIENCE_S = 10
"""For an answer."""

COURTESY_S = 1.0
"""Between two questions to a public service, as its rules ask."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Geocoder:
    """A service, at its public place or at one's own: `nominatim` or `nominatim=https://host`."""

    service: str
    host: str | None = None
    """With a path where it has one; None is the public one."""
    scheme: str = "https"

    @classmethod
    def of(cls, text: str) -> Geocoder:
        """Read what `--geocoder` says; UsageError for what is none, and without geopy."""
        service, _, url = text.partition("=")
        parts = urlsplit(url)
        if service not in SERVICES or (url and parts.scheme not in ("http", "https")):
            raise UsageError(
                f"--geocoder {text!r} is none. Give {' or '.join(SERVICES)}, or where your own one "
                f"is, as in --geocoder nominatim=https://geocoder.example.org."
            )
        found = cls(
            service, f"{parts.netloc}{parts.path}".rstrip("/") or None, parts.scheme or "https"
        )
        found._client()
        return found

    def addresses(self, lon: np.ndarray, lat: np.ndarray) -> list[str | None]:
        """The address of each point, degrees; None where there is none.

        The service is asked point by point. Once it does not answer, all further addresses are
        None and a warning is logged: a map without addresses is better than none.
        """
        client, pause = self._client(), COURTESY_S if self.host is None else 0.0
        from geopy.exc import GeopyError
        from geopy.extra.rate_limiter import RateLimiter

        # It tells each question that failed with its traceback; what became of it is told below.
        logging.getLogger("geopy").setLevel(logging.CRITICAL)
        ask = RateLimiter(
            client.reverse,
            min_delay_seconds=pause,
            error_wait_seconds=5 * pause,
            swallow_exceptions=False,
        )
        found: list[str | None] = []
        for place in zip(lat.tolist(), lon.tolist(), strict=True):
            try:
                told = ask(place)
            except GeopyError as error:
                _log.warning(
                    "The geocoder %s did not answer (%s): %d of %d detections have no address. The "
                    "same command with --fresh asks again.",
                    self.host or self.service, error, len(lon) - len(found), len(lon),
                )  # fmt: skip
                return found + [None] * (len(lon) - len(found))
            found.append(None if told is None else str(told.address))
        return found

    def _client(self) -> Any:
        try:
            from geopy.geocoders import get_geocoder_for_service
        except ImportError as error:
            raise UsageError(
                f'--geocoder needs geopy ({error}). It comes with\n  pip install "aftermap[geocode]"'
            ) from error
        own = {} if self.host is None else {"domain": self.host, "scheme": self.scheme}
        agent = f"aftermap/{version('aftermap')}"
        return get_geocoder_for_service(self.service)(user_agent=agent, timeout=PATIENCE_S, **own)
