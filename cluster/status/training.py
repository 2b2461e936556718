"""How far a training is: what its state file says after each epoch."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..student import LEARNS_FROM, run_folder, student_folder
from .lock import Holder, by, held_by
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
    """running, stopped (killed or interrupted) or done."""
    holder: Holder | None
    """Who trains it, or did before it stopped."""
    run: Path | None = None
    """The run whose before image a student is fitted to."""

    def text(self) -> str:
        """A few lines for the terminal."""
        state = f"{self.state}{by(self.holder, self.running)}"
        lines = [f"{self.path}", f"state      {state}", f"epochs     {self.epochs_told()}"]
        if self.run is not None:
            lines.append(f"student    of {self.run}, fitted to its before image")
        if self.idle_s is not None:
            lines.append(f"last epoch {clock(self.idle_s)} ago")
        if self.state == "stopped":
            command = f": aftermap assess ... --fit before -o {self.run}"
            lines.append(AGAIN if self.run is None else AGAIN[:-1] + command)
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
        """Whether a process works on it now."""
        return self.state == "running"


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
    held, holder = held_by(folder)
    # Who was killed after the last epoch has left a name, and has still to write the weights.
    over = holder is None and (done >= epochs or _in_vain(config, progress))
    over = over or _written_after(folder, written)
    state_now = "running" if held else "done" if over else "stopped"
    fitted = str(config.get("data", "")).startswith(LEARNS_FROM)
    run = run_folder(folder) if fitted else None
    who = None if state_now == "done" else holder
    return TrainingStatus(folder, epochs, done, best, idle, state_now, who, run)


def student_status(run: Path) -> TrainingStatus | None:
    """How far the student is that is fitted for a run; None where there is none."""
    found = training_status(student_folder(run))
    return found if found is not None and found.run is not None else None


def _begun(folder: Path) -> TrainingStatus | None:
    """A training that lives, in its first epoch."""
    held, holder = held_by(folder)
    if not held or holder is None or holder.work != "training":
        return None
    run = run_folder(folder)
    held, by_whom = held_by(run)
    fitted = held and by_whom is not None and by_whom.work == "run"
    return TrainingStatus(folder, 0, 0, None, None, "running", holder, run if fitted else None)


def _written_after(folder: Path, moment: float) -> bool:
    """Whether weights were written after a moment, as they are when a training's time is up."""
    weights = (file for file in folder.glob("*.safetensors") if file.name != STATE)
    return any(file.stat().st_mtime >= moment for file in weights)


def _in_vain(config: Mapping[str, Any], progress: Mapping[str, Any]) -> bool:
    """Whether a training ended as its score had not risen for as many epochs as it was patient."""
    patience = config.get("patience")
    return patience is not None and progress["epoch"] - progress["best_epoch"] >= patience
