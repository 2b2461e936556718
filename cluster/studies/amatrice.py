"""The study of paper 004: footprints before, damage of grid cells after, and the map of both.

A task is a seed: both networks are trained, tested on places that no training has seen, and joined.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from ...kernels.methods import choose_device
from ...models.amatrice import Mix, scene_counts
from ...models.checkpoint import load
from ...models.chips.chip import Chip
from ...models.evaluation import probability_map
from ...models.loop import silence
from ...models.metrics import Confusion, confusion
from ...models.presets import AMATRICE_SMALL, train_config
from ...models.recipes import TrainConfig
from ...models.sources import Exam
from ...models.state import history
from ...models.training import Segmentation, train
from ...models.unet import GridClassifier, UNetFootprints
from ...models.unet_grid import check_cell, opened
from ...models.unet_join import join
from ...scenes.atomic import write_atomically
from ...scenes.errors import Refused
from .amatrice_picture import Shown, draw_shown
from .amatrice_table import AmatriceStudied, Outcome, figures_of
from .examination import held_out
from .paper import Asked, Task

PRESET = "amatrice"
METHODS = ("unet-footprints", "grid-classifier")

_PICTURED = 4
"""Test chips in the picture: those with most buildings."""


@dataclass(frozen=True, eq=False)
class Trainings(Task):
    """Both networks of a seed."""

    footprints: TrainConfig
    cells: TrainConfig

    def carry_out(self) -> dict[str, Any]:
        """Train both, test both, join them, and draw what they say."""
        outlines, levels = (train(config, silence) for config in (self.footprints, self.cells))
        join(outlines, levels, self.folder)
        buildings, first = load(outlines)
        damage, second = load(levels)
        assert isinstance(buildings, UNetFootprints)
        assert isinstance(damage, GridClassifier)
        for network, config in ((buildings, self.footprints), (damage, self.cells)):
            network.to(choose_device(config.device))
        chips = Exam(held_out(self.footprints), 0, buildings.stride)
        cells = Exam(held_out(self.cells), 0, damage.stride)
        found, told = scene_counts(buildings, chips), scene_counts(damage, cells)
        shown = [
            Shown.of(chip, buildings, first.threshold, damage, second.threshold)
            for chip in _most_built(cells)
        ]
        write_atomically(self.folder / "picture.png", draw_shown(shown))
        return asdict(
            Outcome(
                self.seed,
                figures_of(found.at(first.threshold), found.auc, first.threshold),
                figures_of(_opened(buildings, first.threshold, chips), None, first.threshold),
                figures_of(told.at(second.threshold), told.auc, second.threshold),
                (history(self.footprints.out), history(self.cells.out)),
            )
        )


class Amatrice:
    """Both networks of the paper, one pair per seed."""

    foreign: ClassVar[frozenset[str]] = frozenset(
        {"size", "classes", "dropout", "width", "stem", "loss", "init", "encoder"}
    )
    pretrains: ClassVar[bool] = False
    training: ClassVar[Mapping[str, Any]] = {}
    """How trainings differ from the preset's."""

    def __init__(self, asked: Asked) -> None:
        self.tasks = tuple(self._tasks(asked))

    def settings(self) -> dict[str, Any]:
        """Those of both networks, with the first seed."""
        first = self.tasks[0]
        return {config.method: config.decisive() for config in (first.footprints, first.cells)}

    def check(self) -> None:
        """Refuse networks and chips that do not fit, and a test part without buildings or damage."""
        first = self.tasks[0]
        for config in (first.footprints, first.cells):
            Segmentation(config)
        check_cell(first.cells.chip)
        parts = held_out(first.footprints)
        # What is tested of chips are whole cells.
        mix = Mix.of([Exam([part], 0, first.cells.chip) for part in parts])
        if not 0 < mix.buildings < 1 or not 0 < mix.damaged < 1:
            raise Refused(
                f"The study is tested on buildings, damaged ones and others, and in the test part "
                f"of {', '.join(Path(name).name for name in first.footprints.data)} "
                f"({sum(map(len, parts))} chips) {mix.buildings:.1%} of the ground are buildings, of "
                f"which {mix.damaged:.1%} are damaged. Give --data more chips, with masks that tell "
                f"undamaged buildings (code 1) from damaged ones, or other splits in places.csv."
            )

    def studied(
        self, path: Path, facts: Mapping[str, Any], outcomes: Sequence[Mapping[str, Any]]
    ) -> AmatriceStudied:
        """Its table."""
        return AmatriceStudied(path, facts, tuple(Outcome(**outcome) for outcome in outcomes))

    def _tasks(self, asked: Asked) -> Iterator[Trainings]:
        for seed in range(asked.seeds):
            folder = asked.path / f"seed-{seed}"
            first, second = (
                train_config(
                    {
                        **self.training,
                        **asked.training,
                        "method": method,
                        "seed": seed,
                        "cache": str(asked.path / "scenes"),
                        "out": str(folder / method),
                    },
                    PRESET,
                )
                for method in METHODS
            )
            # A classifier's cells are as large as the crops it learns from.
            yield Trainings("amatrice", seed, folder, first, replace(second, chip=first.chip))


class SmallAmatrice(Amatrice):
    """The same, small enough for two cores."""

    training = AMATRICE_SMALL


def _opened(network: UNetFootprints, threshold: float, chips: Exam) -> Confusion:
    """How right the footprints are once specks are opened away, as the map has them."""
    total = Confusion()
    for chip in chips:
        found = opened(probability_map(network, chip)[:, 0] > threshold)[0].cpu().numpy()
        truth, known = (x[0].numpy() for x in network.truth(torch.tensor(chip.codes)[None]))
        total += confusion(truth, found, known)
    return total


def _most_built(chips: Exam) -> list[Chip]:
    """The chips with most pixels of buildings, the first of equals first."""
    built = [int(((chip.codes > 0) & (chip.codes < 255)).sum()) for chip in chips]
    ranked = sorted(range(len(chips)), key=lambda number: (-built[number], number))
    return [chips.chip(number) for number in ranked[:_PICTURED]]
