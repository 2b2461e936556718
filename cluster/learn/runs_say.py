"""What catalogued runs say of squares, to set beside what a model says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from pyproj import Transformer
from rasterio.errors import RasterioError
from rasterio.windows import Window, from_bounds
from sqlalchemy import select

from ...scenes.layer import NOT_ANALYSED
from ...scenes.legend import LEVELS
from ..catalog.catalog import Catalog
from ..catalog.pixels import RasterPixels
from ..catalog.tables import Run
from .pictures import Square, SquarePictures

_LEAST = 0.01
"""Share of a square from which a run's damage in it counts."""

_CELLS = 64
"""A square is looked at in so many cells a side at most."""


def runs_say(catalog: Catalog, pictures: SquarePictures) -> np.ndarray:
    """1 where the newest run of a square's scene found damage in it, 0 where none; (n,), NaN: no run.

    Squares half of which the run did not analyse count as not covered; so do those of runs whose
    folders are gone.
    """
    said = np.full(len(pictures), np.nan)
    with catalog.reading() as session:
        query = select(Run.scene_id, Run.path).where(Run.scene_id.is_not(None)).order_by(Run.id)
        newest = {row.scene_id: row.path for row in session.execute(query)}
    for scene, path in newest.items():
        numbers = [n for n, square in enumerate(pictures.squares) if square.scene == scene]
        raster = pictures.rasters.get(scene)
        if numbers and raster is not None:
            said[numbers] = _said(
                Path(path) / "damage.tif", raster, [pictures.squares[n] for n in numbers]
            )
    return said


def _said(file: Path, pixels: RasterPixels, squares: list[Square]) -> np.ndarray:
    try:
        with rasterio.open(file, driver="GTiff") as source:
            here = pixels.pair.grid
            way = Transformer.from_crs(here.crs.to_wkt(), source.crs.to_wkt(), always_xy=True)
            return np.array([_damage(source, way, here.affine, square) for square in squares])
    except RasterioError:
        return np.full(len(squares), np.nan)


def _damage(
    source: rasterio.DatasetReader, way: Transformer, affine: rasterio.Affine, square: Square
) -> float:
    corners = [
        affine * (square.col + across * square.side, square.row + down * square.side)
        for down in (0, 1)
        for across in (0, 1)
    ]
    x, y = way.transform([corner[0] for corner in corners], [corner[1] for corner in corners])
    wanted = from_bounds(min(x), min(y), max(x), max(y), source.transform).round()
    inside = _inside(wanted, source)
    if inside is None:
        return np.nan
    shape = tuple(min(_CELLS, side) for side in (inside.height, inside.width))
    codes = source.read(1, window=inside, out_shape=shape)
    share = inside.height * inside.width / max(wanted.height * wanted.width, 1)
    known = codes != NOT_ANALYSED
    if known.mean() * share < 0.5:
        return np.nan
    return float((codes[known] > LEVELS[0]).mean() >= _LEAST)


def _inside(wanted: Window, source: rasterio.DatasetReader) -> Window | None:
    """The part of a window that a raster has."""
    top, left = max(int(wanted.row_off), 0), max(int(wanted.col_off), 0)
    bottom = min(int(wanted.row_off + wanted.height), source.height)
    right = min(int(wanted.col_off + wanted.width), source.width)
    return Window(left, top, right - left, bottom - top) if top < bottom and left < right else None
