"""The loss of a training: from logits and damage codes to one number."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .losses import IGNORE, bce, dice, iou, levels, lovasz_softmax
from .metrics import DAMAGED, LEVELS
from .recipes import TrainConfig

LEVEL_WEIGHTS = (0.4, 1.2, 1.2, 1.2)
"""Of the levels' losses in paper 002, by its published code; the paper does not tell."""


def criterion(config: TrainConfig, logits: Tensor, codes: Tensor) -> Tensor:
    """The configured loss of logits (n, c, h, w) against damage codes (n, h, w)."""
    if config.method == "dual-hrnet":
        weights = config.class_weights or LEVEL_WEIGHTS
        return buildings_and_levels(logits, codes, weights, config.loss == "entropy")
    if config.classes == 5:
        class_weights = None
        if config.class_weights is not None:
            class_weights = torch.tensor(config.class_weights, device=logits.device)
        overlap = "lovasz" if config.loss == "levels-lovasz" else "dice"
        return levels(logits, codes, class_weights, overlap)  # type: ignore[arg-type]
    damaged = _among(codes, DAMAGED)
    valid = codes != IGNORE
    if config.loss == "bce":
        return bce(logits[:, 0], damaged, config.pos_weight, valid)
    return (iou if config.loss == "iou" else dice)(logits[:, 0], damaged, valid=valid)


def scene_criterion(config: TrainConfig, logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """The configured loss of a network of one image; tensors of one shape, see `SceneNet.labels`."""
    if config.method == "unet-footprints":
        return footprint_loss(logits, target, known, config.loss == "bce-dice")
    return bce(logits, target, config.pos_weight, known)


def footprint_loss(logits: Tensor, target: Tensor, known: Tensor, by_dice: bool = False) -> Tensor:
    """Cross-entropy plus the overlap that is missed, over all known pixels of a batch together.

    Tensors of one shape: fp32, target 0-1, bool. The overlap is IoU, or with `by_dice` Dice, smoothed
    by 1. Nothing known gives a 0 that still has a gradient. Paper 004 names no loss; these are the
    usual ones of the library that it is built on.
    """
    if not known.any():
        return logits.sum() * 0
    missed = (dice if by_dice else iou)(logits, target, valid=known)
    return bce(logits, target, valid=known) + missed


def buildings_and_levels(
    logits: Tensor,
    codes: Tensor,
    weights: tuple[float, ...] = LEVEL_WEIGHTS,
    entropy: bool = False,
) -> Tensor:
    """Loss of Dual-HRNet: that of buildings, and with weights that of levels on buildings.

    `logits` (n, 2 + 4, h, w) may be coarser than `codes` (n, H, W): softmax comes first, then
    probabilities are upsampled bilinearly. Both losses are Lovász-softmax over the classes present,
    or with `entropy` weighted cross-entropy, which paper 002 found worse. Background and pixels of
    unknown level say nothing of levels. Paper 002, section 2.3, with an α of 1.
    """
    known = torch.where(_among(codes, LEVELS), codes.long() - 1, IGNORE)
    building = torch.where(codes == IGNORE, IGNORE, (codes > 0).long())
    parts = logits.float().split([2, len(LEVELS)], dim=1)
    first, second = (
        functional.interpolate(x.softmax(1), codes.shape[-2:], mode="bilinear", align_corners=False)
        for x in parts
    )
    if entropy:
        return _entropy(first, building) + _entropy(second, known, weights)
    return lovasz_softmax(first, building, ignore=IGNORE) + lovasz_softmax(
        second, known, ignore=IGNORE, weights=weights
    )


def _entropy(
    probabilities: Tensor, labels: Tensor, weights: tuple[float, ...] | None = None
) -> Tensor:
    if not (labels != IGNORE).any():
        return probabilities.sum() * 0
    scale = None if weights is None else probabilities.new_tensor(weights)
    safe = probabilities.clamp(min=1e-7).log()
    return functional.nll_loss(safe, labels, weight=scale, ignore_index=IGNORE)


def _among(codes: Tensor, values: tuple[int, ...]) -> Tensor:
    return torch.isin(codes, torch.tensor(values, dtype=codes.dtype, device=codes.device))
