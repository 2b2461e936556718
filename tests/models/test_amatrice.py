"""How right the networks of paper 004 are, their losses, and the check that parts are alike."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from aftermap.models.amatrice import Mix, check_alike, scene_counts, scene_metrics
from aftermap.models.chips.chip import Chip
from aftermap.models.criterion import footprint_loss, scene_criterion
from aftermap.models.curves import ScoreCounts
from aftermap.models.damage_net import SceneNet
from aftermap.models.presets import train_config
from aftermap.models.registry import build
from aftermap.models.unet import GridClassifier
from aftermap.models.zoo import segmentation_models
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, roc_auc_score
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


class Held:
    """Chips by number."""

    def __init__(self, *chips: Chip) -> None:
        self.chips = chips

    def __len__(self) -> int:
        return len(self.chips)

    def chip(self, index: int, rng: np.random.Generator | None = None) -> Chip:
        return self.chips[index]

    def damaged(self, index: int) -> bool | None:
        return None


def of_codes(codes: np.ndarray) -> Chip:
    """A chip whose image tells its codes faintly, under noise."""
    rng = np.random.default_rng(codes.sum(dtype=int))
    images = rng.normal(110 + 8.0 * (codes % 255), 25, (2, 3, *codes.shape))
    return Chip(*images.clip(1, 255).astype(np.uint8), codes)


def random_codes(height: int, width: int, seed: int) -> np.ndarray:
    """Codes in blocks of 16 px, some of them not known."""
    rng = np.random.default_rng(seed)
    blocks = rng.choice([0, 0, 0, 1, 2, 4, 5, 255], (-(-height // 16), -(-width // 16)))
    return np.kron(blocks, np.ones((16, 16)))[:height, :width].astype(np.uint8)


def network(name: str) -> SceneNet:
    """A small network whose answers are neither all yes nor all no."""
    torch.manual_seed(0)
    options = {"cell": 32} if name == "grid-classifier" else {}
    found = build(name, encoder="resnet18", **options)
    assert isinstance(found, SceneNet)
    with torch.no_grad():
        found.train()
        for module in found.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        found(torch.randn(16, 3, 64, 64))
    return found.eval()


# Losses


@pytest.mark.parametrize("by_dice", [False, True])
def test_the_loss_of_footprints_is_the_sum_of_two_of_a_library(by_dice: bool) -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(3, 1, 16, 16) * 3, (torch.rand(3, 1, 16, 16) > 0.7).float()
    losses = segmentation_models().losses
    # Their Dice adds its smoothing to half of what ours is a ratio of.
    overlap = losses.DiceLoss("binary", smooth=0.5) if by_dice else losses.JaccardLoss("binary", smooth=1.0)  # fmt: skip
    wanted = losses.SoftBCEWithLogitsLoss()(logits, target) + overlap(logits, target)
    known = torch.ones_like(target, dtype=torch.bool)
    found = footprint_loss(logits, target, known, by_dice)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_what_is_not_known_counts_in_no_loss() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 1, 8, 8), (torch.rand(2, 1, 8, 8) > 0.5).float()
    known = torch.rand(2, 1, 8, 8) > 0.4
    whole = footprint_loss(logits, target, known).item()
    other = torch.where(known, logits, 100.0)
    assert footprint_loss(other, target, known).item() == pytest.approx(whole)
    part = footprint_loss(
        logits[known], target[known], torch.ones(int(known.sum()), dtype=torch.bool)
    )
    assert part.item() == pytest.approx(whole)


@pytest.mark.parametrize("name", ["unet-footprints", "grid-classifier"])
def test_nothing_known_is_a_zero_with_a_gradient(name: str) -> None:
    net = network(name)
    config = train_config({"out": "x", "method": name}, "amatrice")
    codes = torch.full((2, 32, 32), 255, dtype=torch.uint8)
    outputs = net(torch.randn(2, 3, 32, 32))
    loss = scene_criterion(config, outputs, *net.labels(codes))
    assert loss.item() == 0
    loss.backward()
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    assert gradients
    assert not any(g.any() for g in gradients)


def test_cells_learn_a_share_and_cells_without_buildings_nothing() -> None:
    net = network("grid-classifier")
    config = train_config({"out": "x", "method": "grid-classifier"}, "amatrice")
    codes = torch.zeros(3, 32, 32, dtype=torch.uint8)
    codes[0, :8, :4], codes[0, :8, 4:16] = 4, 1
    codes[1, :2] = 5
    logits = torch.tensor([[0.3], [-1.2], [7.0]], requires_grad=True)
    loss = scene_criterion(config, logits, *net.labels(codes))
    p = logits.detach().sigmoid()[:2, 0]
    shares = torch.tensor([0.25, 1.0])
    wanted = -(shares * p.log() + (1 - shares) * (1 - p).log()).mean()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-6)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[2] == 0
    torch.testing.assert_close(logits.grad[:2, 0], (p - shares) / 2)


# Scores


def test_scores_of_footprints_are_those_of_another_library() -> None:
    net, codes = network("unet-footprints"), random_codes(96, 128, 1)
    chips = [of_codes(codes), of_codes(random_codes(64, 64, 2))]
    counts = scene_counts(net, chips)
    truth, probability = [], []
    for chip in chips:
        mean, std = (
            torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        image = (torch.from_numpy(chip.pre) / 255 - mean) / std
        with torch.inference_mode():
            found = net(image[None]).sigmoid()[0, 0].numpy()
        known = chip.codes != 255
        truth.append(chip.codes[known] > 0)
        probability.append(found[known])
    check(counts, np.concatenate(truth), np.concatenate(probability), "iou")


def test_scores_of_cells_are_those_of_another_library() -> None:
    net = network("grid-classifier")
    assert isinstance(net, GridClassifier)
    chips = [of_codes(random_codes(10 * 32, 9 * 32, seed)) for seed in (1, 2)]
    counts = scene_counts(net, chips)
    truth, probability = [], []
    for chip in chips:
        image = (torch.from_numpy(chip.post) / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)  # fmt: skip
        for row in range(10):
            for column in range(9):
                cell = np.s_[32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
                codes = chip.codes[cell]
                codes = codes[np.isin(codes, (1, 2, 3, 4, 5))]
                with torch.inference_mode():
                    found = net(image[:, *cell][None]).sigmoid().item()
                truth += np.isin(codes, (2, 3, 4, 5)).tolist()
                probability += [found] * len(codes)
    check(counts, np.array(truth), np.array(probability, np.float32), "auc")


def check(counts: ScoreCounts, truth: np.ndarray, probability: np.ndarray, score: str) -> None:
    found = scene_metrics(counts, score)
    called = probability > found["threshold"]
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, called))
    assert found["f1"] == pytest.approx(f1_score(truth, called))
    assert found["iou"] == pytest.approx(jaccard_score(truth, called))
    assert found["score"] == found[score] > 0
    assert found["auc"] == pytest.approx(roc_auc_score(truth, probability), abs=2e-3)
    others = [f1_score(truth, probability > t) for t in np.linspace(0.05, 0.95, 19)]
    assert found["f1"] >= max(others) - 1e-9


def test_without_a_positive_there_is_no_threshold_to_choose() -> None:
    found = scene_metrics(ScoreCounts.of(np.array([0.2, 0.7]), np.array([False, False])), "f1")
    assert found["threshold"] == 0.5
    assert found["auc"] == 0.5
    assert found["score"] == 0


# Parts


def test_parts_that_are_alike_are_told_in_numbers(caplog: pytest.LogCaptureFixture) -> None:
    codes = np.zeros((10, 10), np.uint8)
    codes[:3], codes[3], codes[9] = 1, 4, 255
    part = [Held(Chip(*np.ones((2, 3, 10, 10), np.uint8), codes))]
    assert Mix.of(part) == Mix(buildings=40 / 90, damaged=0.25)
    named = {"buildings": "of the pixels", "damaged": "of the buildings"}
    with caplog.at_level(logging.WARNING):
        found = check_alike({"train": part, "validation": part, "test": [Held()]}, named)
    assert not caplog.messages
    assert found == {
        "train_buildings_share": 40 / 90, "validation_buildings_share": 40 / 90,
        "train_damaged_share": 0.25, "validation_damaged_share": 0.25,
    }  # fmt: skip


def test_parts_that_are_unlike_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    few, many = np.zeros((2, 10, 10), np.uint8)
    few[0], many[:5] = 1, 1
    parts = {
        name: [Held(Chip(*np.ones((2, 3, 10, 10), np.uint8), codes))]
        for name, codes in (("train", many), ("validation", few))
    }
    with caplog.at_level(logging.WARNING):
        check_alike(parts, {"buildings": "of the pixels are buildings", "damaged": "x"})
    (message,) = caplog.messages
    assert "50.0% in train, 10.0% in validation of the pixels are buildings" in message
    assert "places.csv" in message
