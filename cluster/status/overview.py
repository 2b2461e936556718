"""All the work that lies in some folders, as a list: what runs, what stopped, what is done."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from . import Status, status
from .lock import Holder
from .region import RegionStatus
from .words import without_folders

DEPTH = 2
"""Work is looked for in a folder's folders, and in theirs."""

MOST_FOLDERS = 500
"""That are looked at: a folder of a hundred thousand tiles is no folder of runs."""

_KINDS = {
    "RunStatus": "run",
    "RegionStatus": "region",
    "TrainingStatus": "training",
    "GalleryStatus": "gallery",
    "ChipsStatus": "chips",
    "SearchStatus": "search",
    "StudyStatus": "study",
}


@dataclass(frozen=True)
class Work:
    """How far one piece of work is."""

    name: str
    """Of its folder, from the folder that it was looked for in."""
    kind: str
    state: str
    running: bool
    """Whether a process holds it now."""
    progress: float | None
    """0-1; None while it is not known."""
    told: str
    """What `aftermap status` says of it; of paths only the last name."""
    seconds_left: float | None
    dashboard: str | None
    """Where the cluster that works on it can be watched."""
    changed_at: float
    """When something in its folder was last put there, in seconds since 1970."""


def overview(folders: Iterable[Path], except_in: Path | None = None) -> list[Work]:
    """The work in some folders and in theirs: first what runs, then the rest, the latest first.

    Only reads, as `status` does. What cannot be read is left out, and so is what is in `except_in`.
    """
    found = {
        place: work for folder in folders for place, work in _works(folder.absolute(), except_in)
    }
    return sorted(found.values(), key=lambda work: (not work.running, -work.changed_at))


def _works(folder: Path, except_in: Path | None) -> Iterator[tuple[Path, Work]]:
    left = [(folder, 0)]
    for _ in range(MOST_FOLDERS):
        if not left:
            return
        place, depth = left.pop(0)
        found = None if place == except_in else _found(place, folder)
        if found is not None:
            yield place, found
        elif depth < DEPTH and place != except_in:
            left += [(inner, depth + 1) for inner in _folders(place)]


def _found(place: Path, folder: Path) -> Work | None:
    """The work in a folder; None where there is none, and for what is not ours."""
    try:
        found = status(place)
        # Other folders, too, have a folder `scenes` in them.
        if isinstance(found, RegionStatus) and not found.scenes:
            return None
        return _work(found, folder, place)
    except Exception:  # whatever those who read a status stumble over in a stranger's file
        return None


def _folders(place: Path) -> list[Path]:
    try:
        with os.scandir(place) as entries:
            names = [
                e.name for e in entries if e.name[0] != "." and e.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return []
    return [place / name for name in sorted(names)]


def _work(found: Status, folder: Path, place: Path) -> Work:
    name = str(place.relative_to(folder.parent if place == folder else folder))
    return Work(
        name=name,
        kind=_KINDS[type(found).__name__],
        state=found.state,
        running=found.state in ("running", "finishing"),
        progress=found.progress,
        told=without_folders("\n".join(found.text().splitlines()[1:])),
        seconds_left=getattr(found, "seconds_left", None),
        dashboard=next(filter(None, map(_dashboard, _holders(found))), None),
        changed_at=_changed(place),
    )


def _changed(place: Path) -> float:
    try:
        return place.stat().st_mtime
    except OSError:
        return 0.0


def _holders(found: Status) -> list[Holder | None]:
    if isinstance(found, RegionStatus):
        return [run.holder for run in found.active if run.running]
    return [found.holder] if found.running else []


def _dashboard(holder: Holder | None) -> str | None:
    """Its address; of another machine's loopback with the way there."""
    if holder is None or holder.dashboard is None:
        return None
    parts = urlsplit(holder.dashboard)
    if parts.hostname != "127.0.0.1" or holder.host == socket.gethostname():
        return holder.dashboard
    return f"{holder.dashboard} (after ssh -L {parts.port}:127.0.0.1:{parts.port} {holder.host})"
