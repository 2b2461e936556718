"""What the names of image files tell: which place they show, at which date, and where it lies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from ...scenes.ard import ArdCell
from ...scenes.patches import SIZE, PatchGrid, ard_grid
from ...scenes.places import Box

STUDY = re.compile(
    r"(?P<quadkey>[0-3]+)_(?P<date>\d{4}-\d\d-\d\d)_(?P<image>\w+)-visual_(?P<i>\d+)"
)
"""Names of the patches of paper 001: quadkey, date, acquisition and number of the patch in its tile."""

XBD = re.compile(r"(?P<tile>(?P<disaster>.+)_\d{8})_(?P<when>pre|post)_disaster(_target)?")
"""Names of the tiles of xBD, without suffix."""

ARD_CRS = 'LOCAL_CS["Maxar tiles of a UTM zone that the name does not tell",UNIT["metre",1]]'
"""Coordinates from the crossing of a zone's meridian and the equator, the same for all zones."""

_PLACE = re.compile(r"(?P<quadkey>[0-3]{12})_(?P<i>\d{1,3})")
_LONLAT = re.compile(r"(-?\d{1,3}\.\d{3,})_(-?\d{1,2}\.\d{3,})")
_ABOUT = 5e-4
"""Half the side of a chip that is known by its centre only, degrees: some 50 m."""

_SOUTH = 10_000_000.0
"""What UTM adds to northings south of the equator, m."""


def place_name(stem: str) -> str:
    """What images of one place have in common in their names, without suffix."""
    study = STUDY.fullmatch(stem)
    if study:
        return f"{study['quadkey']}_{int(study['i'])}"
    xbd = XBD.fullmatch(stem)
    return xbd["tile"] if xbd else stem


def is_dated(stem: str) -> bool:
    """Whether a name holds a date, so that a place may have several images."""
    return STUDY.fullmatch(stem) is not None


def grounds(names: Sequence[str]) -> list[tuple[str, Box | None]]:
    """CRS and box of places by their names; empty and None where nothing is known.

    Names that are a longitude and a latitude tell it roughly. Those of paper 001 tell quadkey and
    number among the 17 × 17 patches of a tile, so that column 16 of a tile is the ground of column
    0 of its eastern neighbour. Their zone is not told: box and CRS are as if there were only one.
    Higher numbers are of smaller patches; then nothing is known of any.
    """
    study = [_PLACE.fullmatch(name) for name in names]
    patches = len(_patches("0" * 12))
    counted = all(int(found["i"]) < patches for found in study if found)
    return [
        _of_patch(found["quadkey"], int(found["i"])) if found and counted else _of_lonlat(name)
        for name, found in zip(names, study, strict=True)
    ]


def _of_patch(quadkey: str, number: int) -> tuple[str, Box]:
    west, south, east, north = _patches(quadkey).box(number)
    lower = 0 if quadkey[0] in "01" else _SOUTH
    return ARD_CRS, (west, south - lower, east, north - lower)


def _of_lonlat(name: str) -> tuple[str, Box | None]:
    found = _LONLAT.fullmatch(name)
    if not found:
        return "", None
    lon, lat = float(found[1]), float(found[2])
    return "EPSG:4326", (lon - _ABOUT, lat - _ABOUT, lon + _ABOUT, lat + _ABOUT)


@lru_cache(maxsize=1024)
def _patches(quadkey: str) -> PatchGrid:
    # Any zone will do: all have the same quadtree around their own meridian.
    return PatchGrid(ard_grid(ArdCell(1, quadkey)), SIZE)
