"""The chips that a training's configuration names: what to learn from, to validate and to test on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..scenes.errors import Refused
from ..scenes.layer import NOT_ANALYSED
from ..scenes.legend import LEVELS, entry
from .augment import AUGMENTERS, FOLDER, PLAIN, Augment, Augmenter, recolour
from .chips.chip import Chip, Chips
from .chips.chipset import ChipSet
from .chips.mixture import Mixture, Source
from .chips.open import open_chips
from .chips.parts import division_of, main_parts
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
    parts: Mapping[str, Sequence[Chips]]
    """All that the sources were divided into, by name."""


def training_sources(config: TrainConfig) -> Sources:
    """Open the sources of a main training.

    Raises Refused for chips that cannot be read, and where a class that is to be learnt does not
    occur in the training or the validation part.
    """
    if config.validation is None:
        parts = [source_parts(name, config) for name in config.data]
        named = {
            which: [part[which] for part in parts] for which in ("train", "validation", "test")
        }
    else:
        found = [_whole(name, config) for name in config.data]
        named = {"train": found, "validation": [_whole(config.validation, config)]}
    for which in ("train", "validation"):
        _check_codes(which, named[which], config)
    return Sources(mixture(named["train"], config), tuple(named["validation"]), named)


def _whole(name: str, config: TrainConfig) -> Chips:
    """All chips of a source, where others are given for validation."""
    if name == SYNTHETIC:
        return source_parts(name, config)["train"]
    return open_chips(name, config.classes)


def source_parts(name: str, config: TrainConfig) -> Mapping[str, Chips]:
    """Training, validation and test part of a source."""
    if name == SYNTHETIC:
        return synthetic_parts(config.synthetic, config.scenes)
    return main_parts(open_chips(name, config.classes), config.intact, division_of(config.method))


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
        if not height * width:
            raise Refused(
                f"The validation chip {chip.name!r} has {'×'.join(map(str, chip.codes.shape))} px, and "
                f"this network looks at {self.stride} px or more. Give larger chips to --data, or "
                f"another --chip."
            )
        pre, post = (np.array(x[:, :height, :width]) for x in (chip.pre, chip.post))
        codes = np.array(chip.codes[:height, :width])
        rng = np.random.default_rng([self.seed, 2**31, index])
        light = Augment() if isinstance(chips, SyntheticChips) else PLAIN
        return Chip(*recolour(pre, post, light, rng), codes, chip.damaged, chip.name)


def _augmenter(name: str, config: LoopConfig) -> Augmenter:
    return AUGMENTERS.get(config.augment) or (Augment() if name == SYNTHETIC else FOLDER)


def _check_codes(part: str, sources: Sequence[Chips], config: TrainConfig) -> None:
    """Refuse where what is to be learnt does not occur, or nothing would say how well it is."""
    sets = [chips for chips in sources if isinstance(chips, ChipSet)]
    if len(sets) < len(sources):
        return  # synthetic towns have buildings of all levels
    found: frozenset[int] = frozenset().union(*(chips.values for chips in sets))
    missing = _missing(found, config)
    if missing:
        count = sum(map(len, sets))
        may_drop = config.classes == 5 and config.method != "dual-hrnet"
        raise Refused(
            f"The {part} part of {', '.join(chips.source for chips in sets)} ({count} chips) "
            f"holds the codes {', '.join(map(str, sorted(found)))}: no {', '.join(missing)}. "
            f"Give more chips, other splits in places.csv, synthetic scenes beside them "
            f"(--data synthetic)" + (", or train with --classes 1." if may_drop else ".")
        )


def _missing(found: frozenset[int], config: TrainConfig) -> list[str]:
    """What is to be learnt and does not occur among damage codes, in words."""
    if config.classes == 5:
        return [f"{c} ({entry(c).name})" for c in LEVELS if c not in found]
    wanted = {"damage": bool(found & set(DAMAGED))}
    if config.method == "unet-footprints":
        wanted = {"buildings": bool(found - {0, NOT_ANALYSED})}
    if config.method == "grid-classifier":
        wanted |= {"undamaged buildings (code 1)": 1 in found}
    return [name for name, there in wanted.items() if not there]
