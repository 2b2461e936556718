"""Random search over hyperparameters on a cluster: trials that go on, a table, a plot and the best."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import jinja2

from ..models.checkpoint import read_card
from ..models.loop import silence
from ..models.presets import KAHRAMANMARAS, train_config
from ..models.recipes import TrainConfig
from ..models.search import SPACE, Range, settings
from ..models.sources import training_sources
from ..models.training import network_of, train
from ..scenes.atomic import write_atomically
from ..scenes.errors import AftermapError, Refused, UsageError
from ..scenes.holding import InUse, holding, watched
from .client import connected, dashboard
from .experiment import begin, check_folder, plain, seen_by_all
from .futures import Failure, run_bounded
from .progress import RunProgress

EPOCHS = 10
"""Epochs of a trial, as in the code of paper 001."""

TRIALS = 100
"""Trials of a search, likewise."""

_SEARCH = "search.json"
_RESULT = "result.json"
_DRAWN = {*SPACE, "accumulate", "pos_weight"}
_OF_TRIALS = {"out", "cache", "data", "weights", "validation", "synthetic", "epochs", "seed"}
"""Settings of trials that are none of whoever trains with the best one's."""

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Trial:
    """One training of a search."""

    number: int
    settings: Mapping[str, Any]
    score: float | None
    """Validation IoU (one class) or xView2 score (five); None where the training failed."""
    epoch: int = 0
    """The epoch with that score."""
    error: str = ""
    """Why it failed."""


@dataclass(frozen=True)
class Tuned:
    """What came out of a search."""

    path: Path
    trials: tuple[Trial, ...]
    """Best first; those that failed last."""

    @property
    def best(self) -> Path:
        """The best settings, as `train --preset` takes them."""
        return self.path / "best.json"

    def text(self) -> str:
        """The best trials, for the command line."""
        lines = [f"{'trial':>5}  {'score':>6}  settings"]
        for trial in self.trials[:10]:
            shown = ", ".join(f"{name} {trial.settings[name]}" for name in SPACE)
            score = "failed" if trial.score is None else f"{trial.score:.4f}"
            lines.append(f"{trial.number:>5}  {score:>6}  {shown}")
        failed = [trial for trial in self.trials if trial.score is None]
        if failed:
            lines.append(f"failed     {len(failed)} of {len(self.trials)}: {failed[0].error}")
        lines += [
            f"table      {self.path / 'trials.csv'}",
            f"plot       {self.path / 'trials.svg'}",
            f"settings   {self.best}",
        ]
        return "\n".join(lines)


def tune(
    given: Mapping[str, Any],
    out: str | Path,
    trials: int = TRIALS,
    cluster: Any = "auto",
    workers: int | None = None,
    preset: str | None = None,
    quiet: bool = True,
    memory: str | None = None,
) -> Tuned:
    """Train many times with settings drawn at random (paper 001, table I) and say which did best.

    `given` holds what all trials share, by the names of `TrainConfig`; what the search draws may
    not be among it. Trials are tasks on a cluster. Run again after an interruption, it takes up
    each trial where it was, and with more `trials` it goes on where it ended; trials that are there
    already count, however many are asked for. A trial that fails is noted, not the search. `out`
    gets trials.csv, trials.svg, best.json and a folder per trial.

    Raises UsageError for settings that are searched for, Refused for chips that cannot be used and
    for a folder of another search, AftermapError where every trial failed.
    """
    _check(given, trials)
    path = Path(out)
    base = {"epochs": EPOCHS, "classes": 1, "schedule": "constant"} | seen_by_all(given)
    count = max(trials, *(number + 1 for number in _numbers(path)), 1)
    configs = [_config(path, number, base, preset) for number in range(count)]
    facts = plain({k: v for k, v in configs[0].decisive().items() if k not in _DRAWN})
    check_folder(path, _SEARCH, "search", facts)
    found = {n: trial for n in range(count) if (trial := _done(path, n)) is not None}
    todo = [config for n, config in enumerate(configs[:trials]) if n not in found]
    if todo:
        _check_trainable(todo)
    with holding(path, "search"):
        check_folder(path, _SEARCH, "search", facts)  # another may have come in between
        with (
            connected(cluster, workers, memory) as client,
            RunProgress(len(found) + len(todo), len(found), quiet, noun="trials") as progress,
        ):
            begin(path, _SEARCH, facts)
            watched(path, dashboard(client))
            for result in run_bounded(client, run_trial, map(_Hashable, todo), fatal=(Refused,)):
                if isinstance(
                    result, Failure
                ):  # not in words: it is tried again by the next search
                    number = result.item.number
                    told = f"{type(result.error).__name__}: {result.error}"
                    result = Trial(number, settings(configs[0].seed, number), None, 0, told)
                found[result.number] = result
                progress.advance(0)
        tuned = Tuned(path, tuple(sorted(found.values(), key=_rank)))
        _write(tuned, configs[tuned.trials[0].number])
    if tuned.trials[0].score is None:
        raise AftermapError(
            f"All {len(found)} trials failed, the first with: {tuned.trials[0].error} The trials are "
            f"in {path / 'trials.csv'}."
        )
    return tuned


