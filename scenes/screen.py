"""Screens: which patches of an image are worth learning from, by the rules of paper 001."""

from __future__ import annotations

from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Literal

import numpy as np

from .errors import UsageError

Verdict = Literal["kept", "black", "snow", "variance"]
VERDICTS: tuple[Verdict, ...] = ("kept", "black", "snow", "variance")

DARK = 10
"""Red + green + blue below which a pixel is black, and above which it counts for the other screens;
a pixel of exactly this sum does neither."""

_SUMS = 3 * 255 + 1


@dataclass(frozen=True)
class Screens:
    """Thresholds of the three screens; None switches one off. The defaults are the paper's."""

    black: float | None = 0.05
    """Largest share of black pixels."""
    snow: float | None = 500.0
    """Largest mean of red + green + blue (0-765): brighter patches are snow or cloud. (The paper's
    sentence says the opposite of what its authors' program does, which this follows.)"""
    variance: float | None = 2601.0
    """Least variance of the grey value (red + green + blue) / 3: "4 %" of 255 squared."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            most = {"black": 1.0, "snow": 765.0, "variance": 127.5**2}[field.name]
            if value is not None and not 0 <= value <= most:
                raise UsageError(
                    f"--{field.name} {value:g} is no threshold: give 0 to {most:g}, or off."
                )

    def judge(self, pixels: np.ndarray) -> Verdict:
        """Whether a patch is kept, or the first screen that removes it: black, snow, variance.

        `pixels` is uint8 (3, h, w). All sums are whole numbers, so a patch on a threshold is
        judged as it is written. Paper 001 section III.B, with the rules of its authors' program:
        the share of pixels with a sum below 10 must not exceed `black`; over the pixels with a sum
        above 10 the mean sum must not exceed `snow`, and the population variance of a third of it
        must reach `variance`. A patch without any such pixel is black.
        """
        counts = _histogram(pixels)
        sums = np.arange(DARK + 1, _SUMS)
        bright = counts[DARK + 1 :]
        n, total = int(bright.sum()), int(bright @ sums)
        squares = int(bright @ sums**2)
        dark = Fraction(int(counts[:DARK].sum()), int(counts.sum()))
        if self.black is not None and (n == 0 or dark > _exactly(self.black)):
            return "black"
        if self.snow is not None and n and Fraction(total, n) > _exactly(self.snow):
            return "snow"
        spread = Fraction(n * squares - total**2, 9 * n**2) if n else Fraction(0)
        if self.variance is not None and spread < _exactly(self.variance):
            return "variance"
        return "kept"


def threshold(text: str, name: str) -> float | None:
    """A threshold as written on the command line: a number, or off. Raises UsageError."""
    if text.strip().lower() == "off":
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--{name} {text!r} is no threshold: give a number, or off.") from None


def _histogram(pixels: np.ndarray) -> np.ndarray:
    """How many pixels have each sum of red, green and blue: int64 (766,)."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or len(pixels) != 3 or not pixels.size:
        raise ValueError(f"a patch is uint8 (3, h, w), not {pixels.dtype} {pixels.shape}")
    sums = pixels.sum(axis=0, dtype=np.uint16)
    return np.bincount(sums.ravel(), minlength=_SUMS)


def _exactly(number: float) -> Fraction:
    """A threshold as it is written: 0.05 is a twentieth, not the nearest binary fraction."""
    return Fraction(repr(float(number)))
