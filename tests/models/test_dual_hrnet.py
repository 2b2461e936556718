"""Dual-HRNet: its numbers, its heads, and the weights it begins with."""

from __future__ import annotations

import pytest
import torch
from aftermap.models.dual_hrnet import DualHRNet
from aftermap.models.registry import build
from aftermap.models.zoo import timm
from aftermap.scenes.errors import UsageError
from torch import nn


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def small(seed: int = 0) -> DualHRNet:
    torch.manual_seed(seed)
    network = DualHRNet(width=4)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return network.eval()


def test_parameters() -> None:
    network = build("dual-hrnet")
    assert isinstance(network, DualHRNet)
    assert count(network) == 59_535_494
    assert count(network.before) + count(network.buildings) == 29_538_338
    assert count(network.after) + count(network.levels) == 29_539_300
    assert [count(f) for f in network.fusions] == [2 * 10_432, 2 * 43_456, 2 * 175_040]


def test_logits_lie_at_a_quarter_of_the_resolution() -> None:
    buildings, levels = small()(torch.randn(2, 3, 64, 96), torch.randn(2, 3, 64, 96))
    assert buildings.shape == (2, 2, 16, 24)
    assert levels.shape == (2, 4, 16, 24)


def test_both_heads_see_both_images() -> None:
    network, pre, post = small(), torch.randn(1, 3, 64, 64), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        buildings, levels = network(pre, post)
        for other in (network(pre, post.flip(-1)), network(pre.flip(-1), post)):
            assert not torch.allclose(buildings, other[0])
            assert not torch.allclose(levels, other[1])


def test_probabilities_are_those_of_upsampled_logits() -> None:
    network, pre, post = small(), torch.randn(1, 3, 64, 64), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        found = network.probabilities(pre, post)
        up = nn.Upsample(scale_factor=4, mode="bilinear")
        buildings, levels = map(up, network(pre, post))
    torch.testing.assert_close(found.sum(dim=1), torch.ones(1, 64, 64))
    torch.testing.assert_close(found[:, 0], buildings.softmax(1)[:, 0])
    building = buildings.softmax(1)[:, 1:]
    torch.testing.assert_close(found[:, 1:], building * levels.softmax(1))
    # The published rule: the most probable level, and 0 where no building is.
    wanted = (levels.argmax(1) + 1) * (buildings.argmax(1) == 1)
    agree = (network.codes(found) == wanted).float().mean()
    assert agree > 0.9999
    assert set(network.codes(found).unique().tolist()) > {0}
    torch.testing.assert_close(network.probabilities(pre, post, halo=8), found[..., 8:-8, 8:-8])


def test_a_likely_building_of_uncertain_level_is_no_background() -> None:
    p = torch.tensor([0.4, 0.1, 0.2, 0.15, 0.15]).view(1, 5, 1, 1)
    assert small().codes(p).item() == 2


@pytest.mark.parametrize("stem", ["canonical", "released"])
def test_bodies_begin_with_all_weights_of_timm(stem: str) -> None:
    theirs = timm().create_model("hrnet_w32", pretrained=False)
    network = build("dual-hrnet", stem=stem)
    assert isinstance(network, DualHRNet)
    network.load_bodies(theirs.state_dict())
    for body in (network.before, network.after):
        wanted, found = theirs.transition3[3][0][0].weight, body.transitions[2].paths[3][0].weight
        assert torch.equal(wanted, found)
        assert torch.equal(theirs.bn2.running_var, body.stem[4].running_var)


def test_weights_of_another_network_are_refused_by_name() -> None:
    theirs = timm().create_model("hrnet_w18_small", pretrained=False)
    with pytest.raises(UsageError, match=r"width 32.*missing"):
        DualHRNet().load_bodies(theirs.state_dict())
    with pytest.raises(UsageError, match=r"unknown or of another shape \(other\.weight"):
        DualHRNet(4).load_bodies({"other.weight": torch.zeros(1)})


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="divisible by 32"):
        small()(torch.zeros(1, 3, 48, 64), torch.zeros(1, 3, 48, 64))
    with pytest.raises(UsageError, match="one shape"):
        small()(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 32))
