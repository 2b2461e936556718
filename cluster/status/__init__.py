"""How far whatever works long is, from what lies in its folder; nothing is written or held up."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...scenes.errors import Refused
from .experiment import SearchStatus, StudyStatus, search_status, study_status
from .gallery import ChipsStatus, GalleryStatus, chips_status, gallery_status
from .region import RegionStatus, planned_status, region_status
from .run import RunStatus, run_status_of
from .training import STATE, TrainingStatus, student_status, training_status
from .words import clock, listed

__all__ = [
    "STATE", "ChipsStatus", "GalleryStatus", "RegionStatus", "RunStatus", "SearchStatus", "Status",
    "StudyStatus", "TrainingStatus", "clock", "listed", "run_status", "status", "told",
]  # fmt: skip

Status = (
    RunStatus
    | RegionStatus
    | TrainingStatus
    | GalleryStatus
    | ChipsStatus
    | SearchStatus
    | StudyStatus
)


def status(path: str | Path) -> Status:
    """How far the work in a folder is: a run, region, training, gallery, set of chips, search or study.

    Of a region file, also what waits. Of a run whose student is still trained, how far that is. Only
    reads: the work is neither held up nor asked. Raises Refused where there is none.
    """
    folder = Path(path)
    if folder.suffix == ".toml":
        return planned_status(folder)
    found: Status | None = search_status(folder) or study_status(folder)
    if found is None and (folder / "scenes").is_dir():
        return region_status(folder)
    found = (
        found
        or gallery_status(folder)
        or chips_status(folder)
        or training_status(folder)
        or run_status_of(folder)
        or student_status(folder)
    )
    if found is None:
        raise Refused(
            f"{folder} holds no run, no region, no training, no gallery, no chips, no search and no "
            "study: none of the files is there that these begin with. Give the folder that was given "
            "with -o; a job that waits in the queue has not begun one yet."
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
