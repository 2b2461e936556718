"""The folders of xBD: which files belong to which tile, in all layouts it is handed out in."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ...scenes.errors import Refused
from .names import XBD
from .picture import is_image

When = Literal["pre", "post"]

TRAINING = ("train", "tier3")
HELD_OUT = ("test", "hold")
"""The folders of the challenge: those to learn from, and those to be judged by."""

NUMBERED = re.compile(r"(?P<set>test|hold)_(?P<when>pre|post)_(?P<number>\d+)")
"""Names that the challenge first gave to images whose disaster it did not tell, without suffix."""

_TARGET_WORDS = {"pre": "localization", "post": "damage"}


@dataclass(frozen=True)
class XbdTile:
    """One tile: its two images, and what says where buildings are."""

    outer: Path
    """The folder in which images/ and labels/ or targets/ lie."""
    name: str
    """What the names of its files have in common: `<disaster>_<8 digits>`, or `test_00000`."""
    prefix: str
    """What `outer` adds to make names unique: `train/`; empty where it is the data's own folder."""
    images: dict[When, Path] = field(default_factory=dict)

    @property
    def disaster(self) -> str:
        """The disaster by the name; `test` or `hold` where the name does not tell."""
        return self.name.rpartition("_")[0]

    def label(self, when: When) -> Path:
        """Where its label is, if it has one."""
        return self.outer / "labels" / f"{self.images[when].stem}.json"

    def target(self, when: When) -> Path:
        """Where its target is, if it has one."""
        return self.outer / "targets" / f"{target_stem(self.images[when].stem)}.png"


def target_stem(stem: str) -> str:
    """The name of an image's target, both without suffix."""
    found = NUMBERED.fullmatch(stem)
    if found:
        return f"{found['set']}_{_TARGET_WORDS[found['when']]}_{found['number']}_target"
    return f"{stem}_target"


def find_tiles(root: Path) -> dict[Path, list[XbdTile]]:
    """The tiles in a folder's images/, and in those of each folder in it, by outer folder.

    Tiles may lack one of their images. Raises Refused where an image is there twice.
    """
    found: dict[Path, list[XbdTile]] = {}
    for outer in _outers(root):
        tiles = list(_tiles(outer, "" if outer == root else f"{outer.name}/"))
        if tiles:
            found[outer] = tiles
    return found


def labelled_by(outer: Path) -> list[str]:
    """Which of labels/ and targets/ an outer folder has; a tile of it needs a file in one of them."""
    return [name for name in ("labels", "targets") if (outer / name).is_dir()]


def stray_labels(outer: Path, tiles: list[XbdTile]) -> list[Path]:
    """Labels of an outer folder whose image is not there."""
    known = {image.stem for tile in tiles for image in tile.images.values()}
    folder = outer / "labels"
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [f for f in files if f.suffix == ".json" and _parsed(f.stem) and f.stem not in known]


def parts_of(names: list[str]) -> dict[str, str]:
    """The part of the main training that each of the challenge's folders is; none where all are alike.

    With test/ and hold/ the first is for validation and the second for testing, which is what
    they were for in the challenge; the only one of them is for validation.
    """
    training = [name for name in TRAINING if name in names]
    held = [name for name in HELD_OUT if name in names]
    if not training or not held:
        return {}
    return dict.fromkeys(training, "train") | dict(zip(held, ("validation", "test"), strict=False))


def _outers(root: Path) -> Iterator[Path]:
    """The folder itself and those in it; the challenge's parts, or a folder per disaster."""
    if root.is_dir():
        yield root
        yield from sorted(path for path in root.iterdir() if path.is_dir())


def _tiles(outer: Path, prefix: str) -> Iterator[XbdTile]:
    images: dict[str, dict[When, Path]] = defaultdict(dict)
    folder = outer / "images"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        found = _parsed(path.stem)
        if found and is_image(path):
            name, when = found
            if when in images[name]:
                raise Refused(
                    f"{path} and {images[name][when].name} are the same image twice. Remove one "
                    f"of them."
                )
            images[name][when] = path
    for name, own in images.items():
        yield XbdTile(outer, name, prefix, own)


def _parsed(stem: str) -> tuple[str, When] | None:
    """The tile and the date that a name tells."""
    found = XBD.fullmatch(stem)
    if found:
        return found["tile"], "pre" if found["when"] == "pre" else "post"
    found = NUMBERED.fullmatch(stem)
    if found:
        return f"{found['set']}_{found['number']}", "pre" if found["when"] == "pre" else "post"
    return None
