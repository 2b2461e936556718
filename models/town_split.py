"""Divisions of photos by town, so that no building is both learnt from and tested on; paper 003, 4.2."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from ..scenes.errors import Refused
from .photos.photoset import PhotoSet

TEST_SIZE = 100
"""Photos of each class that are tested on; paper 003, section 4.1.1."""


@dataclass(frozen=True)
class TownSplit:
    """Which towns are for what."""

    train: tuple[str, ...]
    test: str
    validation: str = ""
    """Empty: there is none."""

    @property
    def code(self) -> str:
        """The towns as paper 003 writes them, but whole: train, test and validation, with dashes."""
        return "-".join(filter(None, ["+".join(self.train), self.test, self.validation]))


@dataclass(frozen=True)
class TownParts:
    """Photos drawn for a division."""

    train: PhotoSet
    test: PhotoSet
    validation: PhotoSet
    """Without photos where there is no town for it."""


def permuted(towns: Sequence[str]) -> tuple[TownSplit, ...]:
    """One town to train on, one to test on and one to validate on, in all ways: six for three towns.

    In the order of paper 003's table for the towns in the order given. Raises Refused for fewer
    than three.
    """
    _check(towns, 3)
    return tuple(TownSplit((a,), b, c) for a, b, c in permutations(towns, 3))


def held_out(towns: Sequence[str]) -> tuple[TownSplit, ...]:
    """Each town once to test on, all others to train on, as paper 003 examines classical methods.

    Its table says it the other way round, but its text and its code say so. Raises Refused for fewer
    than two.
    """
    _check(towns, 2)
    return tuple(TownSplit(tuple(t for t in towns if t != town), town) for town in towns)


def draw(
    photos: PhotoSet, split: TownSplit, size: int, seed: int, test_size: int = TEST_SIZE
) -> TownParts:
    """Photos of a division: `size` of each class to train and to validate on, `test_size` to test on.

    The photos of the towns are shuffled by `seed`, class by class, and the first ones taken: a larger
    size has all of a smaller one, and all sizes are tested on the same. Raises Refused where a class
    has too few.
    """

    def part(towns: Sequence[str], count: int) -> PhotoSet:
        return photos.subset(_drawn(photos, towns, count, seed))

    validation = [split.validation] if split.validation else []
    return TownParts(part(split.train, size), part([split.test], test_size), part(validation, size))


def _drawn(photos: PhotoSet, towns: Sequence[str], count: int, seed: int) -> list[int]:
    if not towns:
        return []
    # The photos drawn from a town do not depend on what other towns there are.
    name = hashlib.sha256("\0".join(towns).encode()).digest()
    found: list[int] = []
    for damaged in (False, True):
        these = [i for i, p in enumerate(photos.photos) if p.town in towns and p.damaged is damaged]
        if len(these) < count:
            raise Refused(
                f"{count} photos {'with' if damaged else 'without'} damage are needed from "
                f"{' and '.join(towns)}; {photos.source} has {len(these)}. Ask for smaller sizes, or "
                f"change --data."
            )
        rng = np.random.default_rng([seed, int.from_bytes(name[:8], "big"), damaged])
        found += [these[i] for i in rng.permutation(len(these))[:count]]
    return found


def _check(towns: Sequence[str], least: int) -> None:
    if len(set(towns)) < least:
        raise Refused(
            f"Photos from {least} towns or more are needed; found {len(set(towns))} "
            f"({', '.join(towns) or 'none'}). Put the photos of each town into a folder, or change "
            f"--data."
        )
