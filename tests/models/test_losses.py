"""Losses against the numbers of the papers' code, closed forms and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from aftermap.models.losses import (
    bce,
    contrastive,
    dice,
    iou,
    levels,
    lovasz_gradient,
    lovasz_softmax,
)
from sklearn.metrics import jaccard_score

LOGITS = torch.tensor([[2.0, -1.0], [0.5, -3.0]])
TARGET = torch.tensor([[1.0, 0.0], [1.0, 1.0]])


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (dice(LOGITS, TARGET), 0.2952527),
        (dice(LOGITS, TARGET, smooth=0), 0.3565131),
        (iou(LOGITS, TARGET), 0.4025025),
        (iou(LOGITS, TARGET, smooth=0), 0.5256318),
        (bce(LOGITS, TARGET), 0.9907135),
        (bce(LOGITS, TARGET, pos_weight=16.2578), 14.9118996),
        (dice(LOGITS, torch.zeros(2, 2)), 0.6453427),
        (iou(LOGITS, torch.zeros(2, 2)), 0.6453427),
    ],
)
def test_values_of_paper_001(loss: torch.Tensor, expected: float) -> None:
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", [dice, iou, bce])
def test_pixels_that_are_not_valid_have_no_part(loss: object) -> None:
    assert callable(loss)
    valid = torch.tensor([[True, False], [True, True]])
    cut = loss(LOGITS[valid], TARGET[valid])
    assert loss(LOGITS, TARGET, valid=valid).item() == pytest.approx(cut.item(), rel=1e-6)
    none = loss(LOGITS, TARGET, valid=torch.zeros(2, 2, dtype=torch.bool))
    assert none.item() == pytest.approx(0)


FIRST = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 0.0]])
SECOND = torch.tensor([[4.0, 3.0], [0.0, 1.0], [1.0, 0.1]])
DIFFERENT = torch.tensor([0.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("normalize", "each", "mean"),
    [(True, (0.08, 0.0, 0.9802473), 0.3534158), (False, (2.0, 0.0, 0.9801), 0.9933667)],
)
def test_contrastive_of_paper_001(normalize: bool, each: tuple[float, ...], mean: float) -> None:
    for i, expected in enumerate(each):
        one = slice(i, i + 1)
        loss = contrastive(FIRST[one], SECOND[one], DIFFERENT[one], normalize=normalize)
        assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-7)
    loss = contrastive(FIRST, SECOND, DIFFERENT, margin=1.0, normalize=normalize)
    assert loss.item() == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize(
    ("foreground", "expected"),
    [
        ([1, 0, 1, 0], [1 / 2, 1 / 6, 1 / 3, 0]),
        ([0, 0, 1, 1], [1 / 3, 1 / 6, 1 / 4, 1 / 4]),
        ([0, 0, 0], [1, 0, 0]),
        ([1], [1]),
        ([0], [1]),
    ],
)
def test_lovasz_gradient(foreground: list[float], expected: list[float]) -> None:
    gradient = lovasz_gradient(torch.tensor(foreground, dtype=torch.float32))
    assert gradient.tolist() == pytest.approx(expected, abs=1e-7)


def probabilities() -> torch.Tensor:
    values = [[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]]
    return torch.tensor(values, requires_grad=True)


LABELS = torch.tensor([0, 0, 1, 1])


def test_lovasz_softmax_values_and_gradients() -> None:
    p = probabilities()
    loss = lovasz_softmax(p, LABELS)
    assert loss.item() == pytest.approx(0.3791667, rel=1e-6)
    assert lovasz_softmax(p, LABELS, classes="all").item() == pytest.approx(0.3791667, rel=1e-6)
    assert lovasz_softmax(p, LABELS, classes=[1]).item() == pytest.approx(0.3666667, rel=1e-6)
    loss.backward()
    assert p.grad is not None
    assert p.grad[:, 0].tolist() == pytest.approx([-0.125, -0.25, 0.0833333, 0.0416667], rel=1e-5)
    assert p.grad[:, 1].tolist() == pytest.approx([0, 0.1666667, -0.1666667, -0.1666667], rel=1e-5)


def test_lovasz_softmax_layouts_agree() -> None:
    generator = torch.Generator().manual_seed(3)
    p = torch.randn(2, 5, 6, 7, generator=generator).softmax(dim=1)
    y = torch.randint(0, 5, (2, 6, 7), generator=generator)
    flat = lovasz_softmax(p.movedim(1, -1).reshape(-1, 5), y.reshape(-1))
    assert lovasz_softmax(p, y).item() == pytest.approx(flat.item(), rel=1e-6)
    each = [lovasz_softmax(p[i : i + 1], y[i : i + 1]).item() for i in range(2)]
    assert lovasz_softmax(p, y, per_image=True).item() == pytest.approx(np.mean(each), rel=1e-6)
    noisy = y.clone()
    noisy[0, :3] = 255
    kept = (noisy != 255).reshape(-1)
    cut = lovasz_softmax(p.movedim(1, -1).reshape(-1, 5)[kept], y.reshape(-1)[kept])
    assert lovasz_softmax(p, noisy, ignore=255).item() == pytest.approx(cut.item(), rel=1e-6)


def test_lovasz_softmax_of_decided_maps_is_one_minus_iou() -> None:
    truth = torch.tensor([[[0, 1], [2, 2]]])
    decided = torch.tensor([[[0, 1], [2, 0]]])

    def onehot(labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()

    assert lovasz_softmax(onehot(truth), truth).item() == 0
    assert lovasz_softmax(onehot(decided), truth).item() == pytest.approx(1 / 3, rel=1e-6)
    generator = torch.Generator().manual_seed(5)
    y, d = torch.randint(0, 3, (2, 1, 20, 20), generator=generator)
    oracle = 1 - jaccard_score(y.ravel(), d.ravel(), average="macro")
    assert lovasz_softmax(onehot(d), y).item() == pytest.approx(oracle, rel=1e-5)


def test_lovasz_softmax_weights_multiply_before_a_plain_mean() -> None:
    p = probabilities()
    one = [lovasz_softmax(p, LABELS, classes=[c]).item() for c in range(2)]
    expected = (0.4 * one[0] + 1.2 * one[1]) / 2
    for weights in ([0.4, 1.2], torch.tensor([0.4, 1.2])):
        loss = lovasz_softmax(p, LABELS, weights=weights)
        assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_lovasz_softmax_corner_cases() -> None:
    p = probabilities()
    nothing = lovasz_softmax(p, torch.full((4,), 255), ignore=255)
    assert nothing.shape == ()
    assert nothing.item() == 0
    nothing.backward()
    assert p.grad is not None
    assert not p.grad.any()
    one = lovasz_softmax(p[:1], LABELS[:1])
    assert one.item() == pytest.approx(0.1, rel=1e-5)
    assert lovasz_softmax(p, LABELS, classes=[]).item() == 0
    # An absent class costs its largest false probability, and only under "all".
    assert lovasz_softmax(p[2:], LABELS[2:], classes=[0]).item() == pytest.approx(0.3)
    assert lovasz_softmax(p[2:], LABELS[2:]).item() == pytest.approx(0.25)
    with pytest.raises(ValueError, match=r"labels \(3,\) do not belong together"):
        lovasz_softmax(p, LABELS[:3])


@pytest.mark.parametrize("overlap", ["dice", "lovasz"])
def test_levels_ignores_255_and_falls_to_zero(overlap: str) -> None:
    generator = torch.Generator().manual_seed(7)
    codes = torch.randint(0, 5, (2, 8, 8), generator=generator, dtype=torch.uint8)
    logits = torch.randn(2, 5, 8, 8, generator=generator)
    codes[0, 0] = 255
    other = logits.clone()
    other[0, :, 0] += torch.randn(5, 8, generator=generator)
    weights = torch.tensor([0.2, 1.0, 1.0, 1.0, 1.0])
    loss = levels(logits, codes, weights, overlap=overlap)  # type: ignore[arg-type]
    same = levels(other, codes, weights, overlap=overlap)  # type: ignore[arg-type]
    assert same.item() == pytest.approx(loss.item(), rel=1e-6)
    sure = 40 * torch.nn.functional.one_hot(codes.long().clamp(max=4), 5).movedim(-1, 1).float()
    assert levels(sure, codes, weights, overlap=overlap).item() < 1e-3  # type: ignore[arg-type]
    empty = logits.clone().requires_grad_()
    nothing = levels(empty, torch.full_like(codes, 255), overlap=overlap)  # type: ignore[arg-type]
    nothing.backward()
    assert nothing.item() == 0


def test_levels_share_picks_the_two_parts() -> None:
    logits = torch.randn(1, 5, 4, 4, generator=torch.Generator().manual_seed(9))
    codes = torch.arange(16).reshape(1, 4, 4) % 5
    entropy = torch.nn.functional.cross_entropy(logits, codes)
    assert levels(logits, codes, share=0).item() == pytest.approx(entropy.item(), rel=1e-6)
    area = lovasz_softmax(logits.softmax(1), codes)
    lovasz = levels(logits, codes, share=1, overlap="lovasz")
    assert lovasz.item() == pytest.approx(area.item(), rel=1e-6)
