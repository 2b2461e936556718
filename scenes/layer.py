"""Named output rasters and how their values are stored: one byte per cell, 255 not analysed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

NOT_ANALYSED = 255
"""The code for "not looked at" in every stored layer and in `damage_class`; never 0."""

FULL = 250
"""The stored byte that stands for probability 1."""


@dataclass(frozen=True)
class Layer:
    """An output raster of a kernel.

    Class layers hold damage codes; probability layers hold 0-250 for 0-1. Both are uint8 with
    255 for not analysed.
    """

    name: str
    kind: Literal["class", "probability"]
    every: int = 1
    """Pixels per cell and side: 1 for a value per pixel, more for coarser cells."""


def encode(probability: np.ndarray) -> np.ndarray:
    """Store probabilities: float in 0-1 (NaN: not analysed) to uint8."""
    filled = np.where(np.isnan(probability), NOT_ANALYSED / FULL, np.clip(probability, 0.0, 1.0))
    return np.rint(filled * FULL).astype(np.uint8)


def decode(stored: np.ndarray) -> np.ndarray:
    """Read stored probabilities: uint8 to float32 in 0-1 with NaN where not analysed."""
    return np.where(stored == NOT_ANALYSED, np.float32(np.nan), stored.astype(np.float32) / FULL)
