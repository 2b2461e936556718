"""The chips that a training's configuration names: what to learn from, to validate and to test on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..scenes.errors import Refused
from ..scenes.legend import LEVELS, entry
from .augment import AUGMENTERS, FOLDER, PLAIN, Augment, Augmenter, recolour
from .chips.chip import Chip, Chips
from .chips.chipset import ChipSet
from .chips.mixture import Mixture, Source
from .chips.open import open_chips
from .chips.parts import main_parts
from .chips.synthetic import SyntheticChips
from .metrics import DAMAGED
from .recipes import SYNTHETIC, LoopConfig, SyntheticRecipe, TrainConfig

_APART = {"train": 0, "validation": 500_000, "test": 250_000}
"""How far the seeds of each part of the synthetic scenes lie from the first one."""


@dataclass(frozen=True)
class Sources:
    """What a training learns from, and what it is judged by."""

    train: Mixture
    validation: tuple[Chips, ...]
    """One set per source."""


def training_sources(config: TrainConfig) -> Sources:
    """Open the sources of a main training.

    Raises Refused for chips that cannot be read, and where a class that is to be learnt does not
    occur in the training or the validation part.
    """
    if config.validation is None:
        parts = [source_parts(name, config) for name in config.data]
        found, held = ([part[which] for part in parts] for which in ("train", "validation"))
    else:
        found = [_whole(name, config) for name in config.data]
        held = [_whole(config.validation, config)]
    _check_classes({"train": found, "validation": held}, config.classes)
    return Sources(mixture(found, config), tuple(held))


def _whole(name: str, config: TrainConfig) -> Chips:
    """All chips of a source, where others are given for validation."""
    if name == SYNTHETIC:
        return source_parts(name, config)["train"]
    return open_chips(name, config.classes)


def source_parts(name: str, config: TrainConfig) -> Mapping[str, Chips]:
    """Training, validation and test part of a source."""
    if name == SYNTHETIC:
        return synthetic_parts(config.synthetic, config.scenes)
    return main_parts(open_chips(name, config.classes), config.intact)


def synthetic_parts(recipe: SyntheticRecipe, cache: Path) -> dict[str, Chips]:
    """The parts of a recipe's scenes; none is rendered before it is asked for."""
    counts = {"train": recipe.scenes, "validation": recipe.validation, "test": recipe.test}
    return {
        part: SyntheticChips(range(first, first + count), recipe.side, recipe.resolution, cache)
        for part, count in counts.items()
        for first in [recipe.first_seed + _APART[part]]
    }


def mixture(chips: Sequence[Chips], config: LoopConfig) -> Mixture:
    """Sources with their weights and their ways of being changed."""
    weights = config.weights or [float(len(part)) for part in chips]
    sources = zip(chips, config.data, weights, strict=True)
    return Mixture([Source(c, _augmenter(name, config), w) for c, name, w in sources])


class Exam:
    """Validation chips, read anew each time, so that their number is no matter of memory.

    They are cut to whole strides of the network; synthetic ones are seen in a light of their own.
    """

    def __init__(self, held: Sequence[Chips], seed: int, stride: int) -> None:
        self.held, self.seed, self.stride = tuple(held), seed, stride

    def __len__(self) -> int:
        return sum(map(len, self.held))

    def __iter__(self) -> Iterator[Chip]:
        return (self._chip(chips, i) for chips in self.held for i in range(len(chips)))

    def chip(self, number: int) -> Chip:
        """A chip by its number."""
        for chips in self.held:
            if number < len(chips):
                return self._chip(chips, number)
            number -= len(chips)
        raise IndexError(number)

    def few(self, count: int) -> list[Chip]:
        """At most so many of the chips, evenly spread."""
        step = max(1, len(self) / count)
        return [self.chip(int(k * step)) for k in range(min(count, len(self)))]

    def _chip(self, chips: Chips, index: int) -> Chip:
        chip = chips.chip(index)
        height, width = (side // self.stride * self.stride for side in chip.codes.shape)
        pre, post = (np.array(x[:, :height, :width]) for x in (chip.pre, chip.post))
        codes = np.array(chip.codes[:height, :width])
        rng = np.random.default_rng([self.seed, 2**31, index])
        light = Augment() if isinstance(chips, SyntheticChips) else PLAIN
        return Chip(*recolour(pre, post, light, rng), codes, chip.damaged, chip.name)


def _augmenter(name: str, config: LoopConfig) -> Augmenter:
    return AUGMENTERS.get(config.augment) or (Augment() if name == SYNTHETIC else FOLDER)


def _check_classes(parts: Mapping[str, Sequence[Chips]], classes: int) -> None:
    """Refuse where a class does not occur: it could not be learnt, or nothing said how well it is."""
    for name, sources in parts.items():
        sets = [chips for chips in sources if isinstance(chips, ChipSet)]
        if len(sets) < len(sources):
            continue  # synthetic towns have buildings of all levels
        found = frozenset().union(*(chips.values for chips in sets))
        if classes == 1:
            missing = [] if found & set(DAMAGED) else ["damage"]
        else:
            missing = [f"{c} ({entry(c).name})" for c in LEVELS if c not in found]
        if missing:
            chips = sum(len(part) for part in sets)
            raise Refused(
                f"The {name} part of {', '.join(part.source for part in sets)} ({chips} chips) "
                f"holds the codes {', '.join(map(str, sorted(found)))}: no {', '.join(missing)}. "
                f"Give more chips, other splits in places.csv, synthetic scenes beside them "
                f"(--data synthetic)" + (", or train with --classes 1." if classes == 5 else ".")
            )
