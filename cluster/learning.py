"""What the command line asks of trainings, searches and studies, and what it prints afterwards."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..models.presets import pretrain_config, train_config
from ..models.pretraining import pretrain
from ..models.ranks import Ranks
from ..models.recipes import BUNDLED, LoopConfig, PretrainConfig, TrainConfig
from ..models.training import train
from ..scenes.errors import UsageError
from .photo_training import PHOTO_SETTINGS, TRAININGS, train_on_photos
from .studies.study import FILES, study
from .tune import tune


def run_train(arguments: Mapping[str, Any]) -> None:
    """Train from the command line's arguments and say what to do with the weights."""
    if arguments["method"] in TRAININGS:
        weights, use = train_on_photos(arguments)
        print(f"weights    {weights}")
        print(f"Try: {use}")
        return
    config = BUNDLED
    _check_photo_settings(arguments)
    if not arguments["bundled"]:
        config = train_config(given(TrainConfig, arguments), arguments["preset"])
    weights = train(config, fresh=arguments["fresh"])
    if not Ranks.here().leads:
        return
    print(f"weights    {weights}")
    print(f"Try: {_use(config.method, shlex.quote(str(weights)))}")


def _check_photo_settings(arguments: Mapping[str, Any]) -> None:
    """Refuse settings that only trainings on photos have."""
    known = {field.name for field in fields(TrainConfig)}
    for name in PHOTO_SETTINGS - known:
        if arguments.get(name) is not None:
            raise UsageError(
                f"--{name.replace('_', '-')} means nothing to {arguments['method'] or 'a change network'}: "
                f"it is for {', '.join(TRAININGS)}. Leave it out, or change --method."
            )


def _use(method: str, weights: str) -> str:
    """The command that uses weights."""
    if method == "unet-footprints":
        return f"aftermap weights join {weights} GRID-CLASSIFIER"
    if method == "grid-classifier":
        return f"aftermap weights join UNET-FOOTPRINTS {weights}"
    return f"aftermap assess PRE POST --method {method} --weights {weights}"


def run_pretrain(arguments: Mapping[str, Any]) -> None:
    """Pre-train from the command line's arguments and say what to do with the encoder."""
    config = pretrain_config(given(PretrainConfig, arguments), arguments["preset"])
    encoder = pretrain(config, fresh=arguments["fresh"])
    if not Ranks.here().leads:
        return
    print(f"encoder    {encoder}")
    print(
        f"Try: aftermap train --method {config.method} --size {config.size}"
        f"{_data(arguments['data'])} --encoder {shlex.quote(str(encoder))}"
    )


def given(kind: type[LoopConfig], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that were given and that a configuration knows, as it wants them."""
    # A command's --workers are those of its cluster, not the threads that prepare batches.
    known = {field.name for field in fields(kind)} - {"data", "out", "workers"}
    asked = {name: arguments[name] for name in known if arguments.get(name) is not None}
    asked["out"] = str(arguments["out"])
    if arguments["data"]:
        asked |= sources(arguments["data"])
    return asked


def sources(words: Sequence[str]) -> dict[str, Any]:
    """Sources of chips and their weights from words such as `chips/` or `chips/=2`."""
    named = [_source(word) for word in words]
    weights = [weight for _, weight in named if weight is not None]
    if weights and len(weights) < len(named):
        raise UsageError(
            "Either each --data has a weight, as in --data chips/=2 --data synthetic=1, or none."
        )
    return {"data": tuple(name for name, _ in named), "weights": tuple(weights)}


def _data(words: Sequence[str] | None) -> str:
    """Sources as they were typed, for a command that shall have the same."""
    return "".join(f" --data {shlex.quote(word)}" for word in words or ())


def _source(word: str) -> tuple[str, float | None]:
    name, equals, weight = word.rpartition("=")
    if not equals or Path(word).exists():
        return word, None
    try:
        return name, float(weight)
    except ValueError:
        raise UsageError(
            f"--data {word}: {weight!r} is no weight. Give a folder, or FOLDER=NUMBER."
        ) from None


def run_tune(arguments: Mapping[str, Any]) -> None:
    """Search for settings from the command line's arguments and say which did best."""
    asked = given(TrainConfig, arguments)
    asked.pop("out")
    done = tune(
        asked,
        arguments["out"],
        arguments["trials"],
        arguments["cluster"],
        arguments["workers"],
        arguments["preset"],
        quiet=False,
        memory=arguments["memory"],
    )
    print(done.text())
    best = shlex.quote(str(done.best))
    print(f"Try: aftermap train --preset {best}{_data(arguments['data'])}")


def run_study(arguments: Mapping[str, Any]) -> None:
    """Carry out a study from the command line's arguments and print its table."""
    training = given(TrainConfig, arguments)
    training.pop("out")
    before = {
        name.removeprefix("pretrain_"): value
        for name, value in arguments.items()
        if name.startswith("pretrain_") and value is not None
    }
    done = study(
        arguments["name"],
        arguments["out"],
        arguments["seeds"],
        training,
        before,
        arguments["cluster"],
        arguments["workers"],
        quiet=arguments["as_json"],
        memory=arguments["memory"],
    )
    print((done.path / FILES[0]).read_text() if arguments["as_json"] else done.text())
