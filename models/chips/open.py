"""The door to chips: a folder of any layout that is known, read and checked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ...scenes.errors import Refused
from ...scenes.places import TABLE
from .chipset import ChipSet, coded
from .coco import read_coco
from .folders import FOLDERS, read_folders
from .ours import IMAGES, read_ours
from .xbd import read_challenge

Reader = Callable[[Path], ChipSet | None]

READERS: tuple[tuple[Reader, bool], ...] = (
    (read_ours, True),
    (read_challenge, True),
    (read_coco, True),
    (read_folders, False),
)
"""Each gives the chips of a folder, or None if the layout is not its own; and whether masks of that
layout hold damage codes for certain. Otherwise 0/1 and 0/255 may mean undamaged and damaged."""


def open_chips(root: str | os.PathLike[str], classes: int) -> ChipSet:
    """The chips of a folder, their masks scanned and coded for `classes` (1 or 5; see `coded`).

    Raises Refused for a folder of no known layout, for incomplete ones, and for masks that hold
    other values.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise Refused(f"There is no folder {folder}. Change --data.")
    if (folder / TABLE).exists() and not (folder / IMAGES).exists():
        raise Refused(
            f"{folder} holds {TABLE} but no {IMAGES}: its chips were not finished. Run the same "
            f"`aftermap chips` again, or change --data."
        )
    for read, certain in READERS:
        chips = read(folder)
        if chips is not None:
            found = coded(chips, classes)
            return ChipSet(found.records, "codes", found.source) if certain else found
    raise Refused(
        f"{folder} is no folder of chips: it needs what `aftermap chips` writes, xBD's images/ and "
        f"labels/, or the folders {' or '.join('/, '.join(names) + '/' for names in FOLDERS)}. "
        f"Change --data."
    )
