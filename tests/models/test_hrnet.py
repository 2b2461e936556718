"""HRNet against timm's, tensor for tensor and value for value."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from aftermap.models.hrnet import CLASSIFIER, HRNet, from_timm
from aftermap.models.zoo import timm
from aftermap.scenes.errors import UsageError
from torch import nn


@pytest.fixture(scope="module")
def theirs() -> Any:
    torch.manual_seed(1)
    network = timm().create_model("hrnet_w32", pretrained=False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.1)
        if isinstance(module, nn.Upsample):
            module.mode = "bilinear"  # as in segmentation; it classifies images with "nearest"
    return network.eval()


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters() -> None:
    body = HRNet()
    assert count(body) == 29_305_536
    assert count(body.stem) == 1_728 + 128 + 36_864 + 128
    assert count(body.layer1) == 286_208
    assert count(body.transitions) == 590_784
    assert [count(stage) for stage in body.stages] == [390_848, 6_821_632, 21_177_216]


def test_every_tensor_of_timm_has_its_place(theirs: Any) -> None:
    found = from_timm(theirs.state_dict())
    ours = HRNet().state_dict()
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in ours.items()}
    left = [k for k in theirs.state_dict() if not k.startswith(CLASSIFIER)]
    assert len(left) == len(found)


def test_computes_what_timm_computes(theirs: Any) -> None:
    ours = HRNet()
    ours.load_state_dict(from_timm(theirs.state_dict()))
    ours.eval()
    x = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        found = ours.start(x)
        for transition, stage in zip(ours.transitions, ours.stages, strict=True):
            found = stage(transition(found))
        stem = theirs.act1(theirs.bn1(theirs.conv1(x)))
        wanted = theirs.stages(theirs.act2(theirs.bn2(theirs.conv2(stem))))
    assert [y.shape[-1] for y in found] == [24, 12, 6, 3]
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


def test_the_released_stem_normalises_before_its_first_relu(theirs: Any) -> None:
    ours = HRNet(stem="released")
    ours.load_state_dict(from_timm(theirs.state_dict(), "released"))
    x = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        first = theirs.conv2(theirs.bn1(theirs.conv1(x))).relu()
        torch.testing.assert_close(ours.eval().stem(x), theirs.bn2(first).relu())


def test_widths_and_refusals() -> None:
    body = HRNet(width=4).eval()
    features = body.start(torch.zeros(1, 3, 32, 32))
    for transition, stage in zip(body.transitions, body.stages, strict=True):
        features = stage(transition(features))
    assert [tuple(x.shape[1:]) for x in features] == [(4, 8, 8), (8, 4, 4), (16, 2, 2), (32, 1, 1)]
    with pytest.raises(UsageError, match="width=0"):
        HRNet(width=0)
    with pytest.raises(UsageError, match="stem"):
        HRNet(stem="else")  # type: ignore[arg-type]
