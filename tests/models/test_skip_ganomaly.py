"""Skip-GANomaly: its published numbers, and what the in-place activation of the original does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from aftermap.models import build
from aftermap.models.skip_ganomaly import SkipGANomaly
from aftermap.scenes.errors import UsageError
from torch import Tensor, nn
from torch.nn import functional

pytestmark = pytest.mark.usefixtures("one_thread")


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("width", "generator", "discriminator"),
    [(64, 29_244_035, 3_577_476), (16, 5_764_259, 378_948)],
)
def test_parameters_are_as_published(width: int, generator: int, discriminator: int) -> None:
    network = build("skip-ganomaly", width=width)
    assert isinstance(network, SkipGANomaly)
    assert count(network.generator) == generator
    assert count(network.discriminator) == discriminator
    assert count(network) == generator + discriminator


def test_shapes_and_ranges() -> None:
    torch.manual_seed(0)
    network = SkipGANomaly(16)
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    image = network.generator(x)
    probability, latent = network.discriminator(x)
    assert image.shape == x.shape
    assert float(image.detach().abs().max()) <= 1
    assert probability.shape == (2,)
    assert ((probability > 0) & (probability < 1)).all()
    assert latent.shape == (2, 100, 1, 1)
    made = network(x)
    assert made.bottleneck.shape == (2, 128, 1, 1)
    assert made.bottleneck[0].numel() == network.bottleneck


def test_weights_begin_as_in_the_paper() -> None:
    torch.manual_seed(0)
    network = SkipGANomaly(16)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module.weight.numel() > 10_000:
            assert float(module.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
            assert abs(float(module.weight.detach().mean())) < 0.001
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    scales = torch.cat([m.weight.detach() for m in norms])
    assert float(scales.mean()) == pytest.approx(1, abs=0.005)
    assert float(scales.std()) == pytest.approx(0.02, rel=0.1)
    assert all(not m.bias.any() for m in norms)
    biased = [n for n, m in network.named_modules() if getattr(m, "bias", None) is not None]
    biased = [n for n in biased if not isinstance(network.get_submodule(n), nn.BatchNorm2d)]
    assert biased == ["generator.up.0.1"]


def nested(network: SkipGANomaly, x: Tensor, level: int = 0) -> Tensor:
    """The generator as blocks within blocks, whose activations overwrite what skips hold."""
    down, up = network.generator.down[level], network.generator.up[level]
    inner = functional.leaky_relu_(x, 0.2) if level else x
    inner = down(inner)
    if level + 1 < len(network.generator.down):
        inner = nested(network, inner, level + 1)
    inner = functional.relu_(inner)
    for layer in list(up)[1:]:
        inner = layer(inner)
    return torch.cat([x, inner], 1) if level else inner


@pytest.mark.parametrize("training", [True, False])
def test_skips_carry_what_they_carry_where_activations_are_in_place(training: bool) -> None:
    torch.manual_seed(0)
    network = SkipGANomaly(8, side=32).train(training)
    x = torch.rand(3, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = 0.0
        assert torch.equal(network.generator(x), nested(network, x.clone()))


@pytest.mark.parametrize(("side", "downs"), [(8, None), (32, None), (128, None), (64, 4), (64, 2)])
def test_other_sides_and_fewer_levels(side: int, downs: int | None) -> None:
    network = SkipGANomaly(2, side, downs=downs)
    made = network(torch.zeros(2, 3, side, side))
    assert made.image.shape == (2, 3, side, side)
    assert made.latent.shape == (2, 100, 1, 1)
    assert made.bottleneck[0].numel() == network.bottleneck
    assert len(network.generator.down) == (downs or side.bit_length() - 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"side": 60}, "8, 16, 32, 64 … px; got side 60"),
        ({"side": 0}, "got side 0"),
        ({"downs": 7}, "64 px can be halved 2 to 6 times; got downs 7"),
        ({"width": 0}, "width 0"),
        ({"depth": 3}, "does not take the options"),
    ],
)
def test_what_does_not_fit_is_said(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build("skip-ganomaly", **options)
