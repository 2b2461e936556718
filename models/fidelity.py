"""What precision and halo do to a network's answer: shares of pixels that change their class."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..scenes.errors import UsageError
from .change import ChangeNet, receptive_field
from .damage_net import RasterNet

Predict = Callable[..., Tensor]
"""Normalised images (n, c, h, w), as many as a network takes, to codes (n, h, w), uint8."""


def predictor(network: RasterNet, threshold: float = 0.5) -> Predict:
    """A network as a function to codes, in the precision of its weights."""
    dtype = next(network.parameters()).dtype

    def predict(*images: Tensor) -> Tensor:
        with torch.inference_mode():
            found = network.probabilities(*(image.to(dtype) for image in images))
            return network.codes(found, threshold)

    return predict


def flip_rate(
    reference: Predict, candidate: Predict, examples: Iterable[tuple[Tensor, ...]]
) -> float:
    """Share of pixels to which two predictors give different codes, over all examples, 0-1."""
    changed = total = 0
    for images in examples:
        differs = reference(*images) != candidate(*images)
        changed += int(differs.sum())
        total += differs.numel()
    return changed / total if total else 0.0


def bf16_flip_rate(
    network: RasterNet, examples: Iterable[tuple[Tensor, ...]], threshold: float = 0.5
) -> float:
    """Share of pixels whose code differs between fp32 and bf16 weights and activations."""
    narrow = copy.deepcopy(network).to(torch.bfloat16)
    return flip_rate(predictor(network, threshold), predictor(narrow, threshold), examples)


def halo_flip_rate(
    network: ChangeNet,
    pairs: Iterable[tuple[Tensor, ...]],
    halo: int,
    core: int,
    threshold: float = 0.5,
) -> float:
    """Share of core pixels whose code differs between `halo` and the whole receptive field.

    The pairs must be as large as the core and a receptive field per side; UsageError otherwise.
    """
    full = receptive_field(network)
    predict = predictor(network, threshold)
    middle = slice(full, full + core)
    cut = slice(full - halo, full + core + halo)
    kept = slice(halo, halo + core)
    if halo >= full:
        return 0.0
    changed = total = 0
    for pre, post in pairs:
        if min(pre.shape[-2:]) < core + 2 * full:
            raise UsageError(
                f"To measure halos, pairs of {core + 2 * full} px are needed; got "
                f"{pre.shape[-2]}×{pre.shape[-1]}."
            )
        wide = predict(pre, post)[..., middle, middle]
        tight = predict(pre[..., cut, cut], post[..., cut, cut])[..., kept, kept]
        changed += int((wide != tight).sum())
        total += wide.numel()
    return changed / total if total else 0.0
