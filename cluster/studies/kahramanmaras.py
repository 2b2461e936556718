"""The study of paper 001: three networks, each without and with pre-training.

A task is a network and a seed: its encoder is pre-trained, the network trained three times, and
each tested on places that no training has seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from ...models.loop import silence
from ...models.presets import SMALL_PRETRAINING, SMALL_TRAINING, pretrain_config, train_config
from ...models.pretraining import Comparison, pretrain, separation_on_test
from ...models.published import VARIANTS
from ...models.recipes import PretrainConfig, TrainConfig
from ...models.sources import training_sources
from ...models.training import network_of, train
from ...scenes.errors import Refused
from .examination import examine, held_out
from .kahramanmaras_table import METHODS, KahramanmarasStudied, Outcome
from .paper import Asked, Task

PRESET = "kahramanmaras"

_SHARED = ("data", "weights", "size", "synthetic", "chip", "augment")
"""Settings of trainings that pre-trainings have too, unless they were given their own."""


@dataclass(frozen=True, eq=False)
class Trainings(Task):
    """A network and a seed: one pre-training, and one training per variant."""

    pretraining: PretrainConfig
    trainings: tuple[TrainConfig, ...]
    """In the order of VARIANTS."""

    def carry_out(self) -> dict[str, Any]:
        """Pre-train, train three times and test."""
        encoder = pretrain(self.pretraining, silence)
        before, after = separation_on_test(self.pretraining, encoder)
        scores: dict[str, Mapping[str, float]] = {}
        for variant, config in zip(VARIANTS, self.trainings, strict=True):
            chosen = config if variant == "none" else replace(
                config, encoder=str(encoder), freeze="all" if variant == "frozen" else "no"
            )  # fmt: skip
            weights = train(chosen, silence)
            found = examine(weights, chosen, self.folder / f"{variant}.png").metrics()
            scores[variant] = {name.removeprefix("damaged_"): x for name, x in found.items()}
        return asdict(Outcome(self.row, self.seed, before, after, scores))


class Kahramanmaras:
    """Nine rows, three of one task."""

    foreign: ClassVar[frozenset[str]] = frozenset({"encoder", "width"})
    pretrains: ClassVar[bool] = True
    training: ClassVar[Mapping[str, Any]] = {}
    """How trainings differ from the paper's."""
    pretraining: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, asked: Asked) -> None:
        self.tasks = tuple(self._tasks(asked))

    def settings(self) -> dict[str, Any]:
        """Those of the first task."""
        first = self.tasks[0]
        return {
            "pretraining": first.pretraining.decisive(),
            "training": first.trainings[0].decisive(),
        }

    def check(self) -> None:
        """Refuse networks and chips that do not fit, and a test part without damage or without rest."""
        first = self.tasks[0]
        config = first.trainings[0]
        network_of(config)
        training_sources(config)
        Comparison(first.pretraining, torch.device("cpu"), leads=False)
        parts = held_out(replace(config, intact=True))
        labels = [part.damaged(i) for part in parts for i in range(len(part))]
        with_damage, without = (sum(x is not wrong for x in labels) for wrong in (False, True))
        if not (with_damage and without):
            names = ", ".join(Path(name).name for name in config.data)
            raise Refused(
                f"A study is tested on places with damage and on places without, and of the "
                f"{len(labels)} in the test part of {names} {with_damage} show damage and {without} "
                f"do not. Give --data more chips, or other splits in places.csv."
            )

    def studied(
        self, path: Path, facts: Mapping[str, Any], outcomes: Sequence[Mapping[str, Any]]
    ) -> KahramanmarasStudied:
        """The nine rows."""
        found = [Outcome(**outcome) for outcome in outcomes]
        found.sort(key=lambda outcome: (METHODS.index(outcome.method), outcome.seed))
        return KahramanmarasStudied(path, facts, tuple(found))

    def _tasks(self, asked: Asked) -> Iterator[Trainings]:
        shared = {key: asked.training[key] for key in _SHARED if key in asked.training}
        training = {**self.training, **asked.training}
        pretraining = {**self.pretraining, **shared, **asked.pretraining}
        for seed in range(asked.seeds):
            for method in METHODS:
                folder = asked.path / f"{method}-{seed}"
                own = {"method": method, "seed": seed, "cache": str(asked.path / "scenes")}
                yield Trainings(
                    method,
                    seed,
                    folder,
                    pretrain_config({**pretraining, **own, "out": str(folder / "encoder")}, PRESET),
                    tuple(
                        train_config({**training, **own, "out": str(folder / variant)}, PRESET)
                        for variant in VARIANTS
                    ),
                )


class SmallKahramanmaras(Kahramanmaras):
    """The same, small enough for two cores."""

    training = SMALL_TRAINING
    pretraining = SMALL_PRETRAINING
