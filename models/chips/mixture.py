"""Several sources of chips as one, each with its weight and its own way of being changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..augment import Augmenter
from .chip import Chip, Chips


@dataclass(frozen=True)
class Source:
    """Chips to draw from."""

    chips: Chips
    augment: Augmenter
    weight: float
    """Share in an epoch, in the unit of the other sources."""


class Mixture:
    """Sources as one numbered set; what an epoch takes is a function of the seed alone."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)
        self._starts = np.concatenate([[0], np.cumsum([len(s.chips) for s in sources])])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def order(self, wanted: int, seed: int, epoch: int) -> list[int]:
        """Numbers of the chips of an epoch.

        Each source gives its share, shuffled, and begun again as often as that asks.
        """
        shares = apportioned([source.weight for source in self.sources], wanted)
        parts = []
        for number, (source, share) in enumerate(zip(self.sources, shares, strict=True)):
            # The first source's shuffle does not depend on whether there are others.
            key = (seed, epoch, number) if number else (seed, epoch)
            parts.append(self._starts[number] + order(len(source.chips), share, key))
        if len(parts) == 1:
            return parts[0].tolist()
        mixed = np.random.default_rng([seed, epoch, 2**31]).permutation(np.concatenate(parts))
        return [int(i) for i in mixed]

    def damaged(self, index: int) -> bool | None:
        """Whether a chip shows damage; None where only its pixels tell."""
        source, place = self._at(index)
        return source.chips.damaged(place)

    def chip(self, index: int) -> Chip:
        """A chip as it is."""
        source, place = self._at(index)
        return source.chips.chip(place)

    def draw(self, index: int, size: int, key: tuple[int, ...]) -> Chip:
        """A chip of two of its dates, cropped to `size` px and changed; the same for the same key."""
        source, place = self._at(index)
        rng = np.random.default_rng([2**32 - 1, *(word & 0xFFFFFFFF for word in key)])
        return source.augment.draw(source.chips.chip(place, rng), size, key)

    def _at(self, index: int) -> tuple[Source, int]:
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self.sources[number], index - int(self._starts[number])


def order(count: int, wanted: int, key: Sequence[int]) -> np.ndarray:
    """`wanted` numbers below `count`: shuffled, and shuffled anew when all have been taken."""
    rng = np.random.default_rng(list(key))
    rounds = [rng.permutation(count) for _ in range(max(1, math.ceil(wanted / count)))]
    return np.concatenate(rounds)[:wanted]


def apportioned(weights: Sequence[float], wanted: int) -> list[int]:
    """Whole numbers in the ratio of the weights that add up to `wanted`."""
    ends = np.rint(np.cumsum(weights) / sum(weights) * wanted).astype(int)
    return np.diff(ends, prepend=0).tolist()
