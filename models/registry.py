"""Bare networks by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ..scenes.errors import UsageError
from .change import ChangeNet
from .deep_disaster import DeepDisaster
from .dual_hrnet import DualHRNet
from .inception_window import InceptionWindow
from .skip_ganomaly import SkipGANomaly
from .unet import GridClassifier, UNetFootprints
from .unet_grid import UNetGrid

NETWORKS: dict[str, Callable[..., torch.nn.Module]] = {
    "fc-ef": partial(ChangeNet, "ef"),
    "fc-siam-conc": partial(ChangeNet, "conc"),
    "fc-siam-diff": partial(ChangeNet, "diff"),
    "dual-hrnet": DualHRNet,
    "unet-footprints": UNetFootprints,
    "grid-classifier": GridClassifier,
    "unet-grid": UNetGrid,
    "inception-window": InceptionWindow,
    "skip-ganomaly": SkipGANomaly,
    "deep-disaster": DeepDisaster,
}
"""Name of a network to the call that makes it; a new network is one more line here."""


def build(name: str, **options: Any) -> torch.nn.Module:
    """Make a network with random weights, without any normalisation inside.

    The networks of paper 001 ("fc-ef", "fc-siam-conc", "fc-siam-diff") take `size` ("small",
    "medium", "large", "daudt"), `classes` (1 or 5), `in_channels` and `dropout`; see `ChangeNet`.
    That of paper 002 ("dual-hrnet") takes `width` and `stem`; see `DualHRNet`.
    Those of paper 004 look at one image each: "unet-footprints" and "grid-classifier" take `encoder`,
    a backbone's name, and the latter `cell`; see `UNetFootprints` and `GridClassifier`.
    That of paper 003 ("inception-window") looks at squares of `side` px with timm's model `encoder`; see
    `InceptionWindow`.
    Those of paper 000: "skip-ganomaly", a generator and a discriminator, takes `width`; "deep-disaster",
    a student beside its teacher, `width`, `teacher_width`, `form` and more; see `SkipGANomaly` and
    `DeepDisaster`.
    Raises UsageError for an unknown name or option.
    """
    if name not in NETWORKS:
        raise UsageError(
            f"Unknown network {name!r}. Valid names: {', '.join(sorted(NETWORKS))}. "
            f"Change --method."
        )
    try:
        return NETWORKS[name](**options)
    except TypeError as error:
        raise UsageError(
            f"Network {name!r} does not take the options {options}: {error}."
        ) from None
