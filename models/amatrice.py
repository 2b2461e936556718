"""How right the networks of paper 004 are, and whether the parts of chips are alike."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .chips.chip import Chip, Chips
from .curves import ScoreCounts
from .damage_net import SceneNet
from .evaluation import probability_map
from .losses import IGNORE
from .metrics import DAMAGED
from .sources import Exam

UNLIKE = 1.5
"""Parts are told to be unlike where shares differ by more than this factor."""

LOOKED_AT = 500
"""Chips of a source that tell what a part shows."""

_log = logging.getLogger(__name__)


def scene_counts(network: SceneNet, chips: Iterable[Chip]) -> ScoreCounts:
    """How probable a network found what is so, and what is not, pixel by pixel; see `SceneNet.truth`.

    A cell of the grid classifier counts as often as it has building pixels, as damaged or not by what
    each of them is: what comes of it is given to buildings by area.
    """
    total = ScoreCounts()
    for chip in chips:
        found = probability_map(network, chip)[0, 0].cpu().numpy()
        truth, known = (x[0].numpy() for x in network.truth(torch.tensor(chip.codes)[None]))
        total += ScoreCounts.of(found[known], truth[known])
    return total


def scene_metrics(counts: ScoreCounts, score: str) -> dict[str, float]:
    """Figures at the threshold of the highest F1, which is one of them; `score` names that which counts.

    Where nothing is so the threshold is one half, and so is "auc" where one kind is missing.
    """
    threshold = counts.best_threshold() or 0.5
    found = counts.at(threshold)
    names = ("accuracy", "precision", "recall", "f1", "iou")
    figures = {name: float(getattr(found, name)) for name in names}
    figures["auc"] = 0.5 if counts.auc is None else counts.auc
    return {"score": figures[score], "threshold": threshold, **figures}


@dataclass(frozen=True)
class Mix:
    """What the pixels of some chips show."""

    buildings: float
    """Share of the known pixels."""
    damaged: float
    """Share of the building pixels."""

    @classmethod
    def of(cls, sources: Sequence[Chips | Exam]) -> Mix:
        """Count the pixels of chips; of more than `LOOKED_AT` in a source, of so many."""
        counts = np.zeros(256, np.int64)
        for chips in sources:
            for index in np.linspace(0, len(chips) - 1, min(len(chips), LOOKED_AT)).astype(int):
                counts += np.bincount(chips.chip(int(index)).codes.ravel(), minlength=256)
        known = counts[:IGNORE].sum()
        buildings = counts[1:IGNORE].sum()
        return cls(
            float(buildings / max(known, 1)),
            float(counts[list(DAMAGED)].sum() / max(buildings, 1)),
        )


def check_alike(parts: Mapping[str, Sequence[Chips]], named: Mapping[str, str]) -> dict[str, float]:
    """Shares of what is `named` in each part of the chips; logs a warning where two parts are unlike.

    `named` holds fields of `Mix`, and what they are shares of in words. Paper 004 asks that its three
    samples be alike.
    """
    mixes = {name: Mix.of(chips) for name, chips in parts.items() if sum(map(len, chips))}
    found: dict[str, float] = {}
    for what, words in named.items():
        shares = {name: float(getattr(mix, what)) for name, mix in mixes.items()}
        if max(shares.values()) > UNLIKE * min(shares.values()):
            _log.warning(
                "The parts of the chips are unlike: %s %s. Scores of one say little of another. Give "
                "more chips, or other splits in places.csv.",
                ", ".join(f"{share:.1%} in {name}" for name, share in shares.items()),
                words,
            )
        found |= {f"{name}_{what}_share": share for name, share in shares.items()}
    return found
