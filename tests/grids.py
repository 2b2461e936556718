"""Small networks of paper 004 that learnt nothing, for tests of the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from aftermap.models.card import Card
from aftermap.models.checkpoint import save
from aftermap.models.registry import build
from aftermap.models.unet_join import join
from torch import nn

CELL = 64


def grid_weights(folder: Path, seed: int = 0, cell: int = CELL) -> Path:
    """Weights of `unet-grid`, joined of two random networks whose answers vary."""
    folder.mkdir(exist_ok=True)
    buildings = random_weights(folder / "unet-footprints.safetensors", "unet-footprints", seed)
    cells = random_weights(folder / "grid-classifier.safetensors", "grid-classifier", seed, cell)
    return join(buildings, cells, folder)


def random_weights(path: Path, name: str, seed: int = 0, cell: int = CELL, **changes: Any) -> Path:
    """Weights of either network, with settled statistics and half of the answers above a half."""
    torch.manual_seed(seed)
    options: dict[str, Any] = {"encoder": "resnet18"}
    if name == "grid-classifier":
        options["cell"] = cell
    network = build(name, **options)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of what was seen
    image = torch.rand(8, 3, CELL, CELL) * 2
    with torch.no_grad():
        network.train()(image)
        logits = network.eval()(image)
        last = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
        assert last.bias is not None
        last.weight /= logits.std()
        last.bias -= network(image).median()
    window = network.window()  # type: ignore[operator]
    card = Card(
        **{
            "method": name,
            "network": name,
            "options": options,
            "classes": 1,
            "bands": 3,
            "mean": (0.4, 0.4, 0.4),
            "std": (0.2, 0.2, 0.2),
            "resolution": (0.1, 1.0),
            "nominal_resolution": 0.5,
            "core": window.core,
            "halo": window.halo,
            "blended": window.blended,
            "stride": network.stride,  # type: ignore[arg-type]
            "licence": "Apache-2.0",
            **changes,
        }
    )
    save(path, network, card)
    return path
