"""How far a search or a study is: the trials or networks that are over, and those under way."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...scenes.errors import AftermapError
from .lock import Holder, by, held_by
from .training import STATE, TrainingStatus, training_status
from .words import AGAIN, listed, share

SEARCH, STUDY, PAGE = "search.json", "study.json", "study.html"
"""What `tune` and `studies` call them; to import these from there would take torch's seconds."""


@dataclass(frozen=True)
class SearchStatus:
    """How far a search for settings is."""

    path: Path
    state: str
    """running, stopped (killed or interrupted) or done (its table has every trial that was begun)."""
    holder: Holder | None
    """Who works on it, or did before it stopped."""
    over: int
    """Trials that are over."""
    failed: int
    """Of these, those that failed."""
    best: tuple[int, float] | None
    """The trial with the highest score, and that."""
    active: tuple[TrainingStatus, ...]
    """Trials that were begun and are not over. How many more were asked for is not written down."""

    def text(self) -> str:
        """A few lines for the terminal."""
        failed = f", {self.failed} of them failed" if self.failed else ""
        lines = [f"{self.path}", f"state      {self.state}{by(self.holder, self.running)}"]
        lines.append(f"trials     {self.over} over{failed}, {len(self.active)} begun")
        if self.best is not None:
            lines.append(f"best       {self.best[1]:.4f} (trial {self.best[0]})")
        lines += _under_way(self.path, self.active)
        if self.state == "stopped":
            lines.append(f"{AGAIN[:-1]}, as many trials as --trials says.")
        return "\n".join(lines)

    @property
    def progress(self) -> float | None:
        """How much of it is done: not known before the end, as the number of trials is not."""
        return 1.0 if self.state == "done" else None

    @property
    def running(self) -> bool:
        """Whether a process works on it now."""
        return self.state == "running"


@dataclass(frozen=True)
class StudyStatus:
    """How far a study is."""

    path: Path
    name: str
    state: str
    """running, stopped (killed or interrupted) or done."""
    holder: Holder | None
    """Who works on it, or did before it stopped."""
    seeds: int
    tasks: int
    """Networks, or what else is done at a time, for all seeds; 0 where this version knows no such
    study."""
    done: int
    active: tuple[TrainingStatus, ...]
    """Trainings that were begun and whose task is not done."""

    def text(self) -> str:
        """A few lines for the terminal."""
        lines = [f"{self.path}", f"study      {self.name}, seeds: {self.seeds}"]
        lines.append(f"state      {self.state}{by(self.holder, self.running)}")
        lines.append(f"tasks      {share(self.done, self.tasks)}")
        lines += _under_way(self.path, self.active)
        if self.state == "stopped":
            lines.append(f"{AGAIN[:-1]}: aftermap study {self.name} ... -o {self.path}")
        if self.state == "done":
            lines.append(f"page       {self.path / PAGE}")
        return "\n".join(lines)

    @property
    def progress(self) -> float | None:
        """How much of it is done, 0-1; None where that is not known."""
        return self.done / self.tasks if self.tasks else None

    @property
    def running(self) -> bool:
        """Whether a process works on it now."""
        return self.state == "running"


def search_status(path: Path) -> SearchStatus | None:
    """How far the search in a folder is; None where there is none."""
    if not (path / SEARCH).is_file():
        return None
    trials = [folder for folder in sorted(path.glob("trials/*")) if folder.is_dir()]
    results = [found for folder in trials if (found := _read(folder / "result.json"))]
    scores = [(r["number"], r["score"]) for r in results if r["score"] is not None]
    begun = tuple(_trainings(f for f in trials if not (f / "result.json").is_file()))
    table = path / "trials.csv"
    rows = len(table.read_text().splitlines()) - 1 if table.is_file() else 0
    state, holder = _state(path, rows >= len(trials) > 0 and not begun)
    return SearchStatus(
        path=path,
        state=state,
        holder=holder,
        over=len(results),
        failed=len(results) - len(scores),
        best=max(scores, key=lambda found: found[1], default=None),
        active=begun,
    )


def study_status(path: Path) -> StudyStatus | None:
    """How far the study in a folder is; None where there is none."""
    record = _read(path / STUDY)
    if record is None:
        return None
    name, seeds = str(record.get("study")), int(record.get("seeds", 1))
    tasks = _tasks(name, path, seeds)
    folders = [folder for folder in sorted(path.iterdir()) if folder.is_dir()]
    left = [folder for folder in folders if not (folder / "outcome.json").is_file()]
    done = len(folders) - len(left)
    state, holder = _state(path, (path / PAGE).is_file() and done >= tasks)
    places = (place for folder in left for place in (folder, *sorted(folder.glob("*"))))
    return StudyStatus(path, name, state, holder, seeds, tasks, done, tuple(_trainings(places)))


def _tasks(name: str, path: Path, seeds: int) -> int:
    """How many tasks a study has, whatever its settings."""
    from ..studies.paper import Asked  # torch, which a run's status does not wait for
    from ..studies.study import STUDIES

    with suppress(KeyError, AftermapError):
        return len(STUDIES[name](Asked(path.absolute(), seeds, {}, {})).tasks)
    return 0


def _state(path: Path, over: bool) -> tuple[str, Holder | None]:
    held, holder = held_by(path)
    if held:
        return "running", holder
    return ("done", None) if over else ("stopped", holder)


def _trainings(folders: Iterable[Path]) -> list[TrainingStatus]:
    found = (training_status(folder) for folder in folders if (folder / STATE).is_file())
    return [status for status in found if status is not None]


def _under_way(path: Path, active: Iterable[TrainingStatus]) -> list[str]:
    told = [f"{training.path.relative_to(path)}: {training.epochs_told()}" for training in active]
    return listed("epochs", told, 20, 10)


def _read(file: Path) -> dict[str, Any] | None:
    """A file that is replaced whole; None where there is none."""
    with suppress(OSError, ValueError):
        found = json.loads(file.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else None
    return None
