"""Losses of papers 001 and 002, and what the training of damage levels uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

IGNORE = 255
"""The label of pixels that take no part: not analysed, un-classified."""


def dice(
    logits: Tensor, target: Tensor, smooth: float = 1.0, valid: Tensor | None = None
) -> Tensor:
    """Dice loss of a one-class network over the whole batch.

    1 − (2Σpy + smooth) / (Σp + Σy + smooth) with p = sigmoid(logits), in fp32. `target` holds 0
    and 1 in the shape of the logits; `valid` (bool, same shape) leaves pixels out. Paper 001,
    equation 7, is smooth=0; its published code is smooth=1.
    """
    p, y = _probabilities(logits, target, valid)
    return 1 - (2 * (p * y).sum() + smooth) / (p.sum() + y.sum() + smooth)


def iou(logits: Tensor, target: Tensor, smooth: float = 1.0, valid: Tensor | None = None) -> Tensor:
    """Intersection-over-union loss of a one-class network over the whole batch.

    1 − (Σpy + smooth) / (Σ(p + y) − Σpy + smooth); arguments as for `dice`. Paper 001, equation 8,
    is smooth=0; its published code is smooth=1.
    """
    p, y = _probabilities(logits, target, valid)
    both = (p * y).sum()
    return 1 - (both + smooth) / (p.sum() + y.sum() - both + smooth)


def bce(
    logits: Tensor,
    target: Tensor,
    pos_weight: float | None = None,
    valid: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of logits, mean over pixels, fp32.

    `pos_weight` multiplies the loss of positive pixels: None is paper 001, equation 9; its
    published code has 16.2578. `target` and `valid` as for `dice`. No valid pixel: 0.
    """
    logits, target = logits.float(), target.float()
    if valid is not None:
        logits, target = logits[valid], target[valid]
    if logits.numel() == 0:
        return logits.sum()
    weight = None if pos_weight is None else logits.new_tensor(pos_weight)
    return functional.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)


def contrastive(
    first: Tensor,
    second: Tensor,
    different: Tensor,
    margin: float = 1.0,
    normalize: bool = True,
) -> Tensor:
    """Contrastive loss of embedding pairs, mean over the pairs, fp32.

    `first` and `second` are (n, d); `different` (n) is 1 where a pair differs (has damage), else
    0. With D the *squared* distance: (1 − l)·D + l·max(margin − D, 0)². Paper 001, equation 1, is
    normalize=False; its published code first scales each embedding to length 1.
    """
    first, second, different = first.float(), second.float(), different.float()
    if normalize:
        first, second = functional.normalize(first), functional.normalize(second)
    distance = (first - second).square().sum(dim=1)
    apart = (margin - distance).clamp(min=0).square()
    return ((1 - different) * distance + different * apart).mean()


