"""Where a tile of xBD lies: the affine map from its pixels to degrees, fitted to its buildings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import shapely
from affine import Affine

from .places import Box
from .xbd import XbdLabel

_SURE = 2.0
"""Px by which a corner of a tile may be off for its ground to count as known."""

_SPREAD = 1.0
"""Px by which corners must at least depart from a line, root mean square."""


class _Fit(NamedTuple):
    transform: Affine
    residual: float
    """Px, root mean square."""
    spread: float
    """Px from the line that the corners lie along, root mean square."""


def fitted_transform(label: XbdLabel) -> tuple[Affine, float] | None:
    """The affine map from pixels to degrees that fits a label's corners best, and how well it does.

    No label says where its image lies, but each gives every outline in both. The map takes (x right,
    y down), (0, 0) being the image's upper left corner, to longitude and latitude, as GDAL has it.
    The second value is the root mean square of the corners' distances from where it puts them, px.
    None where fewer than three corners have both, or where they lie along a line.
    """
    fit = _fit(label)
    return None if fit is None else (fit.transform, fit.residual)


def located(label: XbdLabel) -> Affine | None:
    """The fitted map where it is sure to 2 px at the tile's corners, else None.

    Buildings that lie close together say little of the far corner: the residual is taken times the
    tile's side over the buildings' spread.
    """
    fit = _fit(label)
    if fit is None or not fit.residual * max(label.size) <= _SURE * fit.spread:
        return None
    return fit.transform


def ground(label: XbdLabel) -> Box | None:
    """West, south, east, north of a tile in degrees, a pixel wide of it so that neighbours touch.

    None where its buildings are too few, or too close together, to tell (see `located`).
    """
    transform = located(label)
    if transform is None:
        return None
    height, width = label.size
    frame = [transform * (x, y) for x in (-1, width + 1) for y in (-1, height + 1)]
    lon, lat = zip(*frame, strict=True)
    return min(lon), min(lat), max(lon), max(lat)


def _fit(label: XbdLabel) -> _Fit | None:
    pixels, degrees = _corners(label)
    if len(pixels) < 3:
        return None
    centre, middle = pixels.mean(axis=0), degrees.mean(axis=0)
    around, about = pixels - centre, degrees - middle
    spread = np.linalg.svd(around, compute_uv=False)[-1] / np.sqrt(len(pixels))
    if spread < _SPREAD:
        return None
    slopes = np.linalg.lstsq(around, about, rcond=None)[0]
    if np.linalg.matrix_rank(slopes) != 2:
        return None
    off = np.linalg.solve(slopes.T, (about - around @ slopes).T)
    residual = float(np.sqrt(np.mean(np.sum(off**2, axis=0))))
    (a, d), (b, e) = slopes.tolist()
    c, f = (middle - centre @ slopes).tolist()
    return _Fit(Affine(a, b, c, d, e, f), residual, float(spread))


def _corners(label: XbdLabel) -> tuple[np.ndarray, np.ndarray]:
    """Corners of buildings in pixels and in degrees, each (n, 2)."""
    both = [(b.xy, b.lng_lat) for b in label.buildings if b.xy is not None and b.lng_lat]
    pairs = [(shapely.get_coordinates(xy), shapely.get_coordinates(at)) for xy, at in both]
    alike = [(xy, at) for xy, at in pairs if len(xy) == len(at)]
    if not alike:
        return np.empty((0, 2)), np.empty((0, 2))
    pixels, degrees = (np.concatenate(corners) for corners in zip(*alike, strict=True))
    return pixels, degrees
