"""Networks as a process keeps and runs them: read once, folded, on their device, in their precision."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..models.card import Card
from ..models.checkpoint import found, load
from ..scenes.errors import Refused
from .gpu import lane

Precision = Literal["fp32", "bf16"]

_STRIP = 64
"""Rows that are normalised at a time on a CPU."""


# All of an ensemble's: one that fell out would be read again for every window.
@cache
def loaded(
    weights: str, digest: str, device: str, precision: Precision, compiled: bool = False
) -> nn.Module:
    """The network, ready to run; once per process. Refuses weights that changed since the plan."""
    network, card = load(found(weights, digest))
    if card.sha256 != digest:
        raise Refused(f"{weights} changed since the run was planned; start it again with --fresh.")
    fold_batch_norm(network).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if precision == "bf16":
        network.to(torch.bfloat16)
    if compiled:
        network.compile()
    return network


def on_device(device: str, work: Callable[..., Tensor], *arrays: np.ndarray) -> np.ndarray:
    """What `work` makes, uint8, of arrays on a device; MemoryError where they do not fit there."""
    try:
        if device == "cpu":
            return work(*map(torch.from_numpy, arrays)).numpy()
        return lane().run(work, arrays)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            if device == "cuda":
                torch.cuda.empty_cache()  # others may share the device
            raise MemoryError(str(error)) from error
        raise


def normalised(source: Tensor, seen: Tensor, card: Card, precision: Precision) -> Tensor:
    """uint8 images (n, bands, h, w) as a network wants them, zero (the mean colour) where nothing was
    measured; `seen` is (n, 1, h, w) bool."""
    mean, std = (
        torch.tensor(values, device=source.device).view(1, -1, 1, 1) * card.scale
        for values in (card.mean, card.std)
    )
    out = torch.empty(
        source.shape,
        dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
        device=source.device,
        memory_format=torch.channels_last,
    )
    # Strips of rows stay in a CPU's cache; a GPU takes the window at once.
    height = source.shape[-2]
    step = _STRIP if source.device.type == "cpu" else height
    for row in range(0, height, step):
        rows = np.s_[..., row : row + step, :]
        x = source[rows].to(torch.float32).sub_(mean).div_(std)
        out[rows] = x.mul_(seen[rows])
    return out


def choose_precision(card: Card, asked: str, device: str) -> Precision:
    """The precision that a card and a device give to what was asked for: auto, fp32 or bf16."""
    if asked == "fp32" or (asked == "auto" and card.precision == "fp32"):
        return "fp32"
    if asked not in ("auto", "bf16"):
        raise Refused(f"--precision {asked!r} is unknown; give auto, fp32 or bf16.")
    if asked == "auto" and not has_bf16(device):
        return "fp32"
    return "bf16"


def has_bf16(device: str) -> bool:
    """Whether a device computes bf16 natively; emulation is slower than fp32."""
    if device == "cuda":
        # Without a GPU here it is another machine's: all since 2020 have it.
        return not torch.cuda.is_available() or torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_avx512_bf16_supported())


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Fold every BatchNorm that directly follows a convolution in a Sequential into it (eval only)."""
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            _fold_sequence(module)
    return network


def _fold_sequence(sequence: nn.Sequential) -> None:
    names = list(sequence._modules)
    for first, second in pairwise(names):
        conv, norm = sequence._modules[first], sequence._modules[second]
        if isinstance(norm, nn.BatchNorm2d) and isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d)):
            transposed = isinstance(conv, nn.ConvTranspose2d)
            sequence._modules[first] = nn.utils.fuse_conv_bn_eval(conv, norm, transpose=transposed)
            sequence._modules[second] = nn.Identity()
