"""How far a training is: what its state file says after each epoch."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from ..student import LEARNS_FROM, run_folder, student_folder
from .lock import holder_of, is_held
from .words import AGAIN, clock

STATE = "state.safetensors"
"""`models.state.NAME`; to import it from there would take torch's seconds."""


@dataclass(frozen=True)
class TrainingStatus:
    """How far a training is."""

    path: Path
    epochs: int
    """Of the whole training; 0 while the first one is not over."""
    done: int
    best: float | None
    """Best validation score."""
    idle_s: float | None
    """Seconds since the last epoch was written."""
    state: str
    """done or unfinished, as a training holds no lock; of the student of a run, which is under that
    run's lock, done, running or stopped."""
    run: Path | None = None
    """The run whose before image a student is fitted to."""

    def text(self) -> str:
        """A few lines for the terminal."""
        lines = [f"{self.path}", f"state      {self.state}", f"epochs     {self.epochs_told()}"]
        if self.run is not None:
            lines.append(f"student    of {self.run}, fitted to its before image")
        if self.idle_s is not None:
            lines.append(f"last epoch {clock(self.idle_s)} ago")
        if self.state == "stopped":
            lines.append(f"{AGAIN[:-1]}: aftermap assess ... --fit before -o {self.run}")
        if self.state == "unfinished":
            lines.append("If nothing trains it any more, run the same command again to go on.")
        return "\n".join(lines)

    def epochs_told(self) -> str:
        """The epochs that are over, and the best score so far."""
        best = "" if self.best is None else f", best score {self.best:.4f}"
        return f"{self.done} of {self.epochs or 'an unknown number'}{best}"

    @property
    def progress(self) -> float | None:
        """How much of it is done, 0-1; None while that is not known."""
        return self.done / self.epochs if self.epochs else None

    @property
    def running(self) -> bool:
        """Whether it is worked on now; of what holds no lock, whether there are epochs to come."""
        return self.state in ("running", "unfinished")


def training_status(folder: Path) -> TrainingStatus | None:
    """How far the training in a folder is; None where there is none.

    From the header of the state file alone, which is replaced whole.
    """
    try:
        with (folder / STATE).open("rb") as state:
            facts = os.fstat(state.fileno())
            # Of another file these bytes may be any number.
            length = min(int.from_bytes(state.read(8), "little"), facts.st_size)
            head, written = json.loads(state.read(length)), facts.st_mtime
        note = json.loads(head["__metadata__"]["aftermap"])
        config, progress = note["config"], note["progress"]
        epochs, done, best = config["epochs"], progress["epoch"], progress["best"]
    except (OSError, ValueError, KeyError):
        return _begun(folder)
    idle = max(time.time() - written, 0)
    over = "done" if done >= epochs else ""
    if not str(config.get("data", "")).startswith(LEARNS_FROM):
        return TrainingStatus(folder, epochs, done, best, idle, over or "unfinished")
    run = run_folder(folder)
    state_now = over or ("running" if _held(run) else "stopped")
    return TrainingStatus(folder, epochs, done, best, idle, state_now, run)


def student_status(run: Path) -> TrainingStatus | None:
    """How far the student is that is fitted for a run; None where there is none."""
    found = training_status(student_folder(run))
    return found if found is not None and found.run is not None else None


def _begun(folder: Path) -> TrainingStatus | None:
    """The student of a run that lives, in its first epoch."""
    run = run_folder(folder)
    if folder.is_dir() and student_folder(run) == folder.absolute() and _held(run):
        return TrainingStatus(folder, 0, 0, None, None, "running", run)
    return None


def _held(run: Path) -> bool:
    return is_held(run / ".lock", holder_of(run))
