"""How far the gallery of a folder of photos is, and how far a set of chips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...models.photos.decode import is_photo
from ..folder import RunFolder
from ..gallery.folder import GalleryFolder
from .lock import Holder, by, held_by
from .run import read_record
from .words import AGAIN, share


@dataclass(frozen=True)
class GalleryStatus:
    """How far a gallery is."""

    path: Path
    state: str
    """running, stopped (killed or interrupted) or done."""
    scored: int
    """Photos whose scores are kept."""
    photos: int
    """Of the folder; until it is done all that are photos by their names, of which some may be
    unreadable. 0: their folder is gone."""
    unreadable: int | None
    """Known once it is done."""
    holder: Holder | None

    def text(self) -> str:
        """A few lines for the terminal."""
        about = "" if self.state == "done" else ", unreadable ones among them"
        lines = [f"{self.path}", f"state      {self.state}{by(self.holder, self.running)}"]
        lines.append(f"scored     {share(self.scored, self.photos)}{about}")
        if self.state == "done":
            lines.append(f"page       {self.path / 'gallery.html'}")
            if self.unreadable:
                lines.append(f"unreadable {self.unreadable}; photos.csv says why")
        else:
            lines.append("left       scores of the others, then maps, table and page")
        return "\n".join([*lines, AGAIN] if self.state == "stopped" else lines)

    @property
    def progress(self) -> float | None:
        """How much of it is done, 0-1; None while that is not known."""
        return self.scored / self.photos if self.photos else None

    @property
    def running(self) -> bool:
        """Whether a process works on it now."""
        return self.state == "running"


def gallery_status(path: Path) -> GalleryStatus | None:
    """How far the gallery in a folder is; None where there is none."""
    folder = GalleryFolder(path)
    record = read_record(folder)
    if record is None:
        return None
    state, holder = _state(folder, record)
    scored = sum(len(file.read_bytes().splitlines()) for file in folder.scores.glob("[!.]*.csv"))
    result = record.get("result") or {}
    if state == "done":
        photos, unreadable = int(result["photos"]), int(result["unreadable"])
        return GalleryStatus(path, state, photos, photos, unreadable, None)
    source = Path(str(record.get("facts", {}).get("photos", "")))
    known = source.is_absolute() and source.is_dir()
    photos = sum(is_photo(file) for file in source.rglob("*")) if known else 0
    return GalleryStatus(path, state, scored, photos, None, holder)


@dataclass(frozen=True)
class ChipsStatus:
    """How far a set of chips is."""

    path: Path
    state: str
    """running, stopped (killed or interrupted, or screened in a dry run), done, or quarantined (done,
    with images that cannot be read)."""
    step: str
    """screening, writing, or nothing where it is over."""
    screened: int
    """Pieces of images whose patches were judged."""
    holder: Holder | None

    def text(self) -> str:
        """A few lines for the terminal."""
        step = f", {self.step}" if self.step else ""
        lines = [f"{self.path}", f"state      {self.state}{step}{by(self.holder, self.running)}"]
        lines.append(f"screened   {self.screened} pieces of images")
        return "\n".join([*lines, AGAIN] if self.state == "stopped" else lines)

    @property
    def progress(self) -> float | None:
        """How much of it is done: not known before the end."""
        return 1.0 if self.state in ("done", "quarantined") else None

    @property
    def running(self) -> bool:
        """Whether a process works on it now."""
        return self.state == "running"


@dataclass(frozen=True)
class _Chips(RunFolder):
    """As `chips.folder.ChipsFolder`, which would take torch's seconds to import."""

    @property
    def record(self) -> Path:
        return self.path / "chips.json"


def chips_status(path: Path) -> ChipsStatus | None:
    """How far the chips in a folder are; None where there are none."""
    folder = _Chips(path)
    record = read_record(folder)
    if record is None:
        return None
    state, holder = _state(folder, record)
    over = state in ("done", "quarantined")
    step = "" if over else "writing" if "plan" in record else "screening"
    screened = sum(file.is_file() for file in (path / ".screens").glob("*"))
    return ChipsStatus(path, state, step, screened, holder)


def _state(folder: RunFolder, record: Mapping[str, Any]) -> tuple[str, Holder | None]:
    """The state of what a folder holds, and who has it or had it last."""
    held, holder = held_by(folder.path)
    if held:
        return "running", holder
    recorded = str(record.get("state"))
    return (recorded, None) if recorded in ("done", "quarantined") else ("stopped", holder)
