"""How often somebody may ask, and how many may do at once what costs much."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from fastapi import HTTPException

from ..cluster.catalog.turns import Turns

PATIENCE_S = 2.0
"""How long a request waits for its turn. Meanwhile it holds one of the threads that all share."""

_MOST_KEYS = 10_000


class Busy(HTTPException):
    """It is not this request's turn yet: 503, and when to come again."""

    def __init__(self, what: str) -> None:
        super().__init__(
            503, f"{what} Try again in a moment.", {"Retry-After": str(math.ceil(PATIENCE_S))}
        )


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


class Places:
    """So many at once, whoever they are; raises Busy for those who find no place in time."""

    def __init__(self, most: int, what: str, patience_s: float = PATIENCE_S) -> None:
        self._free = threading.BoundedSemaphore(most)
        self._what = what
        self._patience_s = patience_s

    def __enter__(self) -> None:
        if not self._free.acquire(timeout=self._patience_s):
            raise Busy(self._what)

    def __exit__(self, *_: object) -> None:
        self._free.release()


class OneEach:
    """One at once for each key; raises Busy for a second one that does not get its turn in time."""

    def __init__(self, what: str, patience_s: float = PATIENCE_S) -> None:
        self._turns = Turns()
        self._what = what
        self._patience_s = patience_s

    @contextmanager
    def of(self, key: Hashable) -> Iterator[None]:
        """The turn of a key."""
        with self._turns.of(key, self._patience_s) as held:
            if not held:
                raise Busy(self._what)
            yield


TILES = Places(8, "Many pictures are read at this moment.")
"""Images that are asked for at once: who waits for one holds a thread that all share."""

SQUARES = Places(16, "Many squares are read at this moment.", patience_s=30)
"""Squares that are cut out at once: a whole office tags, and a tag is worth waiting for."""

DOWNLOADS = Places(2, "Others' files are written at this moment.")
"""Files that are written at once for somebody to fetch."""

DOWNLOAD_OF = OneEach("Another file of yours is written at this moment.", patience_s=0)
"""Users for whom a file is written."""

TABLE_OF = OneEach("The run's table is prepared at this moment.")
"""Runs whose tables are opened: where damage areas are copied first, that takes its time."""

PASSWORDS = Places(2, "Many log in at this moment.", patience_s=10)
"""Passwords that are checked at once: Argon2 takes 64 MiB for each. A whole office begins together."""

MODELS = Places(1, "The model is asked by others at this moment.")
"""Squares that a model is asked about at once."""
