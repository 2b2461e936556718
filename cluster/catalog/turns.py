"""Turns of threads that want the same thing at once: one makes it, and the others find it made."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock


@dataclass
class _Turn:
    lock: Lock = field(default_factory=Lock)
    wanted: int = 0
    """Threads that hold it or wait for it."""


class Turns:
    """Locks by key, each there for as long as somebody wants it."""

    def __init__(self) -> None:
        self._turns: dict[Hashable, _Turn] = {}
        self._lock = Lock()

    @contextmanager
    def of(self, key: Hashable, wait_s: float = -1) -> Iterator[bool]:
        """Hold the turn of a key; False where another thread still holds it after `wait_s` seconds."""
        with self._lock:
            turn = self._turns.setdefault(key, _Turn())
            turn.wanted += 1
        held = False
        try:
            held = turn.lock.acquire(timeout=wait_s)
            yield held
        finally:
            if held:
                turn.lock.release()
            with self._lock:
                turn.wanted -= 1
                if not turn.wanted:
                    del self._turns[key]
