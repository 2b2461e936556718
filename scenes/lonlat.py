"""Polygons in degrees, as files for other people want them: EPSG:4326, longitude first."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

DECIMALS = 7
"""Decimals of a degree in text files: about a centimetre on the ground."""

_WEST = shapely.box(-180.0, -90.0, 180.0, 90.0)
_EAST = shapely.box(180.0, -90.0, 540.0, 90.0)


def to_lonlat(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The same rows in EPSG:4326, polygons cut where they cross the antimeridian.

    Outer rings run counter-clockwise and holes clockwise, as RFC 7946 asks. A frame without a
    coordinate system is taken to be in degrees already.
    """
    degrees = frame.geometry
    if frame.crs is not None:
        degrees = degrees.to_crs("EPSG:4326")
    shapes = split_antimeridian(degrees.to_numpy())
    turned = shapely.orient_polygons(shapes, exterior_cw=False)
    plain = pd.DataFrame(frame.drop(columns=frame.geometry.name))
    return gpd.GeoDataFrame(plain, geometry=gpd.GeoSeries(turned, frame.index, crs="EPSG:4326"))


def split_antimeridian(shapes: np.ndarray) -> np.ndarray:
    """Cut polygons in degrees that jump between 180 east and west into a part on each side.

    A part wider than 180 degrees is taken to be one that crosses: no building is that wide.
    """
    wide = _widths(shapes) > 180.0
    if not wide.any():
        return shapes
    split = shapes.copy()
    split[wide] = [_split(shape) for shape in shapes[wide]]
    return split


def rounded(shapes: np.ndarray, decimals: int = DECIMALS) -> np.ndarray:
    """The same shapes with coordinates of so many decimals."""
    return shapely.transform(shapes, lambda xy: np.round(xy, decimals))


def points_inside(shapes: np.ndarray) -> np.ndarray:
    """A point inside each polygon; of a building in several parts, inside its largest."""
    parts, owner = shapely.get_parts(shapes, return_index=True)
    largest = np.lexsort((np.arange(len(parts)), -shapely.area(parts), owner))
    first = np.flatnonzero(np.diff(owner[largest], prepend=-1))
    points = np.full(len(shapes), shapely.Point(), dtype=object)
    points[owner[largest[first]]] = shapely.point_on_surface(parts[largest[first]])
    return points


def _widths(shapes: np.ndarray) -> np.ndarray:
    """The widest part of each shape, degrees."""
    parts, owner = shapely.get_parts(shapes, return_index=True)
    bounds = shapely.bounds(parts)
    width = np.zeros(len(shapes))
    np.maximum.at(width, owner, np.nan_to_num(bounds[:, 2] - bounds[:, 0]))
    return width


def _split(shape: shapely.Geometry) -> shapely.Geometry:
    """One shape, all of whose western longitudes are put east of 180 to be whole, then cut."""
    whole = shapely.transform(
        shape,
        lambda xy: np.column_stack([np.where(xy[:, 0] < 0, xy[:, 0] + 360, xy[:, 0]), xy[:, 1]]),
    )
    near = shapely.intersection(whole, _WEST)
    far = shapely.transform(shapely.intersection(whole, _EAST), lambda xy: xy - (360.0, 0.0))
    parts = shapely.get_parts(shapely.get_parts(np.array([near, far], dtype=object)))
    return shapely.multipolygons(parts[shapely.get_dimensions(parts) == 2])
