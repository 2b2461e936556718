"""Polygons with whole-number vertices filled as OpenCV does: their boundary is part of them."""

from __future__ import annotations

import numpy as np
import shapely
from skimage.draw import polygon


def fill(mask: np.ndarray, ring: np.ndarray, left: int = 0, top: int = 0) -> None:
    """Set the pixels of a closed ring to True, in place.

    `mask` is bool (h, w), its first pixel at (`left`, `top`); `ring` is int64 (n, 2), x right and y
    down, whole numbers being pixel *centres*. A pixel is set if its centre lies in the ring, by the
    even-odd rule, or if the 8-connected line of an edge passes through it. Inside the mask this is
    cv2.fillPoly pixel by pixel; OpenCV cuts edges that leave the image off at its border before it
    draws them, which may move their pixels by one.
    """
    x, y = ring[:, 0] - left, ring[:, 1] - top
    mask[polygon(y, x, mask.shape)] = True
    rows, cols = _boundary(np.column_stack([x, y]), mask.shape)
    mask[rows, cols] = True


def vertices(ring: shapely.LinearRing, toward_zero: bool) -> np.ndarray:
    """The vertices of a ring on whole numbers, int64 (n, 2): rounded (halves to even) or truncated."""
    xy = shapely.get_coordinates(ring)
    return (np.trunc(xy) if toward_zero else np.rint(xy)).astype(np.int64)


def shrunk(ring: np.ndarray, border: int) -> np.ndarray:
    """A ring whose vertices are moved `border` px toward its centroid, along each axis for itself.

    A vertex level with the centroid stays where it is on that axis (utils/mask_polygons.py of the
    challenge's baseline).
    """
    if not border:
        return ring
    centroid = shapely.get_coordinates(shapely.centroid(shapely.Polygon(ring)))
    return ring - border * np.sign(ring - centroid).astype(ring.dtype)


def _boundary(ring: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the edges' lines, those within a mask.

    Each line steps from its left end along its longer axis; halves on the other axis round toward
    that end.
    """
    start, end = ring[:-1], ring[1:]
    turned = (end[:, 0] < start[:, 0])[:, None]
    start, end = np.where(turned, end, start), np.where(turned, start, end)
    span = end - start
    steep = np.abs(span[:, 1]) > np.abs(span[:, 0])
    along, across = np.abs(span).max(axis=1), np.abs(span).min(axis=1)
    sign = np.sign(span)
    # Only the steps within the mask are taken: an edge may be a million pixels long.
    axis = steep.astype(int)
    each = np.arange(len(span))
    origin, way = start[each, axis], sign[each, axis]
    last = np.where(steep, shape[0], shape[1]) - 1
    near = np.where(way < 0, origin - last, -origin)
    far = np.where(way < 0, origin, last - origin)
    first = np.maximum(near, 0)
    count = np.maximum(np.minimum(far, along) - first + 1, 0)
    edge = np.repeat(each, count)
    step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    aside = (2 * across[edge] * step + along[edge] - 1) // np.maximum(2 * along[edge], 1)
    cols = start[edge, 0] + sign[edge, 0] * np.where(steep[edge], aside, step)
    rows = start[edge, 1] + sign[edge, 1] * np.where(steep[edge], step, aside)
    within = (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])
    return rows[within], cols[within]
