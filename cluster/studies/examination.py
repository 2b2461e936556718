"""How right weights are on the test parts of all sources, which no training has seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...kernels.methods import choose_device
from ...models.checkpoint import load
from ...models.chips.chip import Chips
from ...models.damage_net import DamageNet
from ...models.evaluation import Evaluation, evaluate_chips
from ...models.panels import panels_of
from ...models.recipes import TrainConfig
from ...models.sources import Exam, source_parts
from ...scenes.atomic import write_atomically


def held_out(config: TrainConfig) -> list[Chips]:
    """The test part of each source."""
    return [source_parts(name, config)["test"] for name in config.data]


def examine(weights: Path, config: TrainConfig, picture: Path) -> Evaluation:
    """Count how right weights are on all test parts together.

    `picture` gets panels of the first source that has test chips.
    """
    network, _ = load(weights)
    assert isinstance(network, DamageNet)  # as `train` made it
    network.to(choose_device(config.device))
    parts = [part for part in held_out(config) if len(part)]
    exam = Exam(parts, 0, network.stride)
    found = evaluate_chips(network, exam)
    first = replace(found, images=found.images[: len(parts[0])])
    write_atomically(picture, panels_of(network, first, exam.chip))
    return found
