"""Which chips are for training, which for validation and which for testing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ...scenes.errors import Refused
from ...scenes.places import Label, Place
from ...scenes.split import divide
from ..building_score import count_buildings
from .chipset import ChipSet


@dataclass(frozen=True)
class Division:
    """How chips that bring no parts are divided."""

    shares: Mapping[str, float]
    """Of each part."""
    by_building: bool = False
    """Whether buildings are shared out, damaged ones and others; else places are."""


MAIN = Division({"train": 0.70, "validation": 0.15, "test": 0.15})
"""The main training of paper 001, section III.D."""

AMATRICE = Division({"train": 0.70, "validation": 0.20, "test": 0.10}, by_building=True)
"""Paper 004. Whole places, with all that stands there, so that no crop of one part shows a building
of another."""

PRETRAINING = {"train": 0.92, "validation": 0.04, "test": 0.04}
"""Shares of pre-training; of the places of the main training, never of those it is tested on."""

_SEED = 0
"""Of the division of chips that bring none: the same whatever the training's own seed is."""


def division_of(method: str) -> Division:
    """How chips that bring no parts are divided for a network: always alike, so that none is tested
    on what it has learnt from."""
    return AMATRICE if method in ("unet-footprints", "grid-classifier") else MAIN


def divided(chips: ChipSet, division: Division = MAIN) -> ChipSet:
    """The chips with a split each: their own where they have one, else by `division`, neighbours
    together."""
    if any(place.split for place in chips.places):
        return chips
    counts = _buildings(chips) if division.by_building else None
    splits = divide(_labelled(chips), division.shares, _SEED, counts=counts)
    return chips.placed([replace(p, split=s) for p, s in zip(chips.places, splits, strict=True)])


def main_parts(
    chips: ChipSet, intact: bool = True, division: Division = MAIN
) -> dict[str, ChipSet]:
    """Training, validation and test part of the main training.

    `intact=False` leaves out places that show no damage, as paper 001 does. Raises Refused where
    nothing is left to train or to validate on.
    """
    whole = divided(chips, division)
    found = {name: whole.part(name) for name in division.shares}
    if not intact:
        found = {
            name: part.subset([i for i in range(len(part)) if part.damaged(i)])
            for name, part in found.items()
        }
    for name in ("train", "validation"):
        if not len(found[name]):
            raise Refused(
                f"{chips.source} has {len(chips)} chips, of which none "
                f"{'' if intact else 'that shows damage '}belongs to the {name} part. Give more "
                f"chips, other splits in places.csv, or a folder to --validation."
            )
    return found


def pretraining_parts(chips: ChipSet) -> dict[str, ChipSet]:
    """What pre-training learns from ("train"), is examined on ("held") and is tested on ("test").

    The first two lie within the training part of the main training, and "held" is what paper 001
    divides into validation and test; the last is the test part of the main training, of which
    pre-training sees nothing. Parts may lack places with damage or without.
    """
    whole = divided(chips)
    train = whole.part("train")
    if not any(place.pretrain for place in train.places):
        names = divide(_labelled(train), PRETRAINING, _SEED) if len(train) else []
        train = train.placed(
            [replace(p, pretrain=s) for p, s in zip(train.places, names, strict=True)]
        )
    chosen = {"train": {"train"}, "held": {"validation", "test"}}
    parts = {
        name: train.subset([i for i, p in enumerate(train.places) if p.pretrain in wanted])
        for name, wanted in chosen.items()
    }
    return parts | {"test": whole.part("test")}


def _labelled(chips: ChipSet) -> list[Place]:
    """The places with what their masks say for a label, so that each part gets its share of both."""
    words: dict[bool | None, Label] = {True: "damaged", False: "intact", None: ""}
    return [replace(p, label=words[chips.damaged(i)]) for i, p in enumerate(chips.places)]


def _buildings(chips: ChipSet) -> np.ndarray:
    """Undamaged and damaged buildings of each place, and whether it has none: (places, 3)."""
    counts = np.zeros((len(chips), 3))
    for index in range(len(chips)):
        counts[index, :2] = count_buildings(chips.codes(index))
    counts[:, 2] = ~counts.any(axis=1)
    return counts
