"""Small Dual-HRNets that learnt nothing, for tests of the engine."""

from __future__ import annotations

from pathlib import Path

import torch
from aftermap.models.card import Card
from aftermap.models.checkpoint import save
from aftermap.models.registry import build
from torch import nn


def dual_weights(path: Path, seed: int = 0) -> Path:
    """Write weights of random values and settled statistics, so that all classes occur."""
    torch.manual_seed(seed)
    network = build("dual-hrnet", width=4)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of what was seen, instead of a slow drift to it
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 64, 64), torch.randn(4, 3, 64, 64))
    card = Card(
        method="dual-hrnet",
        network="dual-hrnet",
        options={"width": 4, "stem": "canonical"},
        classes=5,
        bands=3,
        mean=(0.4, 0.4, 0.4),
        std=(0.2, 0.2, 0.2),
        resolution=(0.1, 1.0),
        nominal_resolution=0.5,
        core=96,
        halo=64,
        blended=True,
        stride=32,
    )
    save(path, network, card)
    return path
