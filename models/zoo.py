"""The libraries of the [zoo] extra: backbones and segmentation networks that others maintain."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import lru_cache
from types import ModuleType

import torch
from torch import Tensor, nn

from ..scenes.errors import UsageError


def timm() -> ModuleType:
    """The library timm; UsageError where it is not installed."""
    return _imported("timm")


def segmentation_models() -> ModuleType:
    """The library segmentation_models_pytorch; UsageError where it is not installed."""
    return _imported("segmentation_models_pytorch")


def begin_encoder(
    encoder: nn.Module, tensors: Mapping[str, Tensor], name: str, passed: tuple[str, ...]
) -> None:
    """Fill an encoder with the tensors of a timm checkpoint of the model `name`.

    Those whose names begin as in `passed` are left out; nothing else may be left over or missing.
    Raises UsageError where the tensors do not fit.
    """
    found = {key: value for key, value in tensors.items() if not key.startswith(passed)}
    wanted = encoder.state_dict()
    # Older files do not count batches; the count changes nothing here.
    missing = sorted(k for k in wanted.keys() - found.keys() if "num_batches" not in k)
    unfit = sorted(k for k in found if k not in wanted or found[k].shape != wanted[k].shape)
    if missing or unfit:
        raise UsageError(
            f"These are not timm's weights of {name}: {len(missing)} tensors are missing "
            f"({', '.join(missing[:3])}), {len(unfit)} are unknown or of another shape "
            f"({', '.join(unfit[:3])})."
        )
    encoder.load_state_dict(wanted | found)


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
