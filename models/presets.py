"""Settings by name: those that a publication arrived at, and those that a search here found."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..scenes.errors import Refused, UsageError
from .recipes import BACKBONE, PretrainConfig, SyntheticRecipe, TrainConfig

_PAPER: dict[str, Any] = {
    "size": "large",
    "classes": 1,
    "intact": False,
    "augment": "paper",
    "chip": 1024,
    "epochs": 100,
    "schedule": "constant",
    "clip": math.inf,
    "resolution": (0.25, 0.6),
    "nominal_resolution": 0.305,
}
"""Paper 001, section IV.C: AdamW at a constant rate, damaged pairs only, whole chips."""

KAHRAMANMARAS: dict[str, dict[str, Any]] = {
    "fc-ef": _PAPER
    | {"loss": "dice", "lr": 4e-5, "weight_decay": 7e-5, "dropout": 0.01, "batch": 4},
    "fc-siam-conc": _PAPER
    | {"loss": "iou", "lr": 5e-4, "weight_decay": 2e-4, "dropout": 0.02, "batch": 4},
    "fc-siam-diff": _PAPER
    | {"loss": "dice", "lr": 3e-4, "weight_decay": 2e-3, "dropout": 0.05, "batch": 8}
    | {"accumulate": 2},
}
"""Paper 001, table II. A batch of 8 is worked on in two parts, as a GPU of 10 GB had it."""

_SIAMESE: dict[str, Any] = {"size": "large", "chip": 1024, "accumulate": 2}

KAHRAMANMARAS_PRETRAINING: dict[str, dict[str, Any]] = {
    # One pass over 121,000 pairs of pairs, in rounds after which its state is kept.
    "fc-ef": _SIAMESE | {"epochs": 121, "steps": 125},
    "fc-siam-conc": _SIAMESE | {"epochs": 200, "steps": 33},
    "fc-siam-diff": _SIAMESE | {"epochs": 200, "steps": 33},
}
"""Paper 001, section IV.D: 200 passes over some 268 pairs; batch, rate, decay and margin are the
defaults of `PretrainConfig`."""

XVIEW2: dict[str, dict[str, Any]] = {
    "dual-hrnet": {
        "optimizer": "sgd",
        "schedule": "poly",
        "lr": 0.01,
        "weight_decay": 5e-4,
        "epochs": 250,
        "batch": 32,
        "chip": 512,
        "augment": "xview2",
        "loss": "lovasz",
        "clip": math.inf,
        "resolution": (0.25, 1.0),
        "nominal_resolution": 0.5,
    }
}
"""Paper 002, section 3: 32 crops of 512 px on 16 GPUs."""

_AMATRICE: dict[str, Any] = {
    "classes": 1,
    "augment": "amatrice",
    "chip": 128,
    "batch": 32,
    "steps": 94,
    "epochs": 100,
    "patience": 10,
    "lr": 1e-3,
    "weight_decay": 0.0,
    "schedule": "constant",
    "clip": math.inf,
    "resolution": (0.2, 0.6),
    "nominal_resolution": 0.3,
}
"""Paper 004: 3,000 crops of 128 px at 0.3 m. Of its optimiser it says nothing: what Keras, in which it
was written, does unasked is Adam at 0.001 on batches of 32. It stopped at a validation loss of 0.28."""

AMATRICE: dict[str, dict[str, Any]] = {
    "unet-footprints": _AMATRICE | {"loss": "bce-jaccard"},
    "grid-classifier": _AMATRICE | {"loss": "bce"},
}
"""Both networks of paper 004."""

XVIEW2_CODE = {
    "dual-hrnet": XVIEW2["dual-hrnet"]
    | {"lr": 0.05, "weight_decay": 0.0, "epochs": 500, "batch": 16, "augment": "xview2-code"}
    | {"stem": "released"}
}
"""What the published code of paper 002 is set to; its batch of 16 is that of one GPU."""

SMALL: dict[str, Any] = {
    "synthetic": SyntheticRecipe(scenes=80, validation=16, test=24, side=384),
    "size": "small",
    "chip": 128,
    "accumulate": 1,
    "steps": 40,
    "lr": 1e-3,
    "augment": "auto",
}
"""What makes a study small enough for two cores, in training and pre-training alike."""

SMALL_TRAINING = SMALL | {"batch": 8, "epochs": 10}
SMALL_PRETRAINING = SMALL | {"epochs": 12, "least": 0.05}

XVIEW2_SMALL: dict[str, Any] = {
    "synthetic": SyntheticRecipe(scenes=60, validation=6, test=12, side=384),
    "width": 8,
    "chip": 192,
    "batch": 8,
    "epochs": 4,
    "steps": 50,
    "optimizer": "adamw",
    "schedule": "cosine",
    "lr": 5e-4,
    "clip": 1.0,
    "norm_momentum": 0.1,
}
"""Dual-HRNet on two cores: what SGD learns in a few hundred steps from random weights is nothing."""

XVIEW2_WARM_UP: dict[str, Any] = {"loss": "entropy", "epochs": 12, "lr": 2e-3}
"""How a small training begins: from random weights Lovász hardly learns within 500 steps."""

AMATRICE_SMALL: dict[str, Any] = {
    "synthetic": SyntheticRecipe(scenes=200, validation=16, test=16, side=384),
    "backbone": "resnet18",
    "chip": 64,
    "batch": 32,
    "epochs": 10,
    "steps": 50,
    "schedule": "cosine",
    "resolution": (0.35, 0.7),
    "nominal_resolution": 0.5,
}
"""What makes the study of paper 004 small enough for two cores."""

OAXACA: dict[str, Any] = {
    "backbone": "inception_v3",
    "side": 299,
    "steps": 1000,
    "batch": 10,
    "lr": 0.01,
    "trees": 1000,
    "sizes": (20, 50, 100, 150, 200),
    "test_size": 100,
}
"""Paper 003 and its published code: photos of 20 to 200, tested on 100 of each class."""

OAXACA_SMALL: dict[str, Any] = {"backbone": "test_byobnet", "side": 96, "trees": 100}
"""What makes its study small enough for two cores: a tiny backbone of timm, and fewer trees."""

SYNTHETIC_TOWNS = (("alder", 910_010), ("birch", 910_012), ("cedar", 910_023))
"""Towns of which photos are cut, with seeds of scenes that hold enough destroyed buildings; one is
bright, one is between, one is dark."""

DEEP_DISASTER: dict[str, Any] = {
    "side": 64,
    "width": 16,
    "teacher_width": 64,
    "epochs": 15,
    "batch": 64,
    "lr": 2e-4,
    "backbones": ("vgg16", "vgg19"),
    "tuning_epochs": 30,
    "backbone_side": 224,
}
"""Paper 000 and its published code."""

DEEP_DISASTER_SMALL: dict[str, Any] = {
    "side": 32,
    "width": 8,
    "teacher_width": 16,
    "epochs": 15,
    "batch": 16,
    "lr": 2e-3,
    "tuning_epochs": 3,
    "backbone_side": 64,
}
"""What makes its study small enough for two cores."""

PRESETS = {"kahramanmaras": KAHRAMANMARAS, "xview2": XVIEW2, "xview2-code": XVIEW2_CODE} | {
    "amatrice": AMATRICE
}
"""Of trainings, by name and method."""


_ONE_CLASS = ("bce", "dice", "iou")
"""Losses of presets that do not go with levels."""


def preset(name: str, method: str) -> dict[str, Any]:
    """Settings of a training by the name of a preset, or from a JSON file that `tune` wrote.

    Raises UsageError for an unknown name, Refused for a file that holds no settings.
    """
    if name in PRESETS:
        return dict(_of(PRESETS[name], name, method))
    if not name.endswith(".json"):
        raise UsageError(
            f"Unknown preset {name!r}. Give {', '.join(PRESETS)}, or a .json file that `aftermap "
            f"tune` wrote, with --preset."
        )
    try:
        values = json.loads(Path(name).read_text(encoding="utf-8"))
        known = {field.name for field in fields(TrainConfig)} - {"out"}
        unknown = sorted(set(values) - known)
    except (OSError, ValueError, TypeError) as error:
        raise Refused(f"The preset {name} cannot be read: {error}. Change --preset.") from error
    if unknown:
        raise Refused(
            f"The preset {name} holds {', '.join(unknown[:3])}, no settings of a training."
        )
    if isinstance(values.get("clip"), str):
        values["clip"] = float(values["clip"])  # JSON has no infinite numbers
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}


def pretraining_preset(name: str, method: str) -> dict[str, Any]:
    """Settings of a pre-training by the name of a preset; UsageError for an unknown one."""
    if name != "kahramanmaras":
        raise UsageError(f"Unknown preset {name!r}. Give kahramanmaras with --preset.")
    return dict(_of(KAHRAMANMARAS_PRETRAINING, name, method))


def train_config(given: Mapping[str, Any], name: str | None = None) -> TrainConfig:
    """A configuration from what was asked for; what was not, is the preset's, or the default."""
    method = given.get("method") or _only_method(name) or TrainConfig.method
    base = preset(name, method) if name else {}
    # A file may hold a method of its own.
    settings: dict[str, Any] = {"method": method} | base | dict(given)
    if settings["method"] in BACKBONE:
        settings.setdefault("classes", 1)
    if settings.get("classes") == 5 and base.get("loss") in _ONE_CLASS and "loss" not in given:
        settings["loss"] = "auto"
    if settings.get("loss") != "bce" and "pos_weight" not in given:
        settings.pop("pos_weight", None)  # it went with the preset's loss
    return TrainConfig(**settings)


def pretrain_config(given: Mapping[str, Any], name: str | None = None) -> PretrainConfig:
    """As `train_config`, for a pre-training."""
    method = given.get("method") or PretrainConfig.method
    base = pretraining_preset(name, method) if name else {}
    return PretrainConfig(**(base | {"method": method} | dict(given)))


def _only_method(name: str | None) -> str | None:
    """The method of a preset that is for one alone."""
    methods = list(PRESETS.get(name or "", {}))
    return methods[0] if len(methods) == 1 else None


def _of(table: Mapping[str, dict[str, Any]], name: str, method: str) -> dict[str, Any]:
    if method not in table:
        raise UsageError(
            f"The preset {name!r} is for {', '.join(table)}; {method!r} was asked for. Change "
            f"--method."
        )
    return table[method]
