"""How far a run is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from .status import clock

_LINE_EVERY = 10.0
"""Seconds between plain lines."""


class RunProgress:
    """Counts chunks (or scenes) and pixels, and says rate and remaining time on standard error."""

    def __init__(
        self, total: int, done: int = 0, quiet: bool = False, noun: str = "chunks"
    ) -> None:
        self.total, self.done, self.quiet, self.noun = total, done, quiet, noun
        self._started = time.monotonic()
        self._pixels = self._new = 0
        self._last_line = self._started
        self._bar = None
        if sys.stderr.isatty() and not quiet:
            self._bar = Progress(
                TextColumn(f"[bold]{noun}[/]"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                TextColumn("{task.fields[rate]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(noun, total=total, completed=done, rate="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, pixels: int, again: bool = False) -> None:
        """Count one more chunk of so many pixels; `again` where it had been counted as done."""
        self.done += not again
        self._new, self._pixels = self._new + 1, self._pixels + pixels
        if self._bar:
            self._bar.update(self._task, completed=self.done, rate=self.rate())
        elif not self.quiet and (
            time.monotonic() - self._last_line > _LINE_EVERY or self.done == self.total
        ):
            self._last_line = time.monotonic()
            print(
                f"{self.noun} {self.done}/{self.total}, {self.rate()}", file=sys.stderr, flush=True
            )

    def rate(self) -> str:
        """Mpx/s of this attempt, where pixels are counted, and the time left at that rate."""
        seconds = max(time.monotonic() - self._started, 1e-6)
        left = (self.total - self.done) * seconds / max(self._new, 1)
        speed = f"{self._pixels / 1e6 / seconds:.2f} Mpx/s, " if self._pixels else ""
        return f"{speed}{clock(left)} left"
