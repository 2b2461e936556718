"""What the names of folders and files say of photos: damage, town and part."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeVar

from ...scenes.errors import Refused

DAMAGED = frozenset({"damage", "damaged", "mild", "severe"})
"""Folders of photos that show damage, in small letters, without numbers and signs."""

INTACT = frozenset(
    {"nodamage", "nodamaged", "nondamage", "nondamaged", "notdamaged", "undamaged", "intact"}
    | {"none", "littleornone"}
)
"""Folders of photos that show none."""

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""Folders of the parts of a data set, and suffixes of DAD's lists."""

_CLASS = ("undamaged", "damaged")
"""By whether a photo shows damage."""

_DAD = re.compile(r"(?P<event>.+)_(?P<degree>none|mild|severe)_im_\d+", re.IGNORECASE)
"""Names of DAD, without the suffix: `<event>_<none|mild|severe>_im_<n>`."""


_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Told:
    """What a photo's name says."""

    damaged: bool | None = None
    town: str = ""
    split: str = ""


def told_by(relative: PurePath) -> Told:
    """What the path of a photo within its data set says of it.

    Folders may be classes, parts, and towns or events, one in another in any order; what is neither
    class nor part is the town's, joined by slashes. Where no folder says whether a photo shows
    damage, or from where it is, a name as in DAD does. Raises Refused where two folders contradict
    each other.
    """
    words = {part: _word(part) for part in relative.parts[:-1]}
    classes = {_CLASS[word in DAMAGED] for word in words.values() if word in DAMAGED | INTACT}
    shown = _only(classes, relative)
    damaged = None if shown is None else shown == _CLASS[True]
    split = _only({SPLITS[word] for word in words.values() if word in SPLITS}, relative)
    known = DAMAGED | INTACT | SPLITS.keys()
    town = "/".join(part for part, word in words.items() if word not in known)
    named = _DAD.fullmatch(relative.stem)
    if named:
        town = town or named["event"]
        if damaged is None:
            damaged = named["degree"].lower() != "none"
    return Told(damaged, town, split or "")


def _word(folder: str) -> str:
    """A folder's name as a word: "1.damage" is damage, "no_damage" nodamage."""
    return re.sub(r"[^a-z]", "", folder.lower())


def _only(found: set[_Value], relative: PurePath) -> _Value | None:
    if len(found) > 1:
        raise Refused(
            f"The folders of {relative} contradict each other: it cannot be "
            f"{' and '.join(sorted(map(str, found)))} at once. Rename them, or change --data."
        )
    return next(iter(found), None)
