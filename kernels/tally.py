"""Counting the pixels of supplied footprints: burn ids per chunk, add integers over chunks.

Every count and every sum of stored bytes is an integer, so that adding them up gives the same
figures in whatever order and however the raster is cut. Footprints are burnt in pixel coordinates
on a grid of 1/256 px, which keeps each comparison with a pixel centre exact wherever a chunk lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from ..scenes.layer import NOT_ANALYSED, Layer
from ..scenes.plan import Chunk, Plan
from ..scenes.store import LAST, Store

CODES: tuple[int, ...] = (0, 1, 2, 3, 4, 5, NOT_ANALYSED)
"""The damage codes that are counted, in the order of the first columns of a tally."""

_SUBPIXEL = 256
"""Footprint vertices are rounded to this fraction of a pixel, so that burning is exact."""

_STRIP_CELLS = 1 << 22
"""Cells burnt at once where a footprint is counted on its own."""

_SLOT = np.full(256, len(CODES) - 1)
_SLOT[list(CODES)] = np.arange(len(CODES))


def columns(layers: Sequence[str]) -> tuple[str, ...]:
    """The names of a tally's columns: a count per code, then a sum and a count per layer."""
    counts = [f"code_{code}" for code in CODES]
    return (*counts, *(f"{part}_{name}" for name in measured(layers) for part in ("sum", "n")))


def names(layers: Iterable[Layer]) -> tuple[str, ...]:
    """The names of layers, in order."""
    return tuple(layer.name for layer in layers)


def measured(layers: Sequence[str]) -> tuple[str, ...]:
    """The layers whose stored bytes are summed: all but the classes."""
    return tuple(name for name in layers if name != LAST)


def pixels(store: Store, name: str, chunk: Chunk) -> np.ndarray:
    """One layer of a chunk at full resolution: coarse cells are repeated. uint8, (h, w)."""
    values = store.read_chunk(name, chunk)
    every = next(layer.every for layer in store.layers if layer.name == name)
    if every == 1:
        return values
    height, width = chunk.shape
    return values.repeat(every, axis=0).repeat(every, axis=1)[:height, :width]


def count(
    slots: np.ndarray, where: np.ndarray, size: int, values: dict[str, np.ndarray]
) -> np.ndarray:
    """Count codes and sum bytes of the pixels `where`, each into its row of `slots`.

    `slots` and `where` are 1-D and equally long: row of the result, and flat pixel index into the
    arrays of `values`, whose first is `damage`. Returns int64, (size, number of `columns`).
    """
    code = _SLOT[values[LAST].ravel()[where]]
    parts = [np.bincount(slots * len(CODES) + code, minlength=size * len(CODES))]
    table = [parts[0].reshape(size, len(CODES))]
    for name in measured(tuple(values)):
        byte = values[name].ravel()[where]
        known = byte != NOT_ANALYSED
        # bincount adds in float64: exact, as no sum of bytes here comes near 2^53.
        sums = np.bincount(slots[known], weights=byte[known], minlength=size)
        table += [sums[:, None], np.bincount(slots[known], minlength=size)[:, None]]
    return np.hstack(table).astype(np.int64)


@dataclass(frozen=True)
class Shapes:
    """Some footprints in pixel coordinates of the full raster."""

    index: np.ndarray
    """Row of each footprint in the whole list, int64."""
    geometry: np.ndarray
    """Polygons and multipolygons: x is the column, y the row, in px."""

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class Task:
    """One chunk with the footprints that may have pixels in it."""

    chunk: Chunk
    shapes: Shapes


@dataclass(frozen=True)
class Tally:
    """Counts of some footprints, from one chunk."""

    index: np.ndarray
    """Row of each footprint in the whole list, int64."""
    counts: np.ndarray
    """int64, (footprints, columns)."""


def to_pixels(
    geometry: np.ndarray,
    grid: GeoBox,
    plan: Plan,
    moved: tuple[np.ndarray, np.ndarray] | None = None,
) -> Shapes:
    """Footprints in the grid's CRS to pixel coordinates of the full raster, rounded to 1/256 px.

    `grid` is the georeference of the plan's region. `moved` is by how many rows and columns each
    footprint is moved.
    """
    inverse = ~grid.affine
    turn = np.array([[inverse.a, inverse.d], [inverse.b, inverse.e]])
    corner = np.array([plan.region[1], plan.region[0]])
    xy, owner = shapely.get_coordinates(geometry, return_index=True)
    placed = xy @ turn + (inverse.c, inverse.f) + corner
    if moved is not None:
        placed += np.column_stack(moved[::-1])[owner]
    snapped = np.rint(placed * _SUBPIXEL) / _SUBPIXEL
    shapes = shapely.set_coordinates(np.array(geometry, object), snapped)
    return Shapes(np.arange(len(geometry)), shapes)


def chunk_rows(shapes: Shapes, plan: Plan) -> np.ndarray:
    """The first and last row of chunks that each footprint may touch; int64, (n, 2).

    What lies above or below the region belongs to its first or last row.
    """
    rows = (shapely.bounds(shapes.geometry)[:, [1, 3]] - plan.region[0]) // plan.chunk
    return np.clip(rows, 0, plan.chunk_grid[0] - 1).astype(np.int64)


