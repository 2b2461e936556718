"""A class raster of scattered buildings, as a store: deterministic, of any size."""

from __future__ import annotations

import numpy as np
import rasterio
from aftermap.scenes.layer import Layer
from aftermap.scenes.plan import Plan, Window
from aftermap.scenes.store import Store
from bench import Bench
from odc.geo.geobox import GeoBox
from pairs import TRANSFORM

_PER_MPX = 145
"""Buildings per Mpx: a town and the fields around it."""


def class_store(bench: Bench, side: int, chunk: int, layers: int = 1) -> Store:
    """A store whose `damage` holds buildings; further layers hold noise near their classes."""
    names = [Layer("damage", "class")]
    names += [Layer(f"p_{n}", "probability") for n in range(1, layers)]
    plan = Plan.of((side, side), Window(min(512, chunk), 0), chunk)
    store = Store(bench.fresh("classes"), plan, tuple(names))
    store.create(grid(side), {})
    codes = classes(side)
    noise = np.random.default_rng(1).integers(0, 60, codes.shape, np.uint8)
    for piece in plan:
        there = np.s_[piece.row0 : piece.row1, piece.col0 : piece.col1]
        values = {layer.name: codes[there] * np.uint8(40) + noise[there] for layer in names[1:]}
        store.write(piece, {"damage": codes[there], **values})
    return store


def grid(side: int) -> GeoBox:
    """The georeference of the raster."""
    return GeoBox((side, side), TRANSFORM, rasterio.CRS.from_epsg(32637).to_wkt())


def classes(side: int) -> np.ndarray:
    """Codes 0-4 (side, side): rectangles of 12 to 40 px with notches, some touching."""
    rng = np.random.default_rng(0)
    codes = np.zeros((side, side), np.uint8)
    for _ in range(round(_PER_MPX * side**2 / 1e6)):
        row, col = rng.integers(0, side, 2)
        height, width = rng.integers(12, 40, 2)
        codes[row : row + height, col : col + width] = rng.integers(1, 5)
        codes[row : row + height // 3, col : col + width // 3] = 0
    return codes
