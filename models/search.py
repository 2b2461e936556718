"""Random search over hyperparameters: what a trial tries."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

POS_WEIGHT = 16.2578
"""Weight of damaged pixels that goes with the loss "bce"; of paper 001's published code."""

ACROSS = 4
"""Crops that are worked on at a time, whatever the batch: a batch of 32 takes 8 parts."""


@dataclass(frozen=True)
class Range:
    """An interval of real numbers, drawn from evenly, or evenly in the logarithm."""

    low: float
    high: float
    logarithmic: bool = False

    def draw(self, rng: np.random.Generator) -> float:
        """One number, to four digits, which is what is then written down and trained with."""
        if self.logarithmic:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high)
        return float(f"{value:.4g}")


@dataclass(frozen=True)
class Choice:
    """A few values, all equally likely."""

    values: tuple[Any, ...]

    def draw(self, rng: np.random.Generator) -> Any:
        """One of them."""
        return self.values[int(rng.integers(len(self.values)))]


SPACE: dict[str, Range | Choice] = {
    "loss": Choice(("bce", "dice", "iou")),
    "batch": Choice((4, 8, 16, 32)),
    "lr": Range(1e-5, 1e-2, logarithmic=True),
    "weight_decay": Range(1e-5, 1e-1, logarithmic=True),
    "dropout": Range(0.0, 0.5),
    "size": Choice(("small", "medium", "large")),
}
"""Paper 001, table I."""


def settings(seed: int, number: int) -> dict[str, Any]:
    """What trial `number` of a search tries: a function of both numbers alone."""
    rng = np.random.default_rng([seed, number])
    drawn = {name: space.draw(rng) for name, space in SPACE.items()}
    extra = {"pos_weight": POS_WEIGHT} if drawn["loss"] == "bce" else {}
    return drawn | {"accumulate": max(1, drawn["batch"] // ACROSS), **extra}