def _check(given: Mapping[str, Any], trials: int) -> None:
    clash = sorted(set(given) & _DRAWN)
    if clash:
        raise UsageError(f"{', '.join(clash)}: the search draws these itself; leave them out.")
    if trials < 1:
        raise UsageError(f"--trials {trials} is no number of trials; give 1 or more.")
    if given.get("seed", 0) < 0:
        raise UsageError(f"--seed {given['seed']} is no seed; give 0 or more.")
    if given.get("method", TrainConfig.method) not in KAHRAMANMARAS:
        raise UsageError(
            f"--method {given['method']}: the settings searched for are those of "
            f"{', '.join(KAHRAMANMARAS)}. Give one of these."
        )


def _check_trainable(configs: Sequence[TrainConfig]) -> None:
    """Refuse what no trial could train with before the folder is made and workers are started."""
    for config in {config.size: config for config in configs}.values():
        network_of(config)
    training_sources(configs[0])


class _Hashable:
    """A trial's configuration as an item of a task."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.number = int(Path(config.out).name)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashable) and other.number == self.number


def run_trial(item: _Hashable) -> Trial:
    """Train one trial, or go on with it, and keep its result; a failure in words is a result too."""
    config, number = item.config, item.number
    Path(config.out).mkdir(parents=True, exist_ok=True)
    drawn = settings(config.seed, number)
    try:
        card = read_card(train(config, silence))
        trial = Trial(number, drawn, card.metrics["score"], int(card.metrics["best_epoch"]))
    except InUse as error:  # somebody else is at it: of the others nothing is wrong
        raise AftermapError(str(error)) from None
    except Refused:
        raise
    except AftermapError as error:
        trial = Trial(number, drawn, None, 0, str(error))
    write_atomically(Path(config.out) / _RESULT, json.dumps(asdict(trial)).encode())
    return trial


def _config(path: Path, number: int, base: Mapping[str, Any], preset: str | None) -> TrainConfig:
    seed = int(base.get("seed") or 0)
    folder = str(path.absolute() / "trials" / f"{number:04d}")
    return train_config({**base, **settings(seed, number), "out": folder}, preset)


def _numbers(path: Path) -> list[int]:
    """The trials that are over."""
    folders = (file.parent.name for file in (path / "trials").glob(f"*/{_RESULT}"))
    return [int(name) for name in folders if name.isdigit()]


def _done(path: Path, number: int) -> Trial | None:
    file = path / "trials" / f"{number:04d}" / _RESULT
    return Trial(**json.loads(file.read_text())) if file.is_file() else None


def _rank(trial: Trial) -> tuple[float, int]:
    return (math.inf if trial.score is None else -trial.score, trial.number)


def _write(tuned: Tuned, config: TrainConfig) -> None:
    """Table, plot and, as long as one has trained, the best settings; `config` is the best trial's."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trial", "score", "best_epoch", *SPACE, "error"])
    for t in tuned.trials:
        score = "" if t.score is None else repr(t.score)
        rows.writerow([t.number, score, t.epoch, *(t.settings[n] for n in SPACE), t.error])
    write_atomically(tuned.path / "trials.csv", text.getvalue().encode())
    write_atomically(tuned.path / "trials.svg", _plot(tuned.trials).encode())
    if tuned.trials[0].score is not None:
        write_atomically(tuned.best, json.dumps(plain(_chosen(config)), indent=1).encode())


def _chosen(config: TrainConfig) -> dict[str, Any]:
    """What of a configuration is not as by default, or was drawn; its method too."""
    said = {"method", *SPACE}
    return {
        field.name: value
        for field in fields(config)
        if field.name not in _OF_TRIALS and field.default is not MISSING
        for value in [getattr(config, field.name)]
        if field.name in said or value != field.default
    }


def _plot(trials: Sequence[Trial]) -> str:
    """Score against each hyperparameter, as SVG."""
    done = [trial for trial in trials if trial.score is not None]
    panels = [
        {"name": name, "logarithmic": getattr(SPACE[name], "logarithmic", False),
         "ticks": _ticks(name), "dots": [
            {"x": _place(name, t.settings[name], t.number), "y": t.score, "best": t is done[0],
             "title": f"trial {t.number}: {t.settings[name]}, score {t.score:.4f}"} for t in done
        ]}
        for name in SPACE
    ]  # fmt: skip
    top = max((t.score for t in done if t.score is not None), default=1.0)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True
    )
    return environment.get_template("trials.svg.j2").render(
        panels=panels, top=max(top, 1e-3) * 1.1, trials=len(trials), failed=len(trials) - len(done)
    )


def _place(name: str, value: Any, number: int) -> float:
    """Where a value lies on its axis, 0-1; equal choices are spread a little."""
    space = SPACE[name]
    if isinstance(space, Range):
        low, high = (math.log(x) if space.logarithmic else x for x in (space.low, space.high))
        at = math.log(value) if space.logarithmic else value
        return (at - low) / (high - low)
    return (space.values.index(value) + 0.35 + 0.3 * (number * 0.618 % 1)) / len(space.values)


def _ticks(name: str) -> list[tuple[float, str]]:
    space = SPACE[name]
    if isinstance(space, Range):
        return [(0.0, f"{space.low:g}"), (1.0, f"{space.high:g}")]
    count = len(space.values)
    return [((i + 0.5) / count, str(value)) for i, value in enumerate(space.values)]
