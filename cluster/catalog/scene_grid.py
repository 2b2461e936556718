"""Between the pixels of a catalogued scene and the ground: what is drawn in an image is kept in degrees."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely.geometry import mapping, shape

from ...scenes.errors import UsageError
from .tables import Scene

_DEGREES = "EPSG:4326"


def grid_of(scene: Scene) -> GeoBox | None:
    """The pixels of a scene on the ground; None of a photo, and of an image that was not fetched yet."""
    if scene.crs is None or scene.transform is None or scene.height is None or scene.width is None:
        return None
    return GeoBox((scene.height, scene.width), Affine(*scene.transform), scene.crs)


def in_degrees(scene: Scene, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """A GeoJSON geometry in pixels (x, y) of a scene as `Said.polygon` has it.

    That is in degrees, or in pixels of a scene that has no place. Raises UsageError for no geometry.
    """
    try:
        geometry = shapely.force_2d(shape(drawn))
        grid = grid_of(scene)
        return dict(mapping(geometry if grid is None else _degrees(geometry, grid)))
    except Exception as error:  # whatever shapely stumbles over in what a stranger sends
        raise UsageError("A polygon is a GeoJSON Polygon or MultiPolygon in pixels.") from error


def in_pixels(scene: Scene, kept: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `in_degrees`, to a hundredth of a pixel."""
    geometry, grid = shape(kept), grid_of(scene)
    found = geometry if grid is None else to_pixels(geometry, _DEGREES, grid)
    return dict(mapping(shapely.transform(found, lambda xy: np.round(xy, 2))))


def to_pixels(geometry: Any, crs: str, grid: GeoBox) -> Any:
    """Geometries in a CRS (one, or an array of them) as pixels (x, y) of a grid."""
    from_crs, inverse = between(crs, grid.crs.to_wkt()), ~grid.affine

    def placed(xy: np.ndarray) -> np.ndarray:
        x, y = from_crs.transform(xy[:, 0], xy[:, 1])
        return np.column_stack(inverse * (np.asarray(x), np.asarray(y)))

    return shapely.transform(geometry, placed)


def pixels_lonlat(points: np.ndarray, grid: GeoBox) -> np.ndarray:
    """Pixels (n, 2) of a grid, x before y, as longitudes and latitudes (n, 2)."""
    x, y = grid.affine * (points[:, 0], points[:, 1])
    return np.column_stack(between(grid.crs.to_wkt(), _DEGREES).transform(x, y))


def lonlat_pixels(points: np.ndarray, grid: GeoBox) -> np.ndarray:
    """Longitudes and latitudes (n, 2) as pixels (n, 2) of a grid, x before y: `pixels_lonlat` backwards."""
    x, y = between(_DEGREES, grid.crs.to_wkt()).transform(points[:, 0], points[:, 1])
    return np.column_stack(~grid.affine * (np.asarray(x), np.asarray(y)))


@lru_cache(maxsize=64)
def between(one: str, other: str) -> Transformer:
    """From one CRS to another, x before y; making one takes longer than using it."""
    return Transformer.from_crs(one, other, always_xy=True)


def _degrees(geometry: shapely.Geometry, grid: GeoBox) -> shapely.Geometry:
    return shapely.transform(geometry, lambda xy: pixels_lonlat(xy, grid))
