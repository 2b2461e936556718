"""How far a run or a region is, from what lies in its folder; nothing is written or held up."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..scenes.errors import Refused
from ..scenes.store import LAST
from .folder import RunFolder
from .regions.folder import OVER, RegionFolder, SceneState

STATE = "state.safetensors"
"""`models.state.NAME`; to import it from there would take torch's seconds."""


@dataclass(frozen=True)
class Holder:
    """Who has a run folder."""

    host: str
    pid: int
    since: str

    def text(self) -> str:
        """As told to a person."""
        return f"process {self.pid} on {self.host} since {self.since}"


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

    def text(self) -> str:
        """A few lines for the terminal."""
        share = f" ({100 * self.done / self.chunks:.0f} %)" if self.chunks else ""
        lines = [f"{self.path}", f"state      {self.state}{self.held()}"]
        lines.append(f"chunks     {self.done} of {self.chunks or 'an unknown number'}{share}")
        if self.chunks_per_minute is not None:
            lines.append(f"rate       {_rate(self.chunks_per_minute, self.mpx_per_s)}")
        if self.seconds_left is not None:
            lines.append(f"left       {clock(self.seconds_left)}")
        if self.idle_s is not None and self.state in ("running", "stopped"):
            lines.append(f"last chunk {clock(self.idle_s)} ago")
        lines += listed("set aside", self.quarantined, 10, 10)
        if self.note:
            lines.append(f"note       {self.note}")
        if self.state == "stopped":
            lines.append("Run the same command again to go on from here.")
        return "\n".join(lines)

    def held(self) -> str:
        """Who holds it, or held it last; empty where nobody is known."""
        if self.holder is None:
            return ""
        return f", {self.holder.text()}" if self.running else f", left by {self.holder.text()}"

    @property
    def running(self) -> bool:
        """Whether a process works on it now."""
        return self.state in ("running", "finishing")


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
                f"  {run.path.name}: {run.state}{run.held()}, {run.done}/{run.chunks} chunks{left}"
            )
        lines += [f"  {entry}" for entry in self.failed[:20]]
        rest = max(len(self.active) - 20, 0) + max(len(self.failed) - 20, 0)
        return "\n".join(lines + ([f"  and {rest} more"] if rest else []))

    @property
    def running(self) -> bool:
        """Whether a process works on any scene now."""
        return any(run.running for run in self.active)


@dataclass(frozen=True)
class TrainingStatus:
    """How far a training is: what its state file says after each epoch."""

    path: Path
    epochs: int
    done: int
    best: float | None
    """Best validation score."""
    idle_s: float
    """Seconds since the last epoch was written."""

    def text(self) -> str:
        """A few lines for the terminal."""
        best = "" if self.best is None else f", best score {self.best:.4f}"
        return "\n".join(
            [f"{self.path}", f"epochs     {self.done} of {self.epochs}{best}",
             f"last epoch {clock(self.idle_s)} ago"]
        )  # fmt: skip

    @property
    def running(self) -> bool:
        """Whether there are epochs to come; a training holds no lock that would tell more."""
        return self.done < self.epochs


Status = RunStatus | RegionStatus | TrainingStatus


def status(path: str | Path) -> Status:
    """How far the run, region or training in a folder is; of a region file, also what waits.

    Only reads: the run is neither held up nor asked. Raises Refused where there is neither.
    """
    folder = Path(path)
    if folder.suffix == ".toml":
        return _planned_status(folder)
    if (folder / "scenes").is_dir():
        return _region_status(folder)
    found = _run_status(folder) or _training_status(folder)
    if found is None:
        raise Refused(
            f"{folder} holds no run, no region and no training: there is no run.json, no lock, no "
            "scenes/ and no training state. Give the folder that was given with -o; a job that waits "
            "in the queue has not begun one yet."
        )
    return found


def run_status(path: Path, as_json: bool, watch: bool, every: float = 5.0) -> None:
    """Carry out `aftermap status`: print once, or again and again until nothing runs any more."""
    while True:
        found = status(path)
        print(json.dumps(told(found)) if as_json else found.text(), flush=True)
        if not watch or not found.running:
            return
        time.sleep(every)
        if not as_json:
            print()


