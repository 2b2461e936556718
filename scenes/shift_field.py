"""The shift between two images from place to place, from the tiles that it was measured on.

A tile counts where it agrees with its neighbours: its shift lies near their median, nearer where
they agree among themselves (after the median test of Westerweel and Scarano, 2005, "Universal
outlier detection for PIV data"). Through those tiles goes a plane; what they differ from it is
averaged around each place. Where no tile is near, or those that are disagree, the one shift of the
whole pair takes over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from odc.geo.geobox import GeoBox

from .align import AGREE, Shift, Tiles, spacing, summarise
from .grid import pixel_metres

LIMIT_M = 10.0
"""Longest shift, m, by which a footprint is moved: about the width of a house, so that a wrong
measurement cannot put one on its neighbour's roof."""

SURE = 0.3
"""Confidence from which a footprint is moved. Tiles that see nothing in common agree with their
neighbours about one time in a hundred, so that three in ten are no accident."""

BEYOND = 0.25
"""Highest confidence of a shift longer than the limit."""

_NEIGHBOURS = 8
_REACH = 0.75
"""Standard deviation of the weights around a place, in distances between tiles."""
_WHOLE = 0.05
"""Weight of the whole pair's shift beside a tile's, which is 1 at its centre."""
_PLANE = 6
"""Fewer tiles than this make no plane."""


@dataclass(frozen=True, eq=False)
class Moves:
    """The shift at some places, and how far what was drawn on the before image is moved there."""

    rows_px: np.ndarray
    """Down, px: 0 where nothing is moved; float64."""
    cols_px: np.ndarray
    """To the right, px: 0 where nothing is moved."""
    x_m: np.ndarray
    """Measured shift to the east, m, moved by or not."""
    y_m: np.ndarray
    """To the north, m."""
    confidence: np.ndarray
    """Share of the tiles around that agree, or of all tiles where the whole pair's shift stands in;
    0-1, and `SURE` or more where the shift is moved by."""


@dataclass(frozen=True, eq=False)
class ShiftField:
    """The shift that brings the before image onto the after image, at any place of a raster."""

    tiles: Tiles
    """All tiles that were measured."""
    agrees: np.ndarray
    """Which of them agree with their neighbours, bool."""
    plane: np.ndarray
    """Rows and columns of shift, px, as 1, row and column of a place; (3, 2)."""
    whole: Shift
    """The one shift of the pair."""
    spacing: int
    """Distance between neighbouring tiles, px."""
    metres: tuple[float, float]
    """Height and width of a pixel, m."""

    @classmethod
    def of(cls, tiles: Tiles, grid: GeoBox) -> ShiftField:
        """Make a field of the tiles measured on a grid."""
        whole = summarise(tiles, grid)
        agrees = _agreeing(tiles, whole)
        plane = _plane(tiles.centres[agrees], tiles.shifts[agrees])
        shape = (grid.shape[0], grid.shape[1])
        return cls(tiles, agrees, plane, whole, spacing(shape), pixel_metres(grid))

    def at(self, rows: np.ndarray, cols: np.ndarray) -> Moves:
        """The shift at places given by row and column, px of the full raster.

        Longer than `LIMIT_M` or less sure than `SURE`, it is told and not moved by.
        """
        shift, confidence = self._measured(np.column_stack([rows, cols]).astype(np.float64))
        height, width = self.metres
        x, y = shift[:, 1] * width, -shift[:, 0] * height
        far = np.hypot(x, y) > LIMIT_M
        confidence = np.where(far, np.minimum(confidence, BEYOND), confidence)
        shift[confidence < SURE] = 0.0
        return Moves(shift[:, 0], shift[:, 1], np.round(x, 3), np.round(y, 3), confidence)

    def _measured(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shifts, px, and confidences at places: weighted means over tiles and the whole pair."""
        gap = places[:, None] - self.tiles.centres[None]
        weight = np.exp(-0.5 * (gap**2).sum(axis=2) / (_REACH * self.spacing) ** 2)
        trusted = weight * self.agrees
        plane = self._on_plane(places, clip=True)
        residual = self.tiles.shifts - self._on_plane(self.tiles.centres)
        support, every = trusted.sum(axis=1), weight.sum(axis=1)
        # Not a matrix product: its last bits may depend on how many places are asked for at once.
        around = (trusted[:, :, None] * residual[None]).sum(axis=1)
        local = support[:, None] * plane + around
        whole = np.array([self.whole.rows_px, self.whole.cols_px])
        shift = (local + _WHOLE * whole) / (support + _WHOLE)[:, None]
        confidence = (support + _WHOLE * self.whole.confidence) / (every + _WHOLE)
        confidence *= min(1.0, len(self.tiles) / 4)
        unsure = confidence < SURE
        shift[unsure] = whole
        confidence[unsure] = np.maximum(confidence[unsure], self.whole.confidence)
        return np.round(shift, 3), np.round(confidence, 3)

    def _on_plane(self, places: np.ndarray, clip: bool = False) -> np.ndarray:
        """The plane at places; with `clip` it is not followed far past the tiles it rests on."""
        known, half = self.tiles.centres[self.agrees], self.spacing / 2
        if clip and len(known):
            places = np.clip(places, known.min(axis=0) - half, known.max(axis=0) + half)
        return self.plane[0] + places[:, :1] * self.plane[1] + places[:, 1:] * self.plane[2]


def _agreeing(tiles: Tiles, whole: Shift) -> np.ndarray:
    """Which tiles agree with their neighbours; with few tiles, with the whole pair's shift."""
    others = min(_NEIGHBOURS, len(tiles) - 1)
    if others < 3:
        return np.hypot(*(tiles.shifts - [whole.rows_px, whole.cols_px]).T) <= AGREE
    gap = np.hypot(*(tiles.centres[:, None] - tiles.centres[None]).transpose(2, 0, 1))
    near = np.argsort(gap, axis=1, kind="stable")[:, 1 : others + 1]
    around = tiles.shifts[near]
    middle = np.median(around, axis=1)
    spread = np.median(np.hypot(*(around - middle[:, None]).transpose(2, 0, 1)), axis=1)
    apart = np.hypot(*(tiles.shifts - middle).T)
    return apart <= AGREE + np.minimum(spread, AGREE)


def _plane(centres: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """The plane of least squares through the tiles; level where they do not span one."""
    if not len(centres):
        return np.zeros((3, 2))
    terms = _terms(centres)
    spans = len(centres) >= _PLANE and np.linalg.matrix_rank(terms - terms.mean(axis=0)) == 2
    if spans:
        return np.linalg.lstsq(terms, shifts, rcond=None)[0]
    return np.vstack([np.median(shifts, axis=0), np.zeros((2, 2))])


def _terms(places: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(places)), places])
