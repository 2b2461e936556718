"""The weights that the benchmarks run: the bundled ones, or random ones with settled statistics."""

from __future__ import annotations

from pathlib import Path

import torch
from aftermap.models.card import Card
from aftermap.models.checkpoint import bundled, save
from aftermap.models.registry import build
from torch import Tensor
from torch.nn import functional

METHOD = "fc-siam-diff"


def weights(folder: Path) -> Path:
    """The bundled weights, or where there are none random ones of the same network and window."""
    return bundled(METHOD) or random_weights(folder)


def random_weights(
    folder: Path,
    size: str = "medium",
    core: int = 1024,
    halo: int = 32,
    stride: int = 16,
    background: float = 0.97,
) -> Path:
    """Random weights of five classes with settled statistics; `background` is about its share."""
    path = folder / f"random-{size}-{core}-{halo}-{stride}-{background}.safetensors"
    if path.exists():
        return path
    torch.manual_seed(0)
    network = build(METHOD, size=size, classes=5)
    _settle(network, background)
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


@torch.no_grad()
def _settle(network: torch.nn.Module, background: float) -> None:
    """Let normalisation see images, spread the logits, and raise the background's."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # a plain mean over the passes
    network.train()
    for _ in range(4):
        network(*_pair())
    network.eval()
    last, pair = network.decoder[0][-1], _pair()
    last.weight *= 2 / network(*pair).std(dim=(0, 2, 3)).view(-1, 1, 1, 1)
    last.bias.zero_()
    logits = network(*pair)
    last.bias -= logits.mean(dim=(0, 2, 3))
    logits = network(*pair)
    ahead = logits[:, 1:].amax(dim=1) - logits[:, 0]
    last.bias[0] += torch.quantile(ahead, background)


def _pair() -> tuple[Tensor, Tensor]:
    """Normalised images (2, 3, 128, 128) with structure at several scales, alike but for patches."""
    before, other = (_image() + _image() for _ in range(2))
    patches = functional.interpolate(torch.rand(2, 1, 16, 16), size=128) > 0.8
    return before, torch.where(patches, other, before + 0.1 * torch.randn_like(before))


def _image() -> Tensor:
    scales = [torch.randn(2, 3, side, side) for side in (8, 32, 128)]
    return torch.stack([functional.interpolate(s, size=128, mode="bilinear") for s in scales]).mean(
        0
    )
