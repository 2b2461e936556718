"""Squares that features of an untrained backbone tell apart badly, and a network that learns them well."""

from __future__ import annotations

from collections import Counter

import numpy as np

CHECKS = 8
"""Side of what lies somewhere in a square, px."""


def checks(damaged: np.ndarray, side: int, strength: float = 50.0, seed: int = 0) -> np.ndarray:
    """Noise with a patch of red and one of green checks, uint8 (n, 3, side, side).

    They lie on the same spot where there is damage, and apart where there is none; there is as much of
    each in all.
    """
    rng = np.random.default_rng(seed)
    squares = rng.normal(128, 20, (len(damaged), 3, side, side))
    patch = strength * (-1.0) ** np.add.outer(np.arange(CHECKS), np.arange(CHECKS))
    for square, together in zip(squares, damaged, strict=True):
        red, green = rng.integers(0, side - CHECKS, (2, 2))
        for band, (row, col) in enumerate((red, red if together else green)):
            square[band, row : row + CHECKS, col : col + CHECKS] += patch
    return np.clip(squares, 0, 255).astype(np.uint8)


class Squares:
    """As many of both kinds, about; and how often each was read. See `Pictures`."""

    def __init__(self, count: int, side: int = 32, seed: int = 0) -> None:
        self.side = side
        self.damaged = np.random.default_rng(seed).random(count) < 0.5
        self.pixels = checks(self.damaged, side, seed=seed + 1)
        self.read: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self.pixels)

    def image(self, index: int) -> np.ndarray:
        """uint8 (3, side, side)."""
        self.read[index] += 1
        return self.pixels[index]

    def digest(self, index: int) -> str:
        """Of its number."""
        return f"{index:064}"
