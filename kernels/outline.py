"""Outlines of labelled pixels as polygons, traced from the corners alone.

A corner is a lattice point at which the border between inside and outside turns. Along a lattice
row the corners pair up as the ends of horizontal border runs, along a column as those of vertical
ones; following both in turn gives the rings. Where two pixels meet only diagonally the border
passes a point twice; the rings are parted there so that every polygon is valid.
"""

from __future__ import annotations

import cc3d
import numpy as np
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# The four pixels around a lattice point, as bits.
_NW, _NE, _SW, _SE = 1, 2, 4, 8
_STRAIGHT = (0, _NW | _NE, _SW | _SE, _NW | _SW, _NE | _SE, 15)
_TURNS = np.ones(16, bool)
_TURNS[list(_STRAIGHT)] = False
_TOUCH = np.zeros(16, bool)
_TOUCH[[_NW | _SE, _NE | _SW]] = True


def outlines(labels: np.ndarray, total: int) -> np.ndarray:
    """The outline of each 8-connected label 1 to `total` as a canonical MultiPolygon.

    `labels` is an integer raster (h, w) in which different labels do not touch, not even in a
    corner. Polygons follow pixel edges in pixel coordinates (x the column, y the row) and are the
    4-connected parts of a label; holes are kept, and vertices are corners only.
    """
    if not total:
        return np.zeros(0, object)
    xy, ends, pixel = _rings(labels > 0)
    polygons, owner = _polygons(labels, xy, ends, pixel)
    order = np.argsort(owner, kind="stable")
    return shapely.normalize(shapely.multipolygons(polygons[order], indices=owner[order]))


def _rings(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All border rings of a mask, inside on the right hand.

    Returns vertices (n, 2) closed ring by ring, the offsets of the rings (rings + 1), and for each
    ring the flat index of a pixel inside the mask that it borders.
    """
    x, y, kind, second = _corners(mask)
    following = _followers(x, y, kind, second)
    ring = _cycles(following)
    # The border passes some points twice. If one ring does, both pixels there are one polygon:
    # exchanging the ways out parts the ring into an outline and a hole, or into two holes.
    first = np.flatnonzero(_TOUCH[kind] & ~second)
    first = first[ring[first] == ring[first + 1]]
    following[first], following[first + 1] = following[first + 1], following[first]
    ring = _cycles(following) if len(first) else ring
    order = _walk(following, ring)
    ring = ring[order]
    starts = np.flatnonzero(np.append(True, ring[1:] != ring[:-1]))
    corners = np.column_stack([x, y])[order]
    lengths = np.diff(np.append(starts, len(ring)))
    closed = np.insert(corners, starts + lengths, corners[starts], axis=0).astype(np.float64)
    ends = np.concatenate([[0], np.cumsum(lengths + 1)])
    pixel = _pixel_inside(x, y, kind, second, mask.shape[1])[order][starts]
    return closed, ends, pixel


def _corners(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Corners in row-major order: x, y, the pixels around as bits, and whether it is a second.

    A point where pixels meet diagonally is two corners: first the one with the border to the left.
    """
    padded = np.pad(mask.view(np.uint8), 1)
    around = padded[:-1, :-1] | padded[:-1, 1:] << 1 | padded[1:, :-1] << 2 | padded[1:, 1:] << 3
    at = np.flatnonzero(_TURNS[around])
    kind = around.ravel()[at]
    twice = 1 + _TOUCH[kind]
    at, kind = np.repeat(at, twice), np.repeat(kind, twice)
    second = np.zeros(len(at), bool)
    second[1:] = at[1:] == at[:-1]
    y, x = np.divmod(at, around.shape[1])
    return x, y, kind, second


def _followers(x: np.ndarray, y: np.ndarray, kind: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The corner that follows each corner along the border, inside on the right hand."""
    following = np.empty(len(x), np.int64)
    # In row-major order every even corner begins a run that the next one ends.
    left = np.arange(0, len(x), 2)
    inside_below = kind[left] & _SE > 0
    _link(following, left, left + 1, inside_below)
    # The same down the columns; at a double corner the one with the border above comes first.
    border_below = np.where(kind == _NW | _SE, second, ~second) & _TOUCH[kind]
    down = np.lexsort((border_below, y, x))
    above, below = down[0::2], down[1::2]
    inside_left = kind[above] & _SW > 0
    _link(following, above, below, inside_left)
    return following


def _link(following: np.ndarray, one: np.ndarray, other: np.ndarray, forwards: np.ndarray) -> None:
    """Let the border run from `one` to `other` where `forwards`, else back."""
    following[one[forwards]] = other[forwards]
    following[other[~forwards]] = one[~forwards]


def _cycles(following: np.ndarray) -> np.ndarray:
    """The number of the ring that each corner is on."""
    size = len(following)
    links = (np.ones(size, bool), (np.arange(size), following))
    return connected_components(coo_array(links, (size, size)), directed=False)[1]


def _walk(following: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """Corners ordered ring by ring, and along each ring."""
    size = len(following)
    _, first = np.unique(ring, return_index=True)
    # Steps to the end of the ring by doubling: each round looks twice as far ahead.
    last = np.zeros(size, bool)
    last[first] = True
    last = last[following]
    ahead = np.where(last, np.arange(size), following)
    steps = (~last).astype(np.int64)
    while True:
        further = steps[ahead]
        if not further.any():
            return np.lexsort((-steps, ring))
        steps += further
        ahead = ahead[ahead]


def _pixel_inside(
    x: np.ndarray, y: np.ndarray, kind: np.ndarray, second: np.ndarray, width: int
) -> np.ndarray:
    """The flat index of a pixel of the mask at each corner, on its own side of a double corner."""
    right = np.where(_TOUCH[kind], second, kind & (_NW | _SW) == 0)
    upper = np.where(right, kind & _NE, kind & _NW) > 0
    return (y - upper) * width + x - 1 + right


def _polygons(
    labels: np.ndarray, xy: np.ndarray, ends: np.ndarray, pixel: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Polygons from rings, each outline with its holes; and the label of each, less one."""
    cross = xy[:-1, 0] * xy[1:, 1] - xy[1:, 0] * xy[:-1, 1]
    cross[ends[1:-1] - 1] = 0
    hole = np.add.reduceat(cross, ends[:-1]) < 0
    owner = labels.ravel()[pixel].astype(np.int64) - 1
    if not hole.any():
        rings = np.arange(len(owner) + 1)
        kind = shapely.GeometryType.POLYGON
        return shapely.from_ragged_array(kind, xy, (ends, rings)), owner
    part = cc3d.connected_components((labels > 0).view(np.uint8), connectivity=4).ravel()[pixel]
    order = np.lexsort((hole, part))
    rings = shapely.linearrings(xy, indices=np.repeat(np.arange(len(owner)), np.diff(ends)))[order]
    polygon = np.cumsum(~hole[order]) - 1
    shells, holes = rings[~hole[order]], rings[hole[order]]
    polygons = shapely.polygons(shells)
    holed, at = np.unique(polygon[hole[order]], return_inverse=True)
    bounds = np.searchsorted(at, np.arange(len(holed) + 1))
    for k, row in enumerate(holed.tolist()):
        polygons[row] = shapely.polygons(shells[row], holes[bounds[k] : bounds[k + 1]])
    return polygons, owner[order][~hole[order]]
