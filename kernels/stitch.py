"""Buildings or damage areas from a class raster: outline per chunk, join over the seams.

Each chunk is labelled and outlined alone. Along a seam, labels that touch, corners included, are
one component: their integers are added and their outlines merged. Only pieces that touch a seam
wait for their neighbours, one row of chunks at a time; all others are final at once. Outlines are
brought to one canonical form, so that nothing in the result tells how the raster was cut.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import cc3d
import numpy as np
import shapely

from ..scenes.plan import Chunk, Plan
from ..scenes.store import LAST, Store
from .outline import outlines
from .tally import count, measured, names, pixels


@dataclass(frozen=True)
class Components:
    """Finished 8-connected components."""

    first: np.ndarray
    """Row * full width + column of the topmost, then leftmost pixel, in the full raster; int64."""
    counts: np.ndarray
    """int64, (components, `tally.columns`)."""
    geometry: np.ndarray
    """MultiPolygons in pixel coordinates of the full raster: x is the column, y the row."""

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Pieces:
    """One chunk's components, and where they touch its borders."""

    chunk: Chunk
    parts: Components
    top: np.ndarray
    """Along the chunk's first row of pixels: 1 + position in `parts`, 0 for none; int32."""
    bottom: np.ndarray
    left: np.ndarray
    right: np.ndarray


def pieces_in(store: Store, chunk: Chunk, codes: Collection[int]) -> Pieces:
    """Label and outline the pixels of a chunk whose damage code is in `codes`."""
    damage = pixels(store, LAST, chunk)
    wanted = np.zeros(256, bool)
    wanted[list(codes)] = True
    labels = label(wanted[damage])
    where = np.flatnonzero(labels)
    owner = labels.ravel()[where].astype(np.int64) - 1
    total = int(labels.max(initial=0))
    # Nothing found, nothing to sum: the other layers need not be read.
    values = {LAST: damage} | {
        name: pixels(store, name, chunk) if total else damage
        for name in measured(names(store.layers))
    }
    corner = np.array([chunk.col0, chunk.row0])
    moved = shapely.transform(outlines(labels, total), lambda xy: xy + corner)
    parts = Components(
        _first_pixels(owner, where, total, chunk, store.plan.shape[1]),
        count(owner, where, total, values),
        moved,
    )
    edges = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    return Pieces(chunk, parts, *(np.ascontiguousarray(edge) for edge in edges))


def join(pieces: Iterable[Pieces], plan: Plan) -> Iterator[Components]:
    """Whole components from the pieces of every chunk, given in chunk order.

    Memory holds the open components only: those that still touch the row of chunks in progress.
    """
    seam = _Seam(plan)
    for piece in pieces:
        yield from seam.take(piece)


def label(mask: np.ndarray) -> np.ndarray:
    """8-connected components of a boolean mask: int32, 1 and up, 0 outside."""
    return cc3d.connected_components(mask.astype(np.uint8), connectivity=8).astype(np.int32)


def merge(geometry: Iterable[shapely.Geometry]) -> shapely.Geometry:
    """One canonical MultiPolygon from the outlines of a component's pieces."""
    whole = shapely.union_all(list(geometry))
    parts = shapely.multipolygons(shapely.get_parts(whole))
    return shapely.normalize(_without_straight_vertices(parts))


def _first_pixels(
    owner: np.ndarray, where: np.ndarray, total: int, chunk: Chunk, width: int
) -> np.ndarray:
    """Each label's first pixel in row-major order of the full raster."""
    # `where` ascends, and row-major order inside a chunk is row-major order in the raster, so the
    # first mention of a label is its first pixel.
    _, at = np.unique(owner, return_index=True)
    row, col = np.divmod(where[at], chunk.shape[1])
    return ((row + chunk.row0) * width + col + chunk.col0).astype(np.int64)[:total]


def _without_straight_vertices(geometry: shapely.Geometry) -> shapely.Geometry:
    """Drop vertices at which an outline along pixel edges does not turn."""
    kind, xy, offsets = shapely.to_ragged_array([geometry])
    ring_ends = offsets[0]
    start, stop = ring_ends[:-1], ring_ends[1:]
    before, after = np.arange(len(xy)) - 1, np.arange(len(xy)) + 1
    # A ring repeats its first vertex at the end: step over the copy.
    before[start] = stop - 2
    after[stop - 1] = start + 1
    before[stop - 1] = stop - 2
    turns = (xy[before] != xy[after]).all(axis=1)
    turns[stop - 1] = False
    kept = np.add.reduceat(turns, start)
    corners, first = xy[turns], np.concatenate([[0], np.cumsum(kept)[:-1]])
    closed = np.insert(corners, first + kept, corners[first], axis=0)
    ends = np.concatenate([[0], np.cumsum(kept + 1)])
    return shapely.from_ragged_array(kind, closed, (ends, *offsets[1:]))[0]


