"""How far a run is: its record, its lock and the shards of its store."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...scenes.store import LAST
from ..folder import RunFolder
from .lock import Holder, by, held_by
from .training import TrainingStatus, student_status
from .words import AGAIN, clock, listed, share


@dataclass(frozen=True)
class RunStatus:
    """How far one run is."""

    path: Path
    state: str
    """running, finishing (all chunks done, files being written), stopped (killed or interrupted),
    done, or quarantined (done, with chunks set aside)."""
    chunks: int
    """Chunks of the run; 0 while it is not planned yet."""
    done: int
    """Chunks whose shards are written."""
    chunks_per_minute: float | None
    """Since the present attempt began; only while it runs."""
    mpx_per_s: float | None
    seconds_left: float | None
    """At that rate."""
    idle_s: float | None
    """Seconds since the last chunk was written."""
    attempts: int
    holder: Holder | None
    quarantined: tuple[str, ...]
    note: str | None
    """The last thing the run noted about its inputs."""
    student: TrainingStatus | None = None
    """The training of its weights, where they are fitted to the scene and no chunk is begun."""

    def text(self) -> str:
        """A few lines for the terminal."""
        lines = [f"{self.path}", f"state      {self.state}{by(self.holder, self.running)}"]
        if self.student is not None:
            lines.append(f"student    {self.student.epochs_told()}")
        lines.append(f"chunks     {share(self.done, self.chunks)}")
        if self.chunks_per_minute is not None:
            lines.append(f"rate       {_rate(self.chunks_per_minute, self.mpx_per_s)}")
        if self.seconds_left is not None:
            lines.append(f"left       {clock(self.seconds_left)}")
        if self.idle_s is not None and self.state in ("running", "stopped"):
            lines.append(f"last chunk {clock(self.idle_s)} ago")
        lines += listed("set aside", self.quarantined, 10, 10)
        if self.note:
            lines.append(f"note       {self.note}")
        if self.running and self.holder is not None and self.holder.dashboard is not None:
            lines.append(f"dashboard  {self.holder.dashboard}")
        if self.state == "stopped":
            lines.append(AGAIN)
        return "\n".join(lines)

    @property
    def progress(self) -> float | None:
        """How much of it is done, 0-1; None while that is not known."""
        return self.done / self.chunks if self.chunks else None

    @property
    def running(self) -> bool:
        """Whether a process works on it now."""
        return self.state in ("running", "finishing")


def run_status_of(path: Path) -> RunStatus | None:
    """How far the run in a folder is; None where there is none."""
    folder = RunFolder(path)
    record = read_record(folder)
    held, holder = held_by(path)
    if record is None and not held:
        return None
    record = record or {}
    plan = record.get("plan", {})
    chunks = int(plan.get("chunks", 0))
    written = sorted(_shards(folder.store))
    state = _state(record.get("state"), held, chunks, len(written))
    per_minute = _per_minute(written, path) if held else None
    now = time.time()
    left = chunks - len(written)
    return RunStatus(
        path=path,
        state=state,
        chunks=chunks,
        done=len(written),
        chunks_per_minute=per_minute,
        mpx_per_s=per_minute and per_minute / 60 * plan.get("chunk_px", 0) ** 2 / 1e6,
        seconds_left=left / per_minute * 60 if held and per_minute and left > 0 else None,
        idle_s=round(max(now - written[-1], 0), 1) if written else None,
        attempts=int(record.get("attempts", 0)),
        holder=holder if state not in ("done", "quarantined") else None,
        quarantined=tuple(
            f"chunk {entry.get('chunk')}: {entry.get('reason')}"
            for entry in record.get("quarantined", [])
        ),
        note=next(reversed(record.get("notes", [])), None),
        student=None if chunks else student_status(path),
    )


def read_record(folder: RunFolder) -> dict[str, Any] | None:
    """run.json, which is replaced whole; None where there is none yet."""
    if not folder.record.exists():
        return None
    with suppress(FileNotFoundError):
        return folder.read()
    return None


def _state(recorded: str | None, held: bool, chunks: int, done: int) -> str:
    if held:
        return "finishing" if chunks and done >= chunks else "running"
    return recorded if recorded in ("done", "quarantined") else "stopped"


def _shards(store: Path) -> Iterator[float]:
    """When each chunk's last shard was written; Zarr puts one into its place whole."""
    with suppress(FileNotFoundError):
        for row in os.scandir(store / LAST / "c"):
            with suppress(FileNotFoundError, NotADirectoryError):
                for shard in os.scandir(row.path):
                    if shard.name.isdigit():
                        yield shard.stat().st_mtime


def _per_minute(written: list[float], path: Path) -> float | None:
    """Chunks per minute since the present attempt began."""
    with suppress(OSError):
        begun = (path / ".owner").stat().st_mtime
        recent = sum(at >= begun for at in written)
        return recent / max(time.time() - begun, 1) * 60 if recent else None
    return None


def _rate(per_minute: float, mpx: float | None) -> str:
    return f"{per_minute:.1f} chunks/min" + (f", {mpx:.2f} Mpx/s" if mpx else "")
