"""The libraries of the [zoo] extra: backbones and segmentation networks that others maintain."""

from __future__ import annotations

import importlib
from functools import lru_cache
from types import ModuleType

import torch

from ..scenes.errors import UsageError


def timm() -> ModuleType:
    """The library timm; UsageError where it is not installed."""
    return _imported("timm")


def segmentation_models() -> ModuleType:
    """The library segmentation_models_pytorch; UsageError where it is not installed."""
    return _imported("segmentation_models_pytorch")


@lru_cache
def _imported(name: str) -> ModuleType:
    _operators()
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f'{name} could not be imported ({error}). It comes with\n  pip install "aftermap[zoo]"'
        ) from error


@lru_cache
def _operators() -> torch.library.Library | None:
    """Declare torchvision's operators where its build is for another torch: else it cannot be imported.

    The wheel on the registry is built for CUDA, and beside a torch for CPUs its compiled operators
    are missing. Only these are lost, and none of our networks uses them. The declaration lives as long
    as the library object, which the cache keeps.
    """
    if torch.version.cuda is not None or hasattr(torch.ops.torchvision, "nms"):
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
