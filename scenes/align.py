"""How far the before image lies from the after image: measured, reported, corrected when asked."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from odc.geo.geobox import GeoBox
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
AGREE = 1.5
"""Tiles within this many px of the median support it."""
LARGE = 3.0
"""Shift, px, from which a pair counts as misregistered."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """What was measured on each tile that could be."""

    centres: np.ndarray
    """Row and column of each tile's centre, px of the full raster; float64, (n, 2)."""
    shifts: np.ndarray
    """Rows and columns that move the before image onto the after image there, px; (n, 2)."""

    def __len__(self) -> int:
        return len(self.centres)


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
    """Measure the one shift of a pair that most of its tiles agree with; see `measure_tiles`."""
    return summarise(measure_tiles(pair), pair.grid)


def measure_tiles(pair: Pair) -> Tiles:
    """Measure the residual shift of a pair on tiles, by phase correlation.

    Tiles of 256 px lie on a grid anchored to the raster (at most 64 of them, evenly spread); each
    gives a shift to a tenth of a pixel. Tiles without texture or data give none.
    """
    if pair.pre is None:
        raise Refused("A shift is measured between two images; give a before image.")
    places = _places(pair.grid.shape)
    found = {place: shift for place in places if (shift := _tile_shift(pair, *place))}
    centres = np.array(list(found), np.float64).reshape(-1, 2) + TILE / 2
    return Tiles(centres, np.array(list(found.values()), np.float64).reshape(-1, 2))


def summarise(tiles: Tiles, grid: GeoBox) -> Shift:
    """The median shift of the tiles, fitted again to those that agree with it.

    Without a tile the confidence is 0.
    """
    shifts = tiles.shifts
    if not len(tiles):
        return Shift(0.0, 0.0, 0.0, 0.0, 0.0, 0)
    near = np.hypot(*(shifts - np.median(shifts, axis=0)).T) <= AGREE
    rows, cols = np.median(shifts[near], axis=0) if near.any() else np.median(shifts, axis=0)
    height, width = pixel_metres(grid)
    return Shift(
        round(float(rows), 3),
        round(float(cols), 3),
        round(float(cols) * width, 3),
        round(float(-rows) * height, 3),
        round(float(near.mean()) * min(1.0, len(tiles) / 4), 3),
        len(tiles),
    )


def spacing(shape: tuple[int, int]) -> int:
    """Distance between the centres of neighbouring tiles on a raster of this shape, px."""
    down, across = max(1, shape[0] // TILE), max(1, shape[1] // TILE)
    return TILE * max(1, math.ceil(math.sqrt(down * across / _MOST_TILES)))


def _places(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Upper left corners of the measured tiles: on multiples of the tile's side, evenly spread."""
    down, across = (max(TILE, side // TILE * TILE) for side in shape)
    step = spacing(shape)
    return [(row, col) for row in range(0, down, step) for col in range(0, across, step)]


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
