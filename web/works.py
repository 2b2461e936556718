"""The runs, regions and trainings in some folders of this machine, as the Progress page lists them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ..cluster.status.overview import Work, overview

FRESH_S = 2.0
"""However many look at the page, folders are read no more often."""

_SHARE = 10
"""Where to read them takes long, so many times as long passes before they are read again."""


class Works:
    """What `overview` finds in some folders, a few seconds old at most where they are read quickly."""

    def __init__(self, folders: Sequence[Path], except_in: Path) -> None:
        self._folders = folders
        self._except_in = except_in
        self._lock = threading.Lock()
        self._found: list[Work] = []
        self._stale_at = float("-inf")

    def now(self) -> list[Work]:
        """First what runs, then the rest, the latest first."""
        if time.monotonic() > self._stale_at and self._lock.acquire(blocking=False):
            # Others are answered with what was found before, and hold no thread.
            try:
                begun = time.monotonic()
                self._found = overview(self._folders, self._except_in)
                now = time.monotonic()
                self._stale_at = now + max(FRESH_S, _SHARE * (now - begun))
            finally:
                self._lock.release()
        return self._found