def lovasz_softmax(
    probabilities: Tensor,
    labels: Tensor,
    classes: Literal["present", "all"] | Sequence[int] = "present",
    per_image: bool = False,
    ignore: int | None = None,
    weights: Sequence[float] | Tensor | None = None,
) -> Tensor:
    """Lovász-softmax loss: the convex surrogate of 1 − IoU, mean over classes.

    `probabilities` (n, c, h, w) or (pixels, c) sum to 1 over c; `labels` (n, h, w) or (pixels)
    hold 0 to c − 1, or `ignore`. `classes`: "present" takes those that occur among the labels
    taken, "all" every one, a sequence just those. `weights` (c) multiplies each class loss before
    the plain mean. `per_image` averages the losses of the images. Nothing to count gives a 0 that
    still has a gradient. Raises ValueError for shapes that do not fit.

    Berman, Triki and Blaschko, "The Lovász-Softmax loss", 2018; weights: paper 002.
    """
    images = probabilities.ndim == 4
    fits = labels.shape == (
        (probabilities.shape[0], *probabilities.shape[2:]) if images else probabilities.shape[:1]
    )
    if probabilities.ndim not in (2, 4) or not fits:
        raise ValueError(
            f"probabilities {tuple(probabilities.shape)} and labels {tuple(labels.shape)} do not "
            f"belong together: (n, c, h, w) takes (n, h, w), (pixels, c) takes (pixels)."
        )
    if per_image and images:
        losses = [
            lovasz_softmax(p[None], y[None], classes, False, ignore, weights)
            for p, y in zip(probabilities, labels, strict=True)
        ]
        return torch.stack(losses).mean()
    count = probabilities.shape[1]
    p = probabilities.float()
    p = p.movedim(1, -1).reshape(-1, count) if images else p
    y = labels.reshape(-1)
    if ignore is not None:
        kept = y != ignore
        p, y = p[kept], y[kept]
    terms = []
    for c in range(count) if isinstance(classes, str) else classes:
        foreground = (y == c).float()
        if y.numel() == 0 or (classes == "present" and not foreground.any()):
            continue
        errors, order = (foreground - p[:, c]).abs().sort(descending=True)
        loss = torch.dot(errors, lovasz_gradient(foreground[order]))
        terms.append(loss if weights is None else loss * weights[c])
    # The sum of nothing keeps the graph, so that backward() works on a batch without labels.
    return torch.stack(terms).mean() if terms else p.sum() * 0


def lovasz_gradient(foreground: Tensor) -> Tensor:
    """Gradient of the Lovász extension of the Jaccard loss, for labels sorted by error.

    `foreground` (pixels) holds 0 and 1, the largest error first; fp32 of the same shape comes
    back, without a graph. Berman et al. 2018, algorithm 1.
    """
    with torch.no_grad():
        # Counted in float64: above 2**24 pixels a cumulative sum in fp32 stops growing.
        truth = foreground.double()
        total = truth.sum()
        intersection = total - truth.cumsum(0)
        union = total + (1 - truth).cumsum(0)
        jaccard = 1 - intersection / union
        return torch.diff(jaccard, prepend=jaccard.new_zeros(1)).to(foreground.dtype)


def levels(
    logits: Tensor,
    codes: Tensor,
    class_weights: Tensor | None = None,
    overlap: Literal["dice", "lovasz"] = "dice",
    share: float = 0.5,
    ignore: int = IGNORE,
) -> Tensor:
    """Cross-entropy mixed with an overlap loss, for networks of several classes.

    `logits` (n, c, h, w); `codes` (n, h, w) hold 0 to c − 1 or `ignore`. `class_weights` (c)
    weigh the cross-entropy, whose mean runs over the weights. `share` of the result is the
    overlap loss over the classes present: soft Dice (smooth 1) or Lovász-softmax. Our own choice
    for the bundled weights, from no paper.
    """
    logits = logits.float()
    codes = codes.long()
    kept = codes != ignore
    if not kept.any():
        return logits.sum() * 0
    entropy = functional.cross_entropy(logits, codes, weight=class_weights, ignore_index=ignore)
    probabilities = logits.softmax(dim=1)
    if overlap == "lovasz":
        area = lovasz_softmax(probabilities, codes, ignore=ignore)
    else:
        area = _dice_of_classes(probabilities, codes, kept)
    return (1 - share) * entropy + share * area


def _dice_of_classes(probabilities: Tensor, codes: Tensor, kept: Tensor) -> Tensor:
    count = probabilities.shape[1]
    truth = functional.one_hot(codes.where(kept, 0), count).movedim(-1, 1)
    mask = kept[:, None]
    truth, p = truth * mask, probabilities * mask
    over = (0, 2, 3)
    sizes = truth.sum(over)
    score = (2 * (p * truth).sum(over) + 1) / (p.sum(over) + sizes + 1)
    return (1 - score)[sizes > 0].mean()


def _probabilities(logits: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    if logits.shape != target.shape:
        raise ValueError(f"logits {tuple(logits.shape)} but target {tuple(target.shape)}")
    p, y = logits.float().sigmoid(), target.float()
    return (p, y) if valid is None else (p * valid, y * valid)