def told(found: Status) -> dict[str, Any]:
    """A status as plain JSON values."""
    return {"running": found.running, **json.loads(json.dumps(asdict(found), default=str))}


def listed(head: str, entries: Sequence[str], most: int, width: int) -> list[str]:
    """The first entries as lines after a head of some width, and how many more there are."""
    lines = [f"{head:<{width}} {entry}" for entry in entries[:most]]
    more = len(entries) - most
    return [*lines, f"{'':<{width}} and {more} more"] if more > 0 else lines


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _run_status(path: Path) -> RunStatus | None:
    folder = RunFolder(path)
    record = _record(folder)
    holder = _holder(path)
    held = _held(path / ".lock", holder)
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
    )


def _training_status(folder: Path) -> TrainingStatus | None:
    """From the header of the state file alone, which is replaced whole."""
    file = folder / STATE
    try:
        with file.open("rb") as state:
            head = json.loads(state.read(int.from_bytes(state.read(8), "little")))
            written = os.fstat(state.fileno()).st_mtime
        note = json.loads(head["__metadata__"]["aftermap"])
        epochs, progress = note["config"]["epochs"], note["progress"]
    except (OSError, ValueError, KeyError):
        return None
    idle = max(time.time() - written, 0)
    return TrainingStatus(folder, epochs, progress["epoch"], progress["best"], idle)


def _planned_status(file: Path) -> RegionStatus:
    """A region from its file, which tells how many scenes there are to be."""
    from .regions.file import read_region_file
    from .regions.region import (
        prepare_region,  # torch and the catalogs, which a folder does not need
    )

    region = read_region_file(file)
    pairs = prepare_region(replace(region, cluster="local", workers=None)).pairing.pairs
    return _region_status(region.out, [pair.scene_id for pair in pairs])


def _region_status(path: Path, planned: list[str] | None = None) -> RegionStatus:
    """Of scenes that are over their small state file is enough; the others' folders are read."""
    folder = RegionFolder(path)
    known = [file.stem for file in (path / "scenes").glob("*.json")]
    runs, counts, failed = [], Counter[str](), []
    for name in sorted(known if planned is None else {*known} & {*planned}):
        state = folder.state(name)
        if state is None or (state.state not in (*OVER, "failed")):
            run = _run_status(folder.run(name).path)
            runs += [] if run is None else [run]
            begins = _held(path / "scenes" / f".{name}.lock", None)
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


def _record(folder: RunFolder) -> dict[str, Any] | None:
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


def _holder(path: Path) -> Holder | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        owner = json.loads((path / ".owner").read_text())
        return Holder(str(owner["host"]), int(owner["pid"]), str(owner["since"]))
    return None


def _held(lock: Path, holder: Holder | None) -> bool:
    """Whether a living process holds a lock.

    The kernel's table tells it without touching the lock. A lock held on another machine is not in
    it, so where the owner says it is there, the lock is tried, shared and without waiting: that
    fails while it is held, and is undone at once where not.
    """
    try:
        handle = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        found = os.fstat(handle)
        listed = _listed(found, holder)
        if listed is not None and (listed or holder is None or holder.host == socket.gethostname()):
            return listed
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(handle, fcntl.LOCK_UN)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _listed(file: os.stat_result, holder: Holder | None) -> bool | None:
    """Whether this machine's kernel knows of a lock on a file; None where it cannot be asked."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    place = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    for line in lines:
        words = line.split()
        if len(words) < 8 or "->" in words:  # the latter only waits for a lock
            continue
        pid, where = words[-4:-2]
        # Layered file systems tell another device here; process and file number are then enough.
        same = where.rpartition(":")[2] == str(file.st_ino)
        if where == place or (same and holder is not None and pid == str(holder.pid)):
            return True
    return False


def _rate(per_minute: float, mpx: float | None) -> str:
    return f"{per_minute:.1f} chunks/min" + (f", {mpx:.2f} Mpx/s" if mpx else "")
