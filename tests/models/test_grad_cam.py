"""Grad-CAM against captum's."""

from __future__ import annotations

import pytest
import torch
from aftermap.models.grad_cam import grad_cam
from aftermap.models.inception_window import InceptionWindow
from aftermap.models.zoo import timm
from torch import nn
from torch.nn import functional

timm()  # torchvision, which captum wants, is imported after torch's operators are declared
from captum.attr import LayerGradCam  # noqa: E402


@pytest.mark.parametrize(("name", "layer"), [("vgg11", "features"), ("resnet18", "layer4")])
@pytest.mark.parametrize("target", [0, 1])
def test_it_equals_captum_s(name: str, layer: str, target: int) -> None:
    torch.manual_seed(0)
    network = InceptionWindow(name, 96).eval()
    nn.init.normal_(network.head.weight)
    images = torch.randn(3, 3, 96, 96)
    found = grad_cam(network, images, target)
    oracle = LayerGradCam(network, getattr(network.encoder, layer))
    expected = oracle.attribute(images, target=target, relu_attributions=True).detach()
    wide = functional.interpolate(expected, (96, 96), mode="bilinear", align_corners=False)[:, 0]
    highest = wide.amax(dim=(1, 2), keepdim=True)
    assert (highest > 0).any()
    assert torch.allclose(found, wide / highest.clamp(min=1e-30), atol=1e-5)
    assert found.shape == (3, 96, 96)
    assert (found >= 0).all()
    assert (found <= 1).all()


def test_the_network_is_left_as_it_was() -> None:
    network = InceptionWindow("resnet18", 64).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    grad_cam(network, torch.randn(2, 3, 64, 64))
    assert network.training
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_class_that_nothing_speaks_for() -> None:
    network = InceptionWindow("resnet18", 64).eval()
    nn.init.zeros_(network.head.weight)
    assert (grad_cam(network, torch.randn(1, 3, 64, 64)) == 0).all()
