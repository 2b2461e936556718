"""How far the before image lies from the after image: measured, reported, corrected when asked."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from skimage.registration import phase_cross_correlation

from .errors import Refused
from .grid import pixel_metres
from .pair import Pair
from .scene import ReadError

TILE = 256
"""Side of a measured tile, px."""

_MOST_TILES = 64
_TEXTURE = 4.0
"""Least standard deviation of grey values in a tile that can be located."""
_AGREE = 1.5
"""Tiles within this many px of the median support it."""
LARGE = 3.0
"""Shift, px, from which a pair counts as misregistered."""


@dataclass(frozen=True)
class Shift:
    """The measured shift that brings the before image onto the after image."""

    rows_px: float
    """Down, px of the grid: move the before image by this to lie on the after image."""
    cols_px: float
    """To the right, px."""
    x_m: float
    """East, metres."""
    y_m: float
    """North, metres."""
    confidence: float
    """Share of the measured tiles that agree with the median within 1.5 px, 0-1."""
    tiles: int
    """Number of tiles measured."""

    @property
    def length_px(self) -> float:
        """Length of the shift, px."""
        return math.hypot(self.rows_px, self.cols_px)

    def to_dict(self) -> dict[str, float | int]:
        """Plain values for `run.json`."""
        return asdict(self)


def measure_shift(pair: Pair) -> Shift:
    """Measure the residual shift of a pair by phase correlation.

    Tiles of 256 px lie on a grid anchored to the raster (at most 64 of them, evenly spread); each
    gives a shift to a tenth of a pixel, and their median is the answer, fitted again to those that
    agree with it. Without a tile that can be measured the confidence is 0.
    """
    if pair.pre is None:
        raise Refused("A shift is measured between two images; give a before image.")
    found = [shift for place in _places(pair.grid.shape) if (shift := _tile_shift(pair, *place))]
    if not found:
        return Shift(0.0, 0.0, 0.0, 0.0, 0.0, 0)
    shifts = np.array(found)
    near = np.hypot(*(shifts - np.median(shifts, axis=0)).T) <= _AGREE
    rows, cols = np.median(shifts[near], axis=0) if near.any() else np.median(shifts, axis=0)
    height, width = pixel_metres(pair.grid)
    return Shift(
        round(float(rows), 3),
        round(float(cols), 3),
        round(float(cols) * width, 3),
        round(float(-rows) * height, 3),
        round(float(near.mean()) * min(1.0, len(found) / 4), 3),
        len(found),
    )


def _places(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Upper left corners of the measured tiles: on multiples of the tile's side, evenly spread."""
    down, across = max(1, shape[0] // TILE), max(1, shape[1] // TILE)
    step = max(1, math.ceil(math.sqrt(down * across / _MOST_TILES)))
    return [(i * TILE, j * TILE) for i in range(0, down, step) for j in range(0, across, step)]


def _tile_shift(pair: Pair, row: int, col: int) -> tuple[float, float] | None:
    """Rows and columns that move one tile's before image onto its after image."""
    try:
        pixels = pair.read(row, col, row + TILE, col + TILE)
    except ReadError:
        return None
    if pixels.valid.mean() < 0.9:
        return None
    pre, post = (np.nan_to_num(p.astype(np.float32)).mean(axis=0) for p in pixels[:2])
    if min(pre.std(), post.std()) < _TEXTURE:
        return None
    taper = np.hanning(TILE)[:, None] * np.hanning(TILE)[None]
    shift, *_ = phase_cross_correlation(
        (post - post.mean()) * taper, (pre - pre.mean()) * taper, upsample_factor=10
    )
    if math.hypot(*shift) > TILE / 4:
        return None
    return float(shift[0]), float(shift[1])
