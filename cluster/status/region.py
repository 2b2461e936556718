"""How far a region is: the states of its scenes, and the runs of those that are not over."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from ..regions.folder import OVER, RegionFolder, SceneState
from .lock import by, is_held
from .run import RunStatus, run_status_of
from .words import clock


@dataclass(frozen=True)
class RegionStatus:
    """How far a region is: its scenes, each a run."""

    path: Path
    scenes: int
    """Scenes of the region: all, where that is known, or else those begun."""
    counts: dict[str, int]
    """Scenes by state: done, nothing (to analyse), quarantined, failed, running, finishing,
    stopped, and waiting: not begun."""
    merged: bool
    """Whether the scenes' results were put together."""
    active: tuple[RunStatus, ...]
    """Scenes that run or were stopped."""
    failed: tuple[str, ...]
    """Scenes that failed, with the reason."""

    def text(self) -> str:
        """A few lines for the terminal."""
        counted = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        lines = [f"{self.path}", f"scenes     {self.scenes}: {counted or 'none begun'}"]
        lines.append(f"merged     {'yes' if self.merged else 'not yet'}")
        for run in self.active[:20]:
            left = f", {clock(run.seconds_left)} left" if run.seconds_left is not None else ""
            lines.append(
                f"  {run.path.name}: {run.state}{by(run.holder, run.running)}, {run.done}/{run.chunks} chunks{left}"
            )
        lines += [f"  {entry}" for entry in self.failed[:20]]
        rest = max(len(self.active) - 20, 0) + max(len(self.failed) - 20, 0)
        return "\n".join(lines + ([f"  and {rest} more"] if rest else []))

    @property
    def state(self) -> str:
        """running, done (the scenes' results were put together) or stopped."""
        return "running" if self.running else "done" if self.merged else "stopped"

    @property
    def progress(self) -> float | None:
        """How much of it is done, 0-1, counting scenes; None while that is not known."""
        over = sum(self.counts.get(state, 0) for state in (*OVER, "failed"))
        return over / self.scenes if self.scenes else None

    @property
    def running(self) -> bool:
        """Whether a process works on any scene now."""
        return any(run.running for run in self.active)


def planned_status(file: Path) -> RegionStatus:
    """A region from its file, which tells how many scenes there are to be."""
    from ..regions.file import read_region_file
    from ..regions.region import (
        prepare_region,  # torch and the catalogs, which a folder does not need
    )

    region = read_region_file(file)
    pairs = prepare_region(replace(region, cluster="local", workers=None)).pairing.pairs
    return region_status(region.out, [pair.scene_id for pair in pairs])


def region_status(path: Path, planned: list[str] | None = None) -> RegionStatus:
    """How far the region in a folder is, of all its scenes or of those that are `planned`.

    Of scenes that are over their small state file is enough; the others' folders are read.
    """
    folder = RegionFolder(path)
    known = [file.stem for file in (path / "scenes").glob("*.json")]
    runs, counts, failed = [], Counter[str](), []
    for name in sorted(known if planned is None else {*known} & {*planned}):
        state = folder.state(name)
        if state is None or (state.state not in (*OVER, "failed")):
            run = run_status_of(folder.run(name).path)
            runs += [] if run is None else [run]
            begins = is_held(path / "scenes" / f".{name}.lock", None)
            counts[run.state if run else "running" if begins else "stopped"] += 1
            continue
        counts[state.state] += 1
        failed += [_failure(state)] if state.state in ("failed", "quarantined") else []
    begun = sum(counts.values())
    if planned is not None:
        counts["waiting"] = len(planned) - begun
    total = begun if planned is None else len(planned)
    return RegionStatus(
        path=path,
        scenes=max(total, sum(folder.read_record().get("counts", {}).values())),
        counts=dict(sorted(counts.items())),
        merged=folder.record.exists(),
        active=tuple(runs),
        failed=tuple(failed),
    )


def _failure(state: SceneState) -> str:
    told = state.reason or f"{state.facts.get('quarantined', '?')} chunks set aside"
    return f"{state.scene_id}: {state.state}, {told}"
