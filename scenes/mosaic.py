"""The grid on which tiles of one scene lie together."""

from __future__ import annotations

import math
from collections.abc import Sequence

from affine import Affine
from odc.geo.geobox import GeoBox

ALIGNED = 1e-4
"""Largest distance from a whole pixel, px, at which a tile still counts as lying on a grid."""


def mosaic_grid(grids: Sequence[GeoBox]) -> GeoBox:
    """The north-up grid that holds all tiles, on the first tile's pixels where it is north-up."""
    first = grids[0]
    upright = first.affine.b == first.affine.d == 0 and first.affine.a > 0 > first.affine.e
    if len(grids) == 1 and upright:
        return first
    if upright:
        anchor, step = first.affine * (0, 0), (first.affine.a, -first.affine.e)
    else:
        box = first.extent.boundingbox
        step = (
            math.hypot(first.affine.a, first.affine.d),
            math.hypot(first.affine.b, first.affine.e),
        )
        anchor = (box.left, box.top)
    boxes = [grid.extent.to_crs(first.crs, resolution="auto").boundingbox for grid in grids]
    left = math.floor((min(b.left for b in boxes) - anchor[0]) / step[0] + ALIGNED)
    right = math.ceil((max(b.right for b in boxes) - anchor[0]) / step[0] - ALIGNED)
    top = math.floor((anchor[1] - max(b.top for b in boxes)) / step[1] + ALIGNED)
    bottom = math.ceil((anchor[1] - min(b.bottom for b in boxes)) / step[1] - ALIGNED)
    affine = Affine(step[0], 0, anchor[0] + left * step[0], 0, -step[1], anchor[1] - top * step[1])
    return GeoBox((bottom - top, right - left), affine, first.crs)
