"""How often somebody may ask, and how many may do at once what costs much."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

_MOST_KEYS = 10_000


class Limit:
    """At most `most` times in `seconds` for each key; what was refused does not count."""

    def __init__(
        self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._seen: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def wait(self, key: str) -> float:
        """Count one more time; or, where that is one too many, the seconds to wait first."""
        now = self._clock()
        with self._lock:
            if len(self._seen) >= _MOST_KEYS:
                self._forget(now)
            times = self._seen.setdefault(key, deque())
            while times and times[0] <= now - self._seconds:
                times.popleft()
            if len(times) >= self._most:
                return times[0] + self._seconds - now
            times.append(now)
            return 0.0

    def clear(self, key: str) -> None:
        """Forget a key."""
        with self._lock:
            self._seen.pop(key, None)

    def _forget(self, now: float) -> None:
        """Drop keys that no longer limit anybody."""
        for key in [k for k, t in self._seen.items() if not t or t[-1] <= now - self._seconds]:
            del self._seen[key]


TILES = threading.BoundedSemaphore(8)
"""Images that are read at once: GDAL holds blocks of each in memory."""

DOWNLOADS = threading.BoundedSemaphore(2)
"""Files that are written at once for somebody to fetch."""

PASSWORDS = threading.BoundedSemaphore(2)
"""Passwords that are checked at once: Argon2 takes 64 MiB for each."""

MODELS = threading.BoundedSemaphore(1)
"""Squares that a model is asked about at once."""
