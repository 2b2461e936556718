"""Evaluation of a network on chips: which, at what threshold, here or on a cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from distributed import Client

from ..kernels.methods import choose_device
from ..models.card import Card
from ..models.checkpoint import load
from ..models.chips.chip import Chip
from ..models.chips.chipset import ChipSet
from ..models.chips.open import open_chips
from ..models.chips.parts import MAIN, divided
from ..models.damage_net import DamageNet
from ..models.evaluation import Evaluation, evaluate_chips
from ..models.panels import panels_of
from ..models.recipes import IMAGENET_MEAN, IMAGENET_STD
from ..models.unet_grid import UNetGrid
from ..scenes.errors import Refused, UsageError
from .client import connected
from .evaluated import FILES, Evaluated, write_evaluated
from .experiment import check_room
from .futures import Failure, run_bounded
from .progress import RunProgress

VALIDATION = "validation"
"""Instead of a threshold: the best one of the validation part."""

_SLICE = 8
"""Chips per task on a cluster: few enough to share evenly, enough to outweigh a task's cost."""


def evaluate(
    weights: str | Path,
    data: str | Path,
    out: str | Path,
    split: str = "test",
    threshold: float | str | None = None,
    intact: bool = True,
    client: Client | None = None,
    device: str = "auto",
    quiet: bool = True,
) -> Evaluated:
    """Evaluate weights on a part of a folder of chips.

    `split` is train, validation, test or all; chips that bring no parts are divided as training
    divides them. `threshold` is for one class; None takes the card's, "validation" the best of the
    validation part. `intact=False` leaves out places that show no damage, as paper 001 does.
    `client` shares the chips among workers, which see weights and chips under the same paths; the
    counts are the same. `out` gets the files of `FILES`.

    Raises UsageError for a threshold or a part that cannot be, Refused for weights or chips that
    cannot be used, for a part without damage, and for a folder that holds something else.
    """
    path = Path(out)
    network, card = _loaded(weights)
    asked = _asked(threshold, card, split)
    _check_folder(path)
    network.to(choose_device(device))
    chips = open_chips(Path(data).absolute(), card.classes)
    parts = _Parts(chips if split == "all" else divided(chips), intact)
    part = parts.asked(split)
    job = _Job(str(Path(weights).absolute()), card.sha256, device)

    def counted(which: str, chips: ChipSet, threshold: float) -> Evaluation:
        with RunProgress(len(chips), 0, quiet, noun=f"{which} chips") as progress:
            if client is not None:
                return _shared(client, job, chips, threshold, progress)
            return evaluate_chips(network, _each(chips, progress), threshold)

    best = None
    if card.classes == 1 and split in ("train", "test"):
        held = counted(VALIDATION, parts.of(VALIDATION), 0.5)
        best = held.scores.best_threshold()
    taken = _taken(asked, card, best, chips)
    found = counted(split, part, taken or 0.5)
    if not found.damaged_images:
        raise _no_damage(split, chips, part)
    by_us = split != "all" and not any(place.split for place in chips.places)
    done = Evaluated(path, split, taken, found, best, by_us, intact)
    write_evaluated(done, card, str(data), panels_of(network, found, part.chip, taken or 0.5))
    return done


def run_evaluate(arguments: Mapping[str, Any]) -> None:
    """Evaluate from the command line's arguments and print the figures."""
    cluster = arguments["cluster"]
    with connected(cluster, arguments["workers"]) if cluster else nullcontext() as client:
        done = evaluate(
            arguments["weights"],
            arguments["data"],
            arguments["out"],
            arguments["split"],
            arguments["threshold"],
            arguments["intact"],
            client,
            arguments["device"],
            quiet=arguments["as_json"],
        )
    print(json.dumps(done.to_dict(), indent=1) if arguments["as_json"] else done.text())


def _loaded(weights: str | Path) -> tuple[DamageNet, Card]:
    network, card = load(weights, bands=3)
    if not isinstance(network, DamageNet) or isinstance(network, UNetGrid):
        raise Refused(
            f"{weights} holds {card.network}, which is not evaluated on chips: give weights of a "
            f"network that finds damage between two images. How right the others are on validation "
            f"chips stands in their cards."
        )
    if (card.mean, card.std, card.scale) != (IMAGENET_MEAN, IMAGENET_STD, 255.0):
        raise Refused(
            f"The card of {weights} has its own mean, deviation or scale, and chips are evaluated with "
            f"those of our trainings. Give weights that `aftermap train` wrote."
        )
    return network, card


