"""Squares that are scanned one by one, each with a score of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from ..scenes.layer import NOT_ANALYSED
from ..scenes.plan import Window
from .kernel import Kernel

LEAST_SEEN = 0.5
"""A square has no score where less than this share of what it shows of the raster is valid."""


class Edges(NamedTuple):
    """Where a raster begins and ends, in pixels of a block that may reach past it."""

    top: int
    left: int
    bottom: int
    right: int


class Scanning(Kernel, Protocol):
    """A kernel that gives a whole square one score."""

    def scores(self, images: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Of squares (n, bands, scan, scan) uint8 and their validity: float32 (n,), 0-1."""

    def scored(self, scores: np.ndarray) -> Mapping[str, np.ndarray]:
        """Bytes, one per core, of the scores of cores (rows, columns), NaN: none; by layer."""

    def drawn(
        self, images: np.ndarray, valid: np.ndarray, scores: np.ndarray
    ) -> Mapping[str, np.ndarray]:
        """Bytes, one per pixel (n, scan, scan), of squares as for `scores`; the layers that are not
        in `scored`, of which there may be none."""


def first_pixels(length: int, window: Window) -> np.ndarray:
    """Where the squares of an axis begin, one for each core, px; int64.

    Each begins with its core, or as far before it as the square needs to end with the raster; a
    raster that is smaller than a square has one that begins with it.
    """
    starts = np.arange(0, length, window.core)
    return np.minimum(starts, max(length - window.scan, 0))


def scanned(
    kernel: Scanning, post: np.ndarray, valid: np.ndarray, edges: Edges
) -> Mapping[str, np.ndarray]:
    """Run a kernel of scanned windows over one block; see `run_block` for the arguments.

    Each core has the score of its square: none, 255, where less than half of the square is valid,
    or nothing of the core. Of what is drawn pixel by pixel, a core has the part of its own square
    that lies over it. Layers of pixels are 255 where these are not valid.
    """
    core, halo = kernel.window.core, kernel.window.halo
    down, across = ((side - 2 * halo) // core for side in valid.shape)
    kept = valid[halo : halo + down * core, halo : halo + across * core]
    scores = np.full((down, across), np.nan, np.float32)
    canvases: dict[str, np.ndarray] = defaultdict(
        lambda: np.full(kept.shape, NOT_ANALYSED, np.uint8)
    )
    squares = [
        (place, square)
        for place in np.ndindex(down, across)
        if (square := _square(kernel.window, valid, edges, place)) is not None
    ]
    batch = kernel.batch
    while squares:
        now = squares[:batch]
        seen = np.stack([valid[square] for _, square in now])
        images = np.stack([post[:, *square] for _, square in now])
        try:
            found = kernel.scores(images, seen)
            drawn = kernel.drawn(images, seen, found)
        except MemoryError:
            if batch == 1:
                raise
            batch = -(-batch // 2)
            continue
        for number, (place, square) in enumerate(now):
            scores[place] = found[number]
            for name, values in drawn.items():
                _lay(canvases[name], values[number], kernel.window, place, square)
        squares = squares[batch:]
    cells = kernel.scored(scores)
    return {
        layer.name: cells[layer.name]
        if layer.name in cells and layer.every == core
        else np.where(
            kept,
            _spread(cells[layer.name], core) if layer.name in cells else canvases[layer.name],
            np.uint8(NOT_ANALYSED),
        )
        for layer in kernel.layers
    }


def _square(
    window: Window, valid: np.ndarray, edges: Edges, place: tuple[int, int]
) -> tuple[slice, slice] | None:
    """The rows and columns of a block that a core's square takes; None where it has no score."""
    core, halo, side = window.core, window.halo, window.scan
    row, col = (halo + number * core for number in place)
    if not valid[row : row + core, col : col + core].any():
        return None
    top = max(min(row, edges.bottom - side), edges.top)
    left = max(min(col, edges.right - side), edges.left)
    square = slice(top, top + side), slice(left, left + side)
    height = min(top + side, edges.bottom) - max(top, edges.top)
    width = min(left + side, edges.right) - max(left, edges.left)
    return square if valid[square].sum() >= LEAST_SEEN * height * width else None


def _lay(
    canvas: np.ndarray,
    values: np.ndarray,
    window: Window,
    place: tuple[int, int],
    square: tuple[slice, slice],
) -> None:
    """Copy to a core what its square has there; past the raster's edge there may be nothing."""
    row, col = (number * window.core for number in place)
    core = canvas[row : row + window.core, col : col + window.core]
    top, left = (window.halo + n - side.start for n, side in zip((row, col), square, strict=True))
    part = values[top : top + window.core, left : left + window.core]
    core[: part.shape[0], : part.shape[1]] = part


def _spread(cells: np.ndarray, core: int) -> np.ndarray:
    """A value per core as one per pixel."""
    return cells.repeat(core, axis=0).repeat(core, axis=1)
