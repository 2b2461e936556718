"""Chips of the xBD data set as its challenge hands it out: images, and labels as JSON."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...scenes.errors import Refused
from ...scenes.left_out import LeftOut
from ...scenes.places import Place
from ...scenes.xbd_ground import ground
from .chipset import After, ChipSet, Record
from .picture import FilePicture
from .polygons import label_of
from .xbd_layout import XbdTile, find_tiles, labelled_by, parts_of
from .xbd_targets import XbdMask, drawn
from .xbd_tile import Unusable, examine

_log = logging.getLogger(__name__)


def read_challenge(root: Path) -> ChipSet | None:
    """The tiles of a folder with images/ and labels/ or targets/, or of such folders in it.

    None if there are none. Masks are drawn from the labels after the event; where there is none, the
    target is taken. Where train/ or tier3/ lies beside test/ or hold/ these are the parts:
    test/ for validation and hold/ for testing, or for validation the only one of the two; those
    without labels/ and targets/ do not count. Otherwise tiles belong to no part, and are divided by
    their ground.

    Places are labelled damaged where a level of 2 to 4 is, intact where neither that nor 255 is.
    Those whose ground is not known (the labels of a tile without buildings do not tell) are kept
    together by disaster. Tiles that cannot be used are left out, and a warning is logged. Raises
    Refused where none is left, and where an image is there twice.
    """
    found = find_tiles(root)
    if not found:
        return None
    parts = parts_of([outer.name for outer in found if outer != root and labelled_by(outer)])
    records: list[Record] = []
    left_out = LeftOut()
    for outer, tiles in found.items():
        split = parts.get(outer.name, "") if outer != root else ""
        for tile in tiles:
            try:
                records.append(_record(tile, split))
            except Unusable as error:
                left_out.add(error.reason, tile.prefix + error.file, "tile")
    if not records:
        raise Refused(f"No tile of {root} can be used: {_told(left_out)}. Give --data other chips.")
    if len(left_out):
        _log.warning("Left out of %s: %s.", root, _told(left_out))
    return ChipSet(records, source=str(root))


def _record(tile: XbdTile, split: str) -> Record:
    seen = examine(tile)
    post = FilePicture(tile.images["post"])
    pres = (FilePicture(tile.images["pre"]),)
    place = Place(tile.prefix + tile.name, group=tile.disaster, split=split)
    if seen.after is None:
        mask = None if seen.target is None else FilePicture(seen.target)
        return Record(place, pres, (After(post, mask),))
    values = frozenset(np.unique(drawn(seen.after)).tolist())
    place = replace(place, label=label_of(values))
    if (box := ground(seen.after)) is not None:
        place = replace(place, crs="EPSG:4326", box=box, group="")
    return Record(place, pres, (After(post, XbdMask(tile.label("post"), seen.size)),), values)


def _told(left_out: LeftOut) -> str:
    return "; ".join(left_out.lines())