def _asked(threshold: float | str | None, card: Card, split: str) -> float | str | None:
    """The threshold that was asked for; UsageError for what cannot be, before any chip is read."""
    if split not in (*MAIN.shares, "all"):
        raise UsageError(f"--split {split!r} is none of {', '.join([*MAIN.shares, 'all'])}.")
    if threshold is None:
        return None
    if card.classes > 1:
        raise UsageError(
            f"--threshold {threshold} is for weights of one class; of the {card.classes} of these "
            f"the largest probability counts. Leave it out."
        )
    if threshold == VALIDATION:
        if split in ("all", VALIDATION):
            raise UsageError(
                f"--threshold validation needs validation chips that are not evaluated, and --split "
                f"{split} evaluates them too. Give a number, or --split test."
            )
        return threshold
    try:
        number = float(threshold)
    except ValueError:
        number = 0
    if not 0 < number < 1:
        raise UsageError(
            f"--threshold {threshold} is no probability between 0 and 1. Give one, or validation."
        )
    return number


def _check_folder(out: Path) -> None:
    """Refuse before anything is worked out what could not be written, or would not be alone."""
    check_room(out)
    others = sorted(p.name for p in out.iterdir() if not _ours(p.name)) if out.is_dir() else []
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise Refused(
            f"{out} holds {others[0]!r}{more}, which no evaluation wrote. Give another --out."
        )


def _ours(name: str) -> bool:
    """Whether a file is one of an evaluation, or what one that was killed left of it."""
    return name in FILES or any(name.startswith(f".{file}.") for file in FILES)


@dataclass(frozen=True)
class _Parts:
    """Chips that have parts."""

    chips: ChipSet
    intact: bool
    """Whether chips without damage count."""

    def of(self, split: str) -> ChipSet:
        """A part, which may be empty."""
        part = self.chips if split == "all" else self.chips.part(split)
        return part.subset([i for i in range(len(part)) if self.intact or part.damaged(i)])

    def asked(self, split: str) -> ChipSet:
        """The part to evaluate; Refused where there is nothing in it, or nothing damaged."""
        part = self.of(split)
        if not len(part):
            sizes = ", ".join(f"{name} {len(self.of(name))}" for name in MAIN.shares)
            damaged = "" if self.intact else " that show damage"
            raise Refused(
                f"{self.chips.source} has no chips{damaged} in its {split} part; by part they are: "
                f"{sizes}. Give another --split, such as all, or --data other chips."
            )
        if all(part.damaged(i) is False for i in range(len(part))):
            raise _no_damage(split, self.chips, part)
        return part


def _no_damage(split: str, chips: ChipSet, part: ChipSet) -> Refused:
    return Refused(
        f"The {split} part of {chips.source} ({len(part)} chips) shows no damage: nothing could be "
        f"said of how it is found. Give --data other chips, or another --split."
    )


def _taken(
    asked: float | str | None, card: Card, best: float | None, chips: ChipSet
) -> float | None:
    """The threshold to take, None for levels; Refused where validation chips cannot tell."""
    if card.classes > 1:
        return None
    if asked != VALIDATION:
        return card.threshold if asked is None else float(asked)
    if best is None:
        raise Refused(
            f"--threshold validation: the validation part of {chips.source} shows no damage. Give "
            f"a number, or --data other chips."
        )
    return best


@dataclass(frozen=True)
class _Job:
    """What every task needs to know."""

    weights: str
    digest: str
    device: str


@dataclass(frozen=True, eq=False)
class _Slice:
    """What one task does; told from others by identity."""

    number: int
    chips: ChipSet
    threshold: float


def _shared(
    client: Client, job: _Job, part: ChipSet, threshold: float, progress: RunProgress
) -> Evaluation:
    """Evaluate a part on a cluster: the same counts, in the same order."""
    slices = [
        _Slice(start, part.subset(range(start, min(start + _SLICE, len(part)))), threshold)
        for start in range(0, len(part), _SLICE)
    ]
    found: dict[int, Evaluation] = {}
    for result in run_bounded(client, _evaluated, slices, job, fatal=(Exception,)):
        assert not isinstance(result, Failure)
        number, counts = result
        found[number] = counts
        pixels = sum(vars(counts.pixels).values()) + counts.left_out
        for _ in counts.images:
            progress.advance(pixels // len(counts.images))
    return sum((found[number] for number in sorted(found)), Evaluation())


def _each(part: ChipSet, progress: RunProgress) -> Iterator[Chip]:
    for number in range(len(part)):
        chip = part.chip(number)
        yield chip
        progress.advance(chip.codes.size)


def _evaluated(job: _Job, work: _Slice) -> tuple[int, Evaluation]:
    """One task."""
    network = _kept(job)
    chips = (work.chips.chip(i) for i in range(len(work.chips)))
    return work.number, evaluate_chips(network, chips, work.threshold)


@lru_cache(maxsize=1)
def _kept(job: _Job) -> DamageNet:
    """The network, loaded once per process; Refused where a worker sees other weights."""
    network, card = _loaded(job.weights)
    if card.sha256 != job.digest:
        raise Refused(
            f"{job.weights} is another file on a worker (SHA-256 {card.sha256[:12]}…, not "
            f"{job.digest[:12]}…). Put it where all see it, or leave out --cluster."
        )
    return network.to(choose_device(job.device))
