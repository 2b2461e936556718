"""The study of paper 001 as one command: three networks, each without and with pre-training.

A task is a network and a seed: its encoder is pre-trained, the network trained three times, and
each tested on places that no training has seen. Killed and run again, a study goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..kernels.methods import choose_device
from ..models.change import ChangeNet
from ..models.checkpoint import load, write_atomically
from ..models.evaluation import evaluate_chips
from ..models.loop import silence
from ..models.panels import panels_of
from ..models.presets import (
    SMALL_PRETRAINING,
    SMALL_TRAINING,
    pretrain_config,
    train_config,
)
from ..models.pretraining import Comparison, pretrain, separation_on_test
from ..models.published import VARIANTS
from ..models.recipes import PretrainConfig, TrainConfig
from ..models.sources import Exam, source_parts, training_sources
from ..models.training import network_of, train
from ..scenes.errors import AftermapError, Refused, UsageError
from .client import connected
from .experiment import begin, check_folder, plain, seen_by_all
from .futures import Failure, run_bounded
from .progress import RunProgress
from .studied import METHODS, Outcome, Studied, write_report

PRESET = "kahramanmaras"
STUDIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "kahramanmaras": ({}, {}),
    "kahramanmaras-small": (SMALL_TRAINING, SMALL_PRETRAINING),
}
"""Studies, and how they differ from the paper in training and pre-training."""

_FACTS = "study.json"


@dataclass(frozen=True)
class Work:
    """What one task does."""

    method: str
    seed: int
    folder: Path
    pretraining: PretrainConfig
    trainings: tuple[TrainConfig, ...]
    """In the order of VARIANTS."""

    def __hash__(self) -> int:
        return hash((self.method, self.seed))

    @property
    def kept(self) -> Path:
        """What is left of it once it is done."""
        return self.folder / "outcome.json"


def study(
    name: str,
    out: str | Path,
    seeds: int = 1,
    training: Mapping[str, Any] | None = None,
    pretraining: Mapping[str, Any] | None = None,
    cluster: Any = "auto",
    workers: int | None = None,
    quiet: bool = True,
    memory: str | None = None,
) -> Studied:
    """Run a study, or go on with it.

    `training` and `pretraining` override the settings of the paper, by the names of `TrainConfig`
    and `PretrainConfig`; the sources of chips are those of `training`, for both. Tasks run on a
    cluster. `out` gets study.json with all figures, study.html, and a folder per network and seed.
    Where a network fails the others are trained all the same.

    Raises UsageError for an unknown study, Refused for chips that cannot be used and for a folder
    of a study that was made with other settings, AftermapError where a network failed.
    """
    if name not in STUDIES:
        raise UsageError(f"Unknown study {name!r}. Studies: {', '.join(STUDIES)}.")
    if seeds < 1:
        raise UsageError(f"--seeds {seeds} is no number of seeds; give 1 or more.")
    path = Path(out)
    first, then = (
        seen_by_all(base | dict(asked or {}))
        for base, asked in zip(STUDIES[name], (training, pretraining), strict=True)
    )
    todo = list(_works(path.absolute(), seeds, first, then))
    facts = plain({"study": name, "settings": _settings(todo[0])})
    check_folder(path, _FACTS, "study", facts)
    if not all(work.kept.is_file() for work in todo):
        _check(todo[0])
    facts["seeds"] = seeds
    begin(path, _FACTS, facts)
    outcomes = _carried_out(todo, cluster, workers, memory, quiet)
    outcomes.sort(key=lambda outcome: (METHODS.index(outcome.method), outcome.seed))
    done = Studied(path, facts, tuple(outcomes))
    report = facts | {"outcomes": [asdict(outcome) for outcome in outcomes]}
    write_atomically(path / _FACTS, json.dumps(report, indent=1).encode())
    write_report(done)
    return done


def _carried_out(
    todo: list[Work], cluster: Any, workers: int | None, memory: str | None, quiet: bool
) -> list[Outcome]:
    """What comes of all tasks on a cluster; AftermapError, once the others are over, where one fails."""
    outcomes, failed = [], []
    with (
        connected(cluster, workers, memory) as client,
        RunProgress(len(todo), 0, quiet, noun="networks") as progress,
    ):
        for result in run_bounded(client, carry_out, todo, fatal=(Refused, UsageError)):
            if isinstance(result, Failure):
                failed.append(result)
            else:
                outcomes.append(result)
            progress.advance(0)
    if failed:
        work, error = failed[0].item, failed[0].error
        kind = "" if isinstance(error, AftermapError) else f"{type(error).__name__}: "
        raise AftermapError(
            f"{len(failed)} of {len(todo)} networks failed; of {work.method} with seed {work.seed} it "
            f"is said: {kind}{error} The others are kept: the same command does only what is missing."
        )
    return outcomes


def carry_out(work: Work) -> Outcome:
    """Pre-train, train three times and test; what is there already is not made again."""
    if work.kept.is_file():
        return Outcome(**json.loads(work.kept.read_text()))
    encoder = pretrain(work.pretraining, silence)
    before, after = separation_on_test(work.pretraining, encoder)
    scores: dict[str, Mapping[str, float]] = {}
    for variant, config in zip(VARIANTS, work.trainings, strict=True):
        chosen = config if variant == "none" else replace(
            config, encoder=str(encoder), freeze="all" if variant == "frozen" else "no"
        )  # fmt: skip
        scores[variant] = tested(train(chosen, silence), chosen, work.folder / f"{variant}.png")
    outcome = Outcome(work.method, work.seed, before, after, scores)
    write_atomically(work.kept, json.dumps(asdict(outcome)).encode())
    return outcome


def tested(weights: Path, config: TrainConfig, picture: Path) -> dict[str, float]:
    """Figures of weights on the test parts of all sources together, and panels of the first one."""
    network, _ = load(weights)
    assert isinstance(network, ChangeNet)  # as `train` made it
    network.to(choose_device(config.device))
    parts = [source_parts(name, config)["test"] for name in config.data]
    exam = Exam(parts, 0, network.stride)
    found = evaluate_chips(network, exam)
    first = replace(found, images=found.images[: len(parts[0])])
    write_atomically(picture, panels_of(network, first, exam.chip))
    return {name.removeprefix("damaged_"): value for name, value in found.metrics().items()}


def _works(
    path: Path,
    seeds: int,
    training: Mapping[str, Any],
    pretraining: Mapping[str, Any],
) -> Iterator[Work]:
    shared = {
        key: training[key] for key in ("data", "weights", "size", "synthetic") if key in training
    }
    for seed in range(seeds):
        for method in METHODS:
            folder = path / f"{method}-{seed}"
            own = {"method": method, "seed": seed, "cache": str(path / "scenes")}
            yield Work(
                method,
                seed,
                folder,
                pretrain_config(
                    {**shared, **pretraining, **own, "out": str(folder / "encoder")}, PRESET
                ),
                tuple(
                    train_config({**training, **own, "out": str(folder / variant)}, PRESET)
                    for variant in VARIANTS
                ),
            )


def _settings(work: Work) -> dict[str, Any]:
    """What decides a study's figures, told by its first task."""
    return {
        "pretraining": work.pretraining.decisive(),
        "training": work.trainings[0].decisive(),
    }


def _check(work: Work) -> None:
    """Refuse what could not be trained or tested before anything is written or trained."""
    config = work.trainings[0]
    network_of(config)
    training_sources(config)
    Comparison(work.pretraining, torch.device("cpu"), leads=False)
    parts = [source_parts(name, replace(config, intact=True))["test"] for name in config.data]
    labels = [part.damaged(i) for part in parts for i in range(len(part))]
    with_damage, without = (sum(x is not wrong for x in labels) for wrong in (False, True))
    if not (with_damage and without):
        names = ", ".join(Path(name).name for name in config.data)
        raise Refused(
            f"A study is tested on places with damage and on places without, and of the "
            f"{len(labels)} in the test part of {names} {with_damage} show damage and {without} do "
            f"not. Give --data more chips, or other splits in places.csv."
        )