def tasks(shapes: Shapes, chunks: Iterable[Chunk]) -> Iterator[Task]:
    """Chunks with the footprints whose bounds touch each, in the order of the chunks."""
    tree = shapely.STRtree(shapes.geometry)
    for chunk in chunks:
        box = shapely.box(chunk.col0, chunk.row0, chunk.col1, chunk.row1)
        near = np.sort(tree.query(box))
        yield Task(chunk, Shapes(shapes.index[near], shapes.geometry[near]))


def tally_in(store: Store, task: Task) -> Tally:
    """Count the pixels of a task's footprints in its chunk.

    A pixel belongs to each footprint that holds its centre. A footprint that holds no centre at
    all gets the pixel under its representative point.
    """
    chunk, shapes = task.chunk, task.shapes
    width = len(columns(names(store.layers)))
    if not len(shapes):
        return Tally(shapes.index, np.zeros((0, width), np.int64))
    layers = (LAST, *measured(names(store.layers)))
    values = {name: pixels(store, name, chunk) for name in layers}
    counts = np.zeros((len(shapes), width), np.int64)
    for rows in _apart(shapes.geometry):
        burnt = _burn(shapes.geometry[rows], chunk)
        where = np.flatnonzero(burnt)
        counts[rows] += count(burnt.ravel()[where] - 1, where, len(rows), values)
    for row in np.flatnonzero(counts[:, : len(CODES)].sum(axis=1) == 0):
        where = _only_pixel(shapes.geometry[row], chunk)
        if len(where):
            counts[row] = count(np.zeros(1, np.int64), where, 1, values)[0]
    seen = counts[:, : len(CODES)].any(axis=1)
    return Tally(shapes.index[seen], counts[seen])


def add_up(tallies: Iterable[Tally], shapes: Shapes, store: Store) -> np.ndarray:
    """Add counts by row of `shapes`; pixels of a footprint outside the region count as not analysed.

    Returns int64, (footprints, columns), in the order of `shapes`.
    """
    total = np.zeros((len(shapes), len(columns(names(store.layers)))), np.int64)
    if not len(shapes):
        return total
    for tally in tallies:
        total[tally.index] += tally.counts
    row0, col0, row1, col1 = store.plan.region
    left, top, right, bottom = shapely.bounds(shapes.geometry).T
    outside = (left < col0) | (top < row0) | (right > col1) | (bottom > row1)
    last = len(CODES) - 1
    for row in np.flatnonzero(outside):
        inside = total[row, : len(CODES)].sum()
        total[row, last] += max(centres_in(shapes.geometry[row]), 1) - inside
    return total


def centres_in(geometry: shapely.Geometry) -> int:
    """How many pixel centres a footprint holds, inside the raster or not."""
    left, top, right, bottom = shapely.bounds(geometry)
    col0, row0 = int(np.floor(left)), int(np.floor(top))
    col1, row1 = int(np.ceil(right)), int(np.ceil(bottom))
    step = max(1, _STRIP_CELLS // max(col1 - col0, 1))
    strips = (
        Chunk((0, 0), row, col0, min(row + step, row1), col1) for row in range(row0, row1, step)
    )
    return sum(int(np.count_nonzero(_burn(np.array([geometry]), s))) for s in strips if col1 > col0)


def _burn(geometry: np.ndarray, chunk: Chunk) -> np.ndarray:
    """1 + position of the footprint that holds each pixel centre of a chunk; int32, 0 none."""
    pairs = zip(geometry, range(1, len(geometry) + 1), strict=True)
    return rasterize(
        pairs,
        out_shape=chunk.shape,
        transform=Affine.translation(chunk.col0, chunk.row0),
        fill=0,
        all_touched=False,
        dtype="int32",
    )


def _apart(geometry: np.ndarray) -> list[np.ndarray]:
    """Positions in as few passes as first fit finds, so that no two in a pass touch."""
    # Rounding can make an outline cross itself; then its bounds answer for it.
    sound = np.where(shapely.is_valid(geometry), geometry, shapely.box(*shapely.bounds(geometry).T))
    one, other = shapely.STRtree(sound).query(sound, predicate="intersects")
    touching = one < other
    colour = np.zeros(len(geometry), np.int64)
    taken: dict[int, set[int]] = {}
    pairs = np.unique(np.column_stack([other[touching], one[touching]]), axis=0)
    for later, earlier in pairs.tolist():
        taken.setdefault(later, set()).add(earlier)
    for later in sorted(taken):
        used = {int(colour[earlier]) for earlier in taken[later]}
        colour[later] = next(c for c in range(len(used) + 1) if c not in used)
    return [np.flatnonzero(colour == c) for c in range(int(colour.max()) + 1)]


def _only_pixel(geometry: shapely.Geometry, chunk: Chunk) -> np.ndarray:
    """The flat index of the pixel under a footprint without centres, if it lies in the chunk."""
    point = shapely.point_on_surface(geometry)
    if shapely.is_empty(point):
        point = shapely.centroid(shapely.box(*shapely.bounds(geometry)))
    row, col = int(np.floor(shapely.get_y(point))), int(np.floor(shapely.get_x(point)))
    width = chunk.shape[1]
    here = chunk.row0 <= row < chunk.row1 and chunk.col0 <= col < chunk.col1
    if not here or centres_in(geometry):
        return np.zeros(0, np.int64)
    return np.array([(row - chunk.row0) * width + col - chunk.col0])
