"""The runs, regions and trainings in some folders of this machine, as the Progress page lists them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ..cluster.status.overview import Work, overview

FRESH_S = 2.0
"""However many look at the page, folders are read no more often."""


class Works:
    """What `overview` finds in some folders, at most two seconds old."""

    def __init__(self, folders: Sequence[Path], except_in: Path) -> None:
        self._folders = folders
        self._except_in = except_in
        self._lock = threading.Lock()
        self._found: list[Work] = []
        self._read_at = float("-inf")

    def now(self) -> list[Work]:
        """First what runs, then the rest, the latest first."""
        with self._lock:
            if time.monotonic() - self._read_at > FRESH_S:
                self._found = overview(self._folders, self._except_in)
                self._read_at = time.monotonic()
            return self._found
