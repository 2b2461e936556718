"""Masks from polygons: a pixel belongs to a polygon if its centre lies inside."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import shapely
from rasterio.features import rasterize

from ...scenes.errors import Refused
from ...scenes.layer import NOT_ANALYSED
from ...scenes.places import Label
from ..metrics import DAMAGED

MOST_PIXELS = 1 << 26
"""Of a mask; chips are small, and a size may come from a file that was made to do harm."""

_FAR = 1e6
"""Pixels; GDAL counts rows in 32 bits."""


def blank(size: tuple[int, int], where: str) -> np.ndarray:
    """A mask of background, uint8 (h, w); raises Refused, naming `where`, for absurd sizes."""
    height, width = size
    if min(size) <= 0 or height * width > MOST_PIXELS:
        raise Refused(
            f"{where} says that its image is {width} × {height} px; chips have up to "
            f"{MOST_PIXELS >> 20} Mpx. Give --data chips that are cut from it."
        )
    return np.zeros(size, np.uint8)


def burn(mask: np.ndarray, shapes: Iterable[shapely.Geometry], code: int) -> None:
    """Write a code where polygons are, in place; x right and y down from the mask's corner, px.

    Holes stay as they are.
    """
    frame = shapely.box(-_FAR, -_FAR, _FAR, _FAR)
    near = [shape for shape in shapes if frame.contains(shapely.box(*shape.bounds))]
    if near:
        rasterize(near, out=mask, default_value=code)


def label_of(codes: frozenset[int]) -> Label:
    """What the codes of a mask say of its place: damaged, intact, or nothing if 255 is among them."""
    if codes & set(DAMAGED):
        return "damaged"
    return "" if NOT_ANALYSED in codes else "intact"
