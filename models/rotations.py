"""A chip in all its orientations: from above no direction is the right one; paper 003, section 3.2."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..scenes.errors import UsageError

STEP = 10
"""Degrees between turns; paper 003."""

_EXACT = 12
"""Digits to which sines are rounded, so that quarter turns copy pixels."""


@dataclass(frozen=True)
class Turn:
    """An orientation: mirrored left to right or not, then turned counter-clockwise."""

    degrees: int = 0
    mirrored: bool = False

    def __str__(self) -> str:
        return f"{self.degrees:03}{'m' if self.mirrored else ''}"


TURNS = tuple(
    Turn(degrees, mirrored) for degrees in range(0, 360, STEP) for mirrored in (False, True)
)
"""All 72 that differ. Paper 003 counts 144: 36 turns, each as it is, mirrored at either axis and at
both; but mirrored at both is turned by half, so each is counted twice."""


def context(side: int) -> int:
    """Side of the squares of which chips of `side` px can be cut in every orientation, px.

    The square root of 2 times as many, rounded up: 423 for 299, and 322 for the 227 of paper 003.
    """
    return math.isqrt(2 * side * side - 1) + 1


def turned(image: np.ndarray, turn: Turn, side: int) -> np.ndarray:
    """The middle of an image (bands, h, w), uint8, in an orientation: (bands, side, side).

    Bilinear; quarter turns copy pixels, for which the middle may be half a pixel beside the exact
    one. Raises UsageError where height or width is below `context(side)`, so that no corner is ever
    empty.
    """
    if min(image.shape[1:]) < context(side):
        raise UsageError(
            f"Chips of {side} px are turned within squares of {context(side)} px or more; got "
            f"{image.shape[1]}×{image.shape[2]} px. Read the photos with more context."
        )
    angle = math.radians(turn.degrees)
    cos, sin = round(math.cos(angle), _EXACT), round(math.sin(angle), _EXACT)
    # From rows and columns of the chip to those of the image, both from the middle.
    matrix = np.array([[cos, sin], [-sin, cos]])
    if turn.mirrored:
        matrix[1] *= -1
    half = (side - 1) / 2
    start = (np.array(image.shape[1:]) - side) / 2
    middle = half + (start if turn.degrees % 90 else np.floor(start))
    offset = middle - matrix @ np.array([half, half])
    out = np.empty((len(image), side, side), np.uint8)
    for band, target in zip(image, out, strict=True):
        ndimage.affine_transform(band, matrix, offset, (side, side), target, order=1)
    return out
