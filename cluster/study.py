"""The study of paper 001 as one command: three networks, each without and with pre-training.

A task is a network and a seed: its encoder is pre-trained, the network trained three times, and
each tested on places that no training has seen. Killed and run again, a study goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

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
from ..models.pretraining import pretrain, separation_on_test
from ..models.published import VARIANTS
from ..models.recipes import PretrainConfig, TrainConfig
from ..models.sources import Exam, source_parts
from ..models.training import evaluate, train
from ..scenes.errors import Refused, UsageError
from .client import connected
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


def study(
    name: str,
    out: str | Path,
    seeds: int = 1,
    training: Mapping[str, Any] | None = None,
    pretraining: Mapping[str, Any] | None = None,
    cluster: Any = "auto",
    workers: int | None = None,
    quiet: bool = True,
) -> Studied:
    """Run a study, or go on with it.

    `training` and `pretraining` override the settings of the paper, by the names of `TrainConfig`
    and `PretrainConfig`; the sources of chips are those of `training`, for both. Tasks run on a
    cluster. `out` gets study.json with all figures, and a folder per network and seed.

    Raises UsageError for an unknown study, Refused for chips that cannot be used and for a folder
    of a study that was made with other settings.
    """
    if name not in STUDIES:
        raise UsageError(f"Unknown study {name!r}. Studies: {', '.join(STUDIES)}.")
    if seeds < 1:
        raise UsageError(f"--seeds {seeds} is no number of seeds; give 1 or more.")
    path = Path(out)
    differs = [
        base | dict(asked or {})
        for base, asked in zip(STUDIES[name], (training, pretraining), strict=True)
    ]
    todo = list(_works(path.absolute(), seeds, *differs))
    facts = _begin(path, todo[0], name, seeds)
    outcomes = []
    with (
        connected(cluster, workers) as client,
        RunProgress(len(todo), 0, quiet, noun="networks") as progress,
    ):
        for result in run_bounded(client, carry_out, todo, fatal=(Exception,)):
            assert not isinstance(result, Failure)
            outcomes.append(result)
            progress.advance(0)
    outcomes.sort(key=lambda outcome: (METHODS.index(outcome.method), outcome.seed))
    done = Studied(path, facts, tuple(outcomes))
    report = facts | {"outcomes": [asdict(outcome) for outcome in outcomes]}
    write_atomically(path / _FACTS, json.dumps(report, indent=1).encode())
    write_report(done)
    return done


def carry_out(work: Work) -> Outcome:
    """Pre-train, train three times and test; what is there already is not made again."""
    kept = work.folder / "outcome.json"
    if kept.is_file():
        return Outcome(**json.loads(kept.read_text()))
    encoder = pretrain(work.pretraining, silence)
    before, after = separation_on_test(work.pretraining, encoder)
    scores: dict[str, Mapping[str, float]] = {}
    for variant, config in zip(VARIANTS, work.trainings, strict=True):
        chosen = config if variant == "none" else replace(
            config, encoder=str(encoder), freeze="all" if variant == "frozen" else "no"
        )  # fmt: skip
        scores[variant] = tested(train(chosen, silence), chosen, work.folder / f"{variant}.png")
    outcome = Outcome(work.method, work.seed, before, after, scores)
    write_atomically(kept, json.dumps(asdict(outcome)).encode())
    return outcome


def tested(weights: Path, config: TrainConfig, picture: Path) -> dict[str, float]:
    """Figures of weights on the test parts of all sources together, and panels of the first one."""
    network, _ = load(weights)
    assert isinstance(network, ChangeNet)  # as `train` made it
    parts = [source_parts(name, config)["test"] for name in config.data]
    first = Exam(parts[:1], 0, network.stride)
    write_atomically(picture, panels_of(network, evaluate_chips(network, first), first.chip))
    found = evaluate(network, Exam(parts, 0, network.stride), config)
    return {name.removeprefix("damaged_"): value for name, value in found.items()}


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


def _begin(path: Path, first: Work, name: str, seeds: int) -> dict[str, Any]:
    """Make the folder, or refuse one of a study with other settings; returns what is being done."""
    settings = {
        "pretraining": first.pretraining.decisive(),
        "training": first.trainings[0].decisive(),
    }
    facts: dict[str, Any] = json.loads(json.dumps({"study": name, "settings": settings}))
    note = path / _FACTS
    if note.is_file():
        before = json.loads(note.read_text())
        if {key: before.get(key) for key in facts} != facts:
            raise Refused(
                f"{path} holds a study with other settings: {_changes(before, facts)}. Give another "
                f"--out."
            )
    path.mkdir(parents=True, exist_ok=True)
    facts["seeds"] = seeds
    if not note.is_file():
        write_atomically(note, json.dumps(facts, indent=1).encode())
    return facts


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    texts: list[str] = []
    for part in ("pretraining", "training"):
        old, new = (each.get("settings", {}).get(part, {}) for each in (before, now))
        keys: Sequence[str] = sorted({*old, *new})
        texts += [
            f"{part} {key} was {old.get(key)}, now {new.get(key)}"
            for key in keys
            if old.get(key) != new.get(key)
        ]
    return "; ".join(texts[:5]) or f"it is {before.get('study')!r}"
