"""Networks as a process keeps them: read once, folded, on their device."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from ..models.checkpoint import found, load
from ..models.damage_net import DamageNet
from ..scenes.errors import Refused

Precision = Literal["fp32", "bf16"]


# All of an ensemble's: one that fell out would be read again for every window.
@lru_cache(maxsize=16)
def loaded(
    weights: str, digest: str, device: str, precision: Precision, compiled: bool = False
) -> DamageNet:
    """The network, ready to run; once per process. Refuses weights that changed since the plan."""
    network, card = load(found(weights, digest))
    if card.sha256 != digest:
        raise Refused(f"{weights} changed since the run was planned; start it again with --fresh.")
    assert isinstance(network, DamageNet)  # as `network_kernel` saw it
    fold_batch_norm(network).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if precision == "bf16":
        network.to(torch.bfloat16)
    if compiled:
        network.compile()
    return network


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
