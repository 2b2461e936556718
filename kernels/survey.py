"""What was looked at and what was not: counts on cells of the region, small whatever its size.

A cell is a square of pixels anchored to the region's corner; there are at most `LIMIT` along a
side, so that for scenes up to that size a cell is a pixel and every outline exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from ..scenes.layer import NOT_ANALYSED
from ..scenes.plan import Chunk, Plan
from ..scenes.store import LAST, Store
from .buildings import geodesic_area, to_map
from .outline import outlines
from .stitch import label
from .tally import pixels

LIMIT = 768
"""Most cells along a side of the region."""

UNSEEN = "no data (masked clouds too), or outside the overlap of the images"
"""The reason given where no chunk failed but pixels could not be analysed."""

_BLOCKS = 64


@dataclass(frozen=True, eq=False)
class Survey:
    """Counts on the cells that one chunk touches."""

    corner: tuple[int, int]
    """Row and column of the first cell."""
    blind: np.ndarray
    """Pixels that were not analysed, int32."""
    worst: np.ndarray
    """Largest damage code among the analysed pixels, uint8."""


@dataclass(frozen=True, eq=False)
class Cells:
    """The whole region on cells."""

    plan: Plan
    side: int
    """Pixels per side of a cell."""
    blind: np.ndarray
    """Pixels that were not analysed, int32 (rows, columns)."""
    worst: np.ndarray
    """Largest damage code among the analysed pixels, uint8 (rows, columns)."""

    @property
    def pixels(self) -> np.ndarray:
        """Pixels per cell: fewer along the lower and right edge."""
        height, width = self.plan.region_shape
        return np.outer(_lengths(height, self.side), _lengths(width, self.side))

    @property
    def overview(self) -> np.ndarray:
        """A small damage map: the worst code per cell, 255 where half or more was not analysed."""
        unseen = (self.worst == 0) & (2 * self.blind >= self.pixels)
        return np.where(unseen, np.uint8(NOT_ANALYSED), self.worst)


def cell_side(plan: Plan, limit: int = LIMIT) -> int:
    """Pixels per side of a cell, so that at most `limit` fit along the region."""
    return -(-max(plan.region_shape) // limit)


def survey_in(store: Store, chunk: Chunk, side: int) -> Survey:
    """Count one chunk's unseen pixels, and find its worst code, per cell."""
    damage = pixels(store, LAST, chunk)
    row, col = chunk.row0 - store.plan.region[0], chunk.col0 - store.plan.region[1]
    rows, cols = _starts(row, damage.shape[0], side), _starts(col, damage.shape[1], side)
    unseen = damage == NOT_ANALYSED
    blind = np.add.reduceat(unseen, cols, axis=1, dtype=np.int32)
    worst = np.maximum.reduceat(np.where(unseen, np.uint8(0), damage), cols, axis=1)
    return Survey(
        (row // side, col // side),
        np.add.reduceat(blind, rows, axis=0),
        np.maximum.reduceat(worst, rows, axis=0),
    )


def gather(surveys: Iterable[Survey], plan: Plan, side: int) -> Cells:
    """Put the chunks' surveys together; cells that chunks share are added up."""
    shape = tuple(-(-length // side) for length in plan.region_shape)
    blind, worst = np.zeros(shape, np.int32), np.zeros(shape, np.uint8)
    for survey in surveys:
        (row, col), (height, width) = survey.corner, survey.blind.shape
        here = slice(row, row + height), slice(col, col + width)
        blind[here] += survey.blind
        worst[here] = np.maximum(worst[here], survey.worst)
    return Cells(plan, side, blind, worst)


def inside(cells: Cells, grid: GeoBox, aoi: gpd.GeoDataFrame | None) -> np.ndarray:
    """Cells whose centre lies in the area of interest, bool; all of them where there is none."""
    if aoi is None:
        return np.ones(cells.blind.shape, bool)
    a, b, c, d, e, f = grid.affine[:6]
    n = cells.side
    affine = Affine(a * n, b * n, c, d * n, e * n, f)
    shapes = aoi.to_crs(grid.crs.to_wkt()).geometry
    wanted = [shape for shape in shapes if shape is not None and not shape.is_empty]
    return rasterize(wanted, out_shape=cells.blind.shape, transform=affine).astype(bool)


def areas_km2(
    cells: Cells, grid: GeoBox, wanted: np.ndarray, skipped: Sequence[tuple[Chunk, str]] = ()
) -> tuple[float, dict[str, float]]:
    """Geodesic area that was analysed, and by reason what was not within the wanted cells; km2."""
    per_pixel = _pixel_km2(cells, grid)
    left = np.where(wanted, cells.blind, 0)
    unseen: dict[str, float] = {}
    for chunk, reason in skipped:
        here = _cells_of(cells, chunk)
        failed = np.zeros_like(left)
        failed[here] = left[here]
        left[here] = 0
        area = float((_in_blocks(cells, failed) * per_pixel).sum())
        unseen[reason] = unseen.get(reason, 0.0) + area
    if left.any():
        unseen[UNSEEN] = float((_in_blocks(cells, left) * per_pixel).sum())
    seen = _in_blocks(cells, cells.pixels - cells.blind)
    return float((seen * per_pixel).sum()), unseen


def not_analysed(
    cells: Cells,
    grid: GeoBox,
    wanted: np.ndarray,
    skipped: Sequence[tuple[Chunk, str]] = (),
) -> gpd.GeoDataFrame:
    """What was not analysed as polygons with a reason each; one row per area or skipped chunk.

    Columns `reason`, `cell_px` (side of the cells that the outline follows), `exact` (whether it
    follows every pixel), `area_m2`, `geometry`. A cell counts where half or more of it is unseen.
    """
    mask = wanted & (cells.blind > 0) & (2 * cells.blind >= cells.pixels)
    failed = [(chunk, reason) for chunk, reason in skipped if wanted[_cells_of(cells, chunk)].any()]
    for chunk, _ in failed:
        mask[_cells_of(cells, chunk)] = False
    boxes = [shapely.box(c.col0, c.row0, c.col1, c.row1) for c, _ in failed]
    labels = label(mask)
    found = outlines(labels, int(labels.max(initial=0)))
    edge, corner = np.array(cells.plan.region_shape[::-1]), np.array(cells.plan.region[1::-1])
    placed = shapely.transform(found, lambda xy: np.minimum(xy * cells.side, edge) + corner)
    whole = (
        shapely.multipolygons(np.array(boxes, object)[:, None]) if boxes else np.zeros(0, object)
    )
    geometry = to_map(np.concatenate([placed, whole]), grid, cells.plan)
    reasons = [UNSEEN] * len(placed) + [reason for _, reason in failed]
    exact = [cells.side == 1] * len(placed) + [True] * len(boxes)
    table = pd.DataFrame(
        {
            "reason": pd.Series(reasons, dtype="str"),
            "cell_px": np.array([cells.side] * len(placed) + [1] * len(boxes), np.int32),
            "exact": np.array(exact, bool),
            "area_m2": np.round(geodesic_area(geometry, grid.crs.to_wkt()), 2),
        }
    )
    return gpd.GeoDataFrame(table, geometry=gpd.GeoSeries(list(geometry), crs=grid.crs.to_wkt()))


def _starts(first: int, length: int, side: int) -> np.ndarray:
    """Offsets in `length` pixels from `first` at which a new cell begins, 0 included."""
    offsets = np.arange(-(first % side), length, side)
    offsets[0] = 0
    return offsets


def _lengths(length: int, side: int) -> np.ndarray:
    """Pixels in each cell along an axis."""
    return np.diff(np.append(np.arange(0, length, side), length)).astype(np.int32)


def _cells_of(cells: Cells, chunk: Chunk) -> tuple[slice, slice]:
    """The cells that a chunk touches."""
    row0, col0 = cells.plan.region[:2]
    rows = slice((chunk.row0 - row0) // cells.side, -(-(chunk.row1 - row0) // cells.side))
    return rows, slice((chunk.col0 - col0) // cells.side, -(-(chunk.col1 - col0) // cells.side))


def _per_block(cells: Cells) -> int:
    """Cells per side of the blocks on which the size of a pixel is taken as constant."""
    return -(-max(cells.blind.shape) // _BLOCKS)


def _pixel_km2(cells: Cells, grid: GeoBox) -> np.ndarray:
    """Mean geodesic area of a pixel in each block."""
    height, width = cells.plan.region_shape
    step = cells.side * _per_block(cells)
    tops, lefts = np.arange(0, height, step), np.arange(0, width, step)
    top, left = np.meshgrid(tops, lefts, indexing="ij")
    bottom, right = np.minimum(top + step, height), np.minimum(left + step, width)
    row0, col0 = cells.plan.region[:2]
    boxes = shapely.box(left + col0, top + row0, right + col0, bottom + row0).ravel()
    size = geodesic_area(to_map(boxes, grid, cells.plan), grid.crs.to_wkt()).reshape(top.shape)
    return size / ((bottom - top) * (right - left)) / 1e6


def _in_blocks(cells: Cells, counts: np.ndarray) -> np.ndarray:
    """Sums of counts per block."""
    per = _per_block(cells)
    rows, cols = (np.arange(0, side, per) for side in counts.shape)
    return np.add.reduceat(np.add.reduceat(counts, rows, axis=0, dtype=np.int64), cols, axis=1)
