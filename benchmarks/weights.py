"""The weights that the benchmarks run: the bundled ones, or random ones with settled statistics."""

from __future__ import annotations

from pathlib import Path

import torch
from aftermap.models.card import Card
from aftermap.models.checkpoint import bundled, save
from aftermap.models.registry import build

METHOD = "fc-siam-diff"


def weights(folder: Path) -> Path:
    """The bundled weights, or where there are none random ones of the same network and window."""
    return bundled(METHOD) or random_weights(folder)


def random_weights(
    folder: Path, size: str = "medium", core: int = 1024, halo: int = 32, stride: int = 16
) -> Path:
    """Random weights of five classes with settled batch statistics, nearly all background."""
    path = folder / f"random-{size}-{core}-{halo}.safetensors"
    if path.exists():
        return path
    torch.manual_seed(0)
    network = build(METHOD, size=size, classes=5)
    with torch.inference_mode():
        network.train()
        for _ in range(3):
            network(torch.randn(2, 3, 128, 128), torch.randn(2, 3, 128, 128))
        network.eval()
        logits = network(torch.randn(1, 3, 128, 128), torch.randn(1, 3, 128, 128))
        ahead = logits[:, 1:].amax(dim=1) - logits[:, 0]
        last = network.decoder[0][-1]
        last.bias[0] += torch.quantile(ahead, 0.97)
    card = Card(
        method=METHOD,
        network=METHOD,
        options={"size": size, "classes": 5},
        classes=5,
        bands=3,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        resolution=(0.3, 0.8),
        nominal_resolution=0.5,
        core=core,
        halo=halo,
        stride=stride,
    )
    save(path, network, card)
    return path
