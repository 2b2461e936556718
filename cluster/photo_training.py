"""Trainings on photos from the command line: window classifiers, teachers, students."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..models import window_training
from ..models.adversarial import train_student, train_teacher
from ..models.adversarial_recipe import AdversarialConfig
from ..models.photos.open import open_photos
from ..models.photos.photoset import PhotoSet
from ..models.window_training import WindowConfig, train_window
from ..scenes.errors import UsageError

_PLAIN = {"device": "auto", "precision": "auto", "tensorboard": False, "bundled": False}
"""What the command line says where nothing was asked for."""

_ASIDE = {"method", "out", "fresh", "data", "validation"}
"""What is heard apart from the settings of a training."""


def _train_window(arguments: Mapping[str, Any]) -> Path:
    if arguments["validation"] is not None:
        raise UsageError(
            "Photos for validation lie in a folder val/ of --data, or are chosen by their names. Leave "
            "out --validation."
        )
    config = WindowConfig(data=_folder(arguments), **_asked(WindowConfig, arguments))
    return train_window(config)


def _train_teacher(arguments: Mapping[str, Any]) -> Path:
    if arguments["validation"] is not None:
        raise UsageError("A teacher is judged by nothing. Leave out --validation.")
    config = AdversarialConfig(**_named(arguments), **_asked(AdversarialConfig, arguments))
    return train_teacher(config, _learnt(_photos(arguments, config)), fresh=arguments["fresh"])


def _train_student(arguments: Mapping[str, Any]) -> Path:
    asked = _asked(AdversarialConfig, arguments)
    if "teacher" not in asked:
        asked = {"structure": "together"} | asked
    config = AdversarialConfig(**_named(arguments), **asked)
    photos = _photos(arguments, config)
    held = None
    if arguments["validation"] is not None:
        held = open_photos(arguments["validation"], config.side)
    elif any(photo.split == "validation" for photo in photos.photos):
        held = photos.part("validation")
    return train_student(config, _learnt(photos), held, fresh=arguments["fresh"])


TRAININGS: Mapping[str, Callable[[Mapping[str, Any]], Path]] = {
    window_training.METHOD: _train_window,
    "skip-ganomaly": _train_teacher,
    "deep-disaster": _train_student,
}
"""By method, what learns from photos."""


PHOTO_SETTINGS = {
    field.name for kind in (WindowConfig, AdversarialConfig) for field in fields(kind)
} - _ASIDE
"""Settings of such trainings."""


def train_on_photos(arguments: Mapping[str, Any]) -> tuple[Path, str]:
    """Train from the command line's arguments; the path of the weights, and a command that uses them."""
    method = arguments["method"]
    weights = TRAININGS[method](arguments)
    quoted = shlex.quote(str(weights))
    if method == "skip-ganomaly":
        return weights, f"aftermap train --method deep-disaster --data PHOTOS --teacher {quoted}"
    return weights, f"aftermap assess POST --method {method} --weights {quoted}"


def _asked(kind: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were asked for; UsageError for those that the training does not know.

    Crops of photos are whole squares: `--chip` is their side.
    """
    known = {field.name for field in fields(kind)} - _ASIDE
    given = {
        name: value
        for name, value in arguments.items()
        if value is not None and name not in _ASIDE and value != _PLAIN.get(name)
    }
    if "chip" in given:
        given["side"] = given.pop("chip")
    strange = sorted(given.keys() - known)
    if strange:
        raise UsageError(
            f"--{strange[0].replace('_', '-')} means nothing to {arguments['method']}. Leave it out."
        )
    return given | {"out": str(arguments["out"])}


def _named(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"data": f"the photos of {Path(_folder(arguments)).name}"}


def _photos(arguments: Mapping[str, Any], config: AdversarialConfig) -> PhotoSet:
    return open_photos(_folder(arguments), config.side)


def _learnt(photos: PhotoSet) -> PhotoSet:
    """Those that are not kept for validation or tests."""
    return photos.replaced([photo for photo in photos.photos if photo.split in ("", "train")])


def _folder(arguments: Mapping[str, Any]) -> str:
    """The one folder of photos."""
    data: Sequence[str] = arguments["data"] or ()
    if len(data) == 1:
        return str(data[0])
    raise UsageError(
        f"{arguments['method']} learns from one folder of photos; got {len(data)}. Give --data once."
    )
