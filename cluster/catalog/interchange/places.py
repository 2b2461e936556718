"""Outlines in pixels of a scene and in degrees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import shapely
from shapely.geometry import mapping, shape

from .. import scene_grid
from ..scene_grid import grid_of, pixels_lonlat
from ..tables import Scene

Square = tuple[int, int, int]
"""First row, first column and side, px."""


def box(square: Square) -> shapely.Polygon:
    """The outline of a square, x = column, y = row."""
    row, col, side = square
    return shapely.box(col, row, col + side, row + side)


def moved(outline: shapely.Geometry, rows: float, cols: float) -> shapely.Geometry:
    """An outline in pixels, so many rows further down and columns to the right."""
    return shapely.transform(outline, lambda xy: xy + np.array([cols, rows]))


def from_stored(scene: Scene, polygon: Mapping[str, Any]) -> shapely.Geometry:
    """A tag's polygon, which the catalog keeps in degrees where a scene has any, in pixels."""
    return to_pixels(scene, shape(polygon))


def to_stored(scene: Scene, outline: shapely.Geometry) -> dict[str, Any]:
    """An outline in pixels as the catalog keeps it."""
    return dict(mapping(to_degrees(scene, outline) if scene.crs else outline))


def to_pixels(scene: Scene, outline: shapely.Geometry) -> shapely.Geometry:
    """An outline in degrees, in pixels; of a scene without a CRS it is taken to be in pixels already."""
    grid = grid_of(scene)
    return outline if grid is None else scene_grid.to_pixels(outline, "EPSG:4326", grid)


def to_degrees(scene: Scene, outline: shapely.Geometry) -> shapely.Geometry:
    """An outline in pixels, in degrees, longitude first; the scene has a CRS."""
    grid = grid_of(scene)
    return shapely.transform(outline, lambda xy: pixels_lonlat(xy, grid))
