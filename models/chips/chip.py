"""One training example, and what a set of them must offer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...scenes.layer import NOT_ANALYSED
from ..metrics import DAMAGED


@dataclass(frozen=True)
class Chip:
    """One training example, the same for all networks.

    Codes are damage codes: 0 background, 1-4 levels, 5 damaged without a level, 255 left out;
    pixels that are black in either image are left out, for black is nodata.
    """

    pre: np.ndarray
    """Before, uint8 (3, h, w)."""
    post: np.ndarray
    """After, uint8 (3, h, w)."""
    codes: np.ndarray
    """uint8 (h, w)."""
    damaged: bool | None = None
    """Whether somebody said that damage is visible; None: the codes tell."""
    name: str = ""
    """What to call it in messages."""

    def __post_init__(self) -> None:
        shape = self.codes.shape
        if self.pre.shape != (3, *shape) or self.post.shape != (3, *shape):
            raise ValueError(
                f"pre {self.pre.shape}, post {self.post.shape} and codes {shape} do not match"
            )

    @property
    def shows_damage(self) -> bool:
        """Whether it shows damage: what its codes say, or without codes what somebody said."""
        known = self.codes != NOT_ANALYSED
        if self.damaged is not None and not known.any():
            return self.damaged
        return bool(np.isin(self.codes, DAMAGED).any())


class Chips(Protocol):
    """A data set: chips by number. `chip` may be called from several threads."""

    def __len__(self) -> int: ...

    def chip(self, index: int, rng: np.random.Generator | None = None) -> Chip:
        """The chip at a position; of several dates `rng` draws two, and None takes the same always."""
        ...

    def damaged(self, index: int) -> bool | None:
        """Whether the chip at a position shows damage; None where only its pixels tell."""
        ...


def without_nodata(pre: np.ndarray, post: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Codes (h, w) with 255 where either image (3, h, w) is black."""
    black = ~(pre.any(axis=0) & post.any(axis=0))
    return np.where(black, np.uint8(NOT_ANALYSED), codes)