class _Seam:
    """The open components along the row of chunks in progress."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.parent: dict[int, int] = {}
        self.open: dict[int, tuple[int, np.ndarray, shapely.Geometry]] = {}
        self.issued = 0
        width = plan.region_shape[1]
        self.above = np.zeros(width, np.int64)
        self.below = np.zeros(width, np.int64)
        self.beside = np.zeros(0, np.int64)

    def take(self, pieces: Pieces) -> Iterator[Components]:
        """Add the next chunk; yields what no later chunk can change."""
        chunk, parts = pieces.chunk, pieces.parts
        down, across = self.plan.chunk_grid
        i, j = chunk.index
        border = np.zeros(len(parts) + 1, bool)
        for edge, shared in (
            (pieces.top, i > 0),
            (pieces.bottom, i < down - 1),
            (pieces.left, j > 0),
            (pieces.right, j < across - 1),
        ):
            if shared:
                border[edge] = True
        border[0] = False
        ids = self._admit(parts, border)
        self._connect(pieces, ids)
        free = ~border[1:]
        if free.any():
            yield Components(parts.first[free], parts.counts[free], parts.geometry[free])
        if j == across - 1:
            yield from self._close(last=i == down - 1)

    def _admit(self, parts: Components, border: np.ndarray) -> np.ndarray:
        """Give each piece on a seam a number of its own; returns label to number, 0 for none."""
        ids = np.zeros(len(border), np.int64)
        for position in np.flatnonzero(border).tolist():
            self.issued += 1
            ids[position] = self.issued
            row = position - 1
            self.parent[self.issued] = self.issued
            self.open[self.issued] = (
                int(parts.first[row]),
                parts.counts[row],
                parts.geometry[row],
            )
        return ids

    def _connect(self, pieces: Pieces, ids: np.ndarray) -> None:
        """Unite pieces that touch across the seams above and to the left of a chunk."""
        chunk = pieces.chunk
        col0 = chunk.col0 - self.plan.region[1]
        col1 = chunk.col1 - self.plan.region[1]
        # One pixel more of the row above on either side: the diagonals over the chunk corners.
        around = slice(max(col0 - 1, 0), col1 + 1)
        above = self.above[around]
        top = np.zeros_like(above)
        inset = col0 - around.start
        top[inset : inset + col1 - col0] = ids[pieces.top]
        self._unite(above, top)
        if pieces.chunk.index[1] > 0:
            self._unite(self.beside, ids[pieces.left])
        self.beside = ids[pieces.right]
        self.below[col0:col1] = ids[pieces.bottom]

    def _unite(self, one: np.ndarray, other: np.ndarray) -> None:
        """Unite what faces each other on two sides of a seam, straight or diagonally."""
        pairs = np.concatenate(
            [
                np.column_stack([one, other]),
                np.column_stack([one[:-1], other[1:]]),
                np.column_stack([one[1:], other[:-1]]),
            ]
        )
        for a, b in np.unique(pairs[(pairs > 0).all(axis=1)], axis=0).tolist():
            low, high = sorted((self._root(a), self._root(b)))
            self.parent[high] = low

    def _root(self, number: int) -> int:
        while self.parent[number] != number:
            self.parent[number] = self.parent[self.parent[number]]
            number = self.parent[number]
        return number

    def _close(self, last: bool) -> Iterator[Components]:
        """End a row of chunks: components that do not reach its bottom are whole."""
        alive = np.zeros(0, np.int64) if last else np.unique(self.below[self.below > 0])
        waiting = {self._root(number) for number in alive.tolist()}
        groups: dict[int, list[int]] = {}
        for number in self.open:
            root = self._root(number)
            if root not in waiting:
                groups.setdefault(root, []).append(number)
        if groups:
            yield _gather([[self.open[number] for number in group] for group in groups.values()])
        for number in chain.from_iterable(groups.values()):
            del self.open[number], self.parent[number]
        self.above, self.below = self.below, np.zeros_like(self.below)


def _gather(groups: list[list[tuple[int, np.ndarray, shapely.Geometry]]]) -> Components:
    """Add up and merge the pieces of each component."""
    return Components(
        np.array([min(first for first, _, _ in group) for group in groups], np.int64),
        np.array([sum(counts for _, counts, _ in group) for group in groups], np.int64),
        np.array([merge(outline for _, _, outline in group) for group in groups], object),
    )
