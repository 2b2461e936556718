"""Maps of damage, against captum, and against derivatives taken by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from aftermap.models.deep_disaster import DeepDisaster
from aftermap.models.distillation import Form
from aftermap.models.localisation import (
    METHODS,
    SAMPLES,
    gradient,
    grey_map,
    guided_backpropagation,
    guided_gradient,
    noise_deviation,
    objective,
    smooth_gradient,
    vanilla_gradient,
)
from captum import attr
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

pytestmark = pytest.mark.usefixtures("one_thread")


def network(form: Form = "paper", **options: Any) -> DeepDisaster:
    torch.manual_seed(0)
    made = DeepDisaster(width=4, teacher_width=6, side=32, form=form, alpha=0.7, **options)
    for module in (made.teacher, made.student):
        if module is not None:
            module.train()
            with torch.no_grad():
                for _ in range(20):
                    module(images(16, 7))
    return made.eval()


def images(n: int = 2, seed: int = 1) -> Tensor:
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class Seen(nn.Module):
    """The objective as a module of captum's, which hooks the ReLUs of the generator alone."""

    def __init__(self, whole: DeepDisaster) -> None:
        super().__init__()
        self.generator = whole.judged.generator
        self.whole = [whole]

    def forward(self, x: Tensor) -> Tensor:
        return objective(self.whole[0], x)


def test_the_grey_map_of_the_reference() -> None:
    slope = np.array([[[1, -2], [0, 3]], [[0, 1], [-1, 0]], [[2, 0], [0, -1]]], float)
    np.testing.assert_allclose(grey_map(slope), [[0.673401, 0.673401], [0, 1]], atol=1e-6)
    assert not grey_map(np.ones((3, 4, 4))).any()


@pytest.mark.parametrize("form", ["paper", "code"])
def test_gradients_are_captums(form: Form) -> None:
    net, x = network(form), images()
    expected = attr.Saliency(Seen(net)).attribute(x.clone().requires_grad_(), abs=False)
    torch.testing.assert_close(gradient(net, x), expected)
    assert expected.abs().max() > 0
    maps = vanilla_gradient(net, x)
    wanted = ndimage.gaussian_filter(grey_map(expected[1].numpy()), 4)
    np.testing.assert_allclose(maps[1], wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", ["paper", "code"])
def test_gradients_are_differences_of_the_objective(form: Form) -> None:
    net = network(form).double()
    x = images(1).double()
    slope = gradient(net, x)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).double()

    def value(step: float) -> float:
        moved = x + step * direction
        if form == "paper":
            return float(objective(net, moved))
        student, teacher = net.student, net.teacher
        assert student is not None
        assert teacher is not None
        drawn, wanted = student.generator(moved), teacher.generator(moved)
        own, latent = student.discriminator(x)[1], student.discriminator(drawn)[1]
        turn = 1 - functional.cosine_similarity(drawn.flatten(), wanted.flatten(), dim=0)
        return float(
            0.4 * functional.mse_loss(drawn, x)
            + 0.2 * functional.mse_loss(latent, own)
            + 0.4 * (turn + 0.7 * functional.mse_loss(drawn, wanted))
        )

    with torch.no_grad():
        step = 1e-6
        numeric = (value(step) - value(-step)) / (2 * step)
    assert float((slope * direction).sum()) == pytest.approx(numeric, rel=1e-4)


def test_smooth_gradients_are_captums() -> None:
    net, x = network(), images(1)
    deviation = noise_deviation(x[0], code=False)
    assert deviation == pytest.approx(0.05 * float(x.max() - x.min()))
    torch.manual_seed(3)
    tunnel = attr.NoiseTunnel(attr.Saliency(Seen(net)))
    expected = tunnel.attribute(
        x.clone(), nt_type="smoothgrad", nt_samples=SAMPLES, stdevs=deviation, abs=False
    )
    found = smooth_gradient(net, x, seed=3)
    wanted = ndimage.gaussian_filter(grey_map(expected[0].detach().numpy()), 4)
    np.testing.assert_allclose(found[0], wanted, rtol=1e-3, atol=1e-4)
    assert np.abs(vanilla_gradient(net, x)[0] - wanted).max() > 1e-2


def test_smooth_gradients_of_the_code_average_grey_maps() -> None:
    net, x = network("code"), images(1)
    extent = float(x.max() - x.min())
    assert noise_deviation(x[0], code=True) == pytest.approx((0.05 / extent) ** 2)
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(6, 3, 32, 32, generator=random) * (0.05 / extent) ** 2
    maps = np.stack([grey_map(gradient(net, x + one[None])[0].numpy()) for one in noise]).mean(0)
    maps = (maps - maps.min()) / (maps.max() - maps.min())
    found = smooth_gradient(net, x, samples=6)
    np.testing.assert_allclose(found[0], ndimage.gaussian_filter(maps, 4), rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
@pytest.mark.parametrize("form", ["paper", "code"])
def test_guided_gradients_are_captums(form: Form) -> None:
    net, x = network(form), images()
    expected = attr.GuidedBackprop(Seen(net)).attribute(x.clone().requires_grad_())
    found = guided_gradient(net, x)
    torch.testing.assert_close(found, expected)
    assert (found - gradient(net, x)).abs().max() > 1e-3 * found.abs().max()


def test_hooks_are_gone_afterwards() -> None:
    net, x = network(), images(1)
    before = gradient(net, x)
    guided_backpropagation(net, x)
    with pytest.raises(RuntimeError):
        guided_gradient(net, x[:, :2])
    assert not any(module._backward_hooks for module in net.modules())
    assert torch.equal(gradient(net, x), before)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("form", ["paper", "code"])
def test_maps_are_as_large_as_the_images_and_of_0_to_1(name: str, form: Form) -> None:
    net, x = network(form), images()
    with torch.no_grad():
        maps = METHODS[name](net, x)
    assert maps.shape == (2, 32, 32)
    assert maps.dtype == np.float32
    assert maps.min() >= 0
    assert 0 < maps.max() <= 1
    alone = np.concatenate([METHODS[name](net, one[None]) for one in x])
    if name != "smooth-gradient":  # whose noise differs
        np.testing.assert_allclose(maps, alone, rtol=1e-3, atol=1e-4)


def test_the_forms_differ_and_one_network_alone_has_maps() -> None:
    x = images()
    paper, code = (vanilla_gradient(network(form), x) for form in ("paper", "code"))
    assert np.abs(paper - code).max() > 0.01
    for scored in ("teacher", "student"):
        assert vanilla_gradient(network(scored=scored), x).max() > 0
