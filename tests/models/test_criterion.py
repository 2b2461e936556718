"""The loss of Dual-HRNet: what it counts, and that it agrees with another implementation."""

from __future__ import annotations

import pytest
import torch
from aftermap.models.criterion import LEVEL_WEIGHTS, buildings_and_levels
from aftermap.models.losses import lovasz_softmax
from aftermap.models.zoo import segmentation_models
from torch.nn import functional

CODES = torch.tensor([[0, 1, 2, 3], [4, 4, 255, 0], [1, 2, 2, 5], [3, 0, 0, 1]])


def logits(side: int, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return (3 * torch.randn(2, 6, side, side)).requires_grad_()


def codes() -> torch.Tensor:
    return torch.stack([CODES, CODES.flip(0)]).to(torch.uint8)


def test_it_is_the_sum_of_two_lovasz_losses() -> None:
    found = buildings_and_levels(logits(4), codes(), (1.0, 1.0, 1.0, 1.0))
    theirs = segmentation_models().losses.LovaszLoss("multiclass", ignore_index=255)
    x, y = logits(4), codes().long()
    building = torch.where(y == 255, 255, (y > 0).long())
    # Of code 5 only that it is a building is known.
    level = torch.where((y == 0) | (y == 5) | (y == 255), 255, y - 1)
    wanted = theirs(x[:, :2], building) + theirs(x[:, 2:], level)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_levels_have_weights_before_the_plain_mean() -> None:
    x = logits(4)
    y = codes().long()
    level = torch.where((y == 0) | (y == 5) | (y == 255), 255, y - 1)
    each = [
        lovasz_softmax(x[:, 2:].softmax(1), level, classes=[c], ignore=255).item() for c in range(4)
    ]
    building = buildings_and_levels(x, codes(), (0.0,) * 4).item()
    wanted = building + sum(w * e for w, e in zip(LEVEL_WEIGHTS, each, strict=True)) / 4
    assert buildings_and_levels(x, codes()).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("entropy", [False, True])
def test_softmax_comes_before_upsampling(entropy: bool) -> None:
    x, y = logits(2), codes()
    up = functional.interpolate(
        torch.cat([x[:, :2].softmax(1), x[:, 2:].softmax(1)], 1), (4, 4), mode="bilinear"
    )
    # Softmax of the logarithm of probabilities is the probabilities.
    wanted = buildings_and_levels(up.log(), y, entropy=entropy).item()
    assert buildings_and_levels(x, y, entropy=entropy).item() == pytest.approx(wanted, rel=1e-5)


def test_entropy_is_the_weighted_cross_entropy() -> None:
    x, y = logits(4), codes().long()
    building = torch.where(y == 255, 255, (y > 0).long())
    level = torch.where((y == 0) | (y == 5) | (y == 255), 255, y - 1)
    wanted = functional.cross_entropy(x[:, :2], building, ignore_index=255)
    wanted = wanted + functional.cross_entropy(
        x[:, 2:], level, torch.tensor(LEVEL_WEIGHTS), ignore_index=255
    )
    found = buildings_and_levels(x, codes(), entropy=True)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("entropy", [False, True])
@pytest.mark.parametrize("code", [0, 255])
def test_pixels_that_say_nothing_leave_a_loss_with_a_gradient(entropy: bool, code: int) -> None:
    x = logits(4)
    loss = buildings_and_levels(x, torch.full((2, 4, 4), code, dtype=torch.uint8), entropy=entropy)
    loss.backward()
    assert torch.isfinite(x.grad).all()  # type: ignore[arg-type]
    assert not x.grad[:, 2:].any()  # type: ignore[index]
    assert bool(loss.item() > 0) == (code == 0)
