"""Evaluation against scikit-learn: pooled, per image, per level, with whatever is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from aftermap.models.change import ChangeNet
from aftermap.models.chips.chip import Chip
from aftermap.models.curves import EDGES
from aftermap.models.evaluation import FIGURES, Evaluation, Levels, evaluate_chips, predict_chip
from aftermap.models.metrics import Confusion, xview2_score
from aftermap.models.recipes import IMAGENET_MEAN, IMAGENET_STD
from aftermap.models.registry import build
from sklearn import metrics as sk

pytestmark = pytest.mark.usefixtures("one_thread")

DAMAGED = (2, 3, 4, 5)


def network(classes: int = 1) -> ChangeNet:
    torch.manual_seed(2)
    made = build("fc-siam-diff", size="small", classes=classes).eval()
    assert isinstance(made, ChangeNet)
    with torch.no_grad():
        # Untrained logits lie close together; spread them, so that both answers occur.
        made.decoder[0][0].weight.mul_(30)
    return made


def some_chips(classes: int = 1, count: int = 5) -> list[Chip]:
    rng = np.random.default_rng(0)
    codes = [0, 5, 255] if classes == 1 else [0, 1, 2, 3, 4, 255]
    return [
        Chip(
            *rng.integers(1, 255, (2, 3, 40, 53), np.uint8),
            rng.choice(codes, (40, 53)).astype(np.uint8),
            name=f"chip{i}",
        )
        for i in range(count)
    ]


def seen(net: ChangeNet, chips: list[Chip]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Per chip: true codes, predicted codes and probabilities of the pixels that count."""
    rows = []
    for chip in chips:
        said = predict_chip(net, chip)
        kept = chip.codes != 255
        rows.append((chip.codes[kept], said.codes[kept], said.probability[kept]))
    return rows


def damaged(rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]], which: int) -> list[np.ndarray]:
    return [np.isin(row[which], DAMAGED) for row in rows]


@pytest.mark.parametrize("classes", [1, 5])
def test_counts_and_curves_are_those_of_scikit_learn(classes: int) -> None:
    net, chips = network(classes), some_chips(classes)
    found = evaluate_chips(net, chips)
    rows = seen(net, chips)
    truths, called = damaged(rows, 0), damaged(rows, 1)
    truth, flat = np.concatenate(truths), np.concatenate(called)
    assert 0 < flat.mean() < 1
    told = found.to_dict()
    precision, recall, f1, _ = sk.precision_recall_fscore_support(truth, flat, average="binary")
    wanted = (sk.accuracy_score(truth, flat), precision, recall, f1, sk.jaccard_score(truth, flat))
    assert [told["micro"][name] for name in FIGURES] == pytest.approx(wanted)
    tn, fp, fn, tp = sk.confusion_matrix(truth, flat).ravel()
    assert found.pixels == Confusion(tp, fp, fn, tn)
    per_image = [sk.jaccard_score(t, c) for t, c in zip(truths, called, strict=True)]
    assert told["mean_over_damaged_images"]["iou"] == pytest.approx(np.mean(per_image))
    assert told["median_over_damaged_images"]["iou"] == pytest.approx(np.median(per_image))
    probability = np.concatenate([row[2] for row in rows])
    scores = EDGES[np.searchsorted(EDGES, probability.clip(0, 1))]
    assert told["roc_auc"] == pytest.approx(sk.roc_auc_score(truth, scores))
    assert told["average_precision"] == pytest.approx(sk.average_precision_score(truth, scores))
    assert told["pixels"] + told["left_out_pixels"] == 5 * 40 * 53
    assert (told["levels"] is None) == (told["level_table"] is None) == (classes == 1)


def test_levels_are_those_of_scikit_learn_and_of_the_challenge() -> None:
    net, chips = network(5), some_chips(5)
    found = evaluate_chips(net, chips).to_dict()
    rows = seen(net, chips)
    truth, called = (np.concatenate([row[i] for row in rows]) for i in (0, 1))
    assert found["level_table"] == sk.confusion_matrix(truth, called, labels=range(5)).tolist()
    assert found["levels"] == xview2_score(truth, truth, called, called)
    buildings = truth > 0
    f1 = sk.f1_score(truth[buildings], called[buildings], labels=[1, 2, 3, 4], average=None)
    assert found["levels"]["damage_f1_per_class"] == pytest.approx(f1)
    assert found["levels"]["localization_f1"] == pytest.approx(sk.f1_score(truth > 0, called > 0))


def test_damage_without_a_level_counts_as_damage_and_of_no_level() -> None:
    net, chip = network(5), some_chips(5)[0]
    ungraded = replace(chip, codes=np.where(chip.codes == 4, 5, chip.codes).astype(np.uint8))
    plain, other = (evaluate_chips(net, [c]) for c in (chip, ungraded))
    assert plain.pixels == other.pixels
    assert plain.levels is not None
    assert other.levels is not None
    table = plain.levels.table.copy()
    table[4] = 0
    assert np.array_equal(other.levels.table, table)


def test_the_figures_of_one_chip_that_shows_damage_among_others() -> None:
    net, chips = network(), some_chips(count=2)
    intact = replace(chips[1], codes=np.where(chips[1].codes == 5, 0, chips[1].codes))
    found = evaluate_chips(net, [chips[0], intact])
    alone = evaluate_chips(net, chips[:1])
    assert found.to_dict()["mean_over_damaged_images"] == alone.to_dict()["micro"]
    assert (len(found.images), len(found.damaged_images)) == (2, 1)
    assert found.pixels.fp > alone.pixels.fp


def test_evaluations_add_up() -> None:
    net, chips = network(5), some_chips(5)
    whole = evaluate_chips(net, chips)
    parts = evaluate_chips(net, chips[:2]) + evaluate_chips(net, chips[2:])
    assert parts.to_dict() == whole.to_dict()
    assert parts.images == whole.images
    assert (Evaluation() + whole).to_dict() == whole.to_dict()
    assert Levels().score()["localization_f1"] == 0


def test_the_threshold_is_that_of_the_map_and_of_the_counts() -> None:
    net, chips = network(), some_chips()
    scores = evaluate_chips(net, chips).scores
    for threshold in (0.1, 0.5, 0.873):
        assert evaluate_chips(net, chips, threshold).pixels == scores.at(threshold)


@pytest.mark.parametrize("classes", [1, 5])
def test_a_chip_of_any_size_is_padded_as_the_engine_pads(classes: int) -> None:
    """With zeros after normalisation, right and below, and what is padded does not count."""
    net, chip = network(classes), some_chips()[0]
    padded = np.zeros((2, 1, 3, 40, 56), np.float32)
    for target, image in zip(padded, (chip.pre, chip.post), strict=True):
        mean, std = (np.float32(x)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
        target[0, :, :, :53] = (image / np.float32(255) - mean) / std
    with torch.inference_mode():
        logits = net(*map(torch.from_numpy, padded))[0, :, :, :53]
    chances = logits.sigmoid()[0] if classes == 1 else logits.softmax(0)[2:].sum(0)
    assert np.allclose(predict_chip(net, chip).probability, chances, atol=1e-5)
    assert sum(vars(evaluate_chips(net, [chip]).pixels).values()) == (chip.codes != 255).sum()


def test_left_out_pixels_count_in_no_way() -> None:
    net, chip = network(), some_chips()[0]
    blind = replace(chip, codes=np.full_like(chip.codes, 255))
    found = evaluate_chips(net, [blind])
    assert found.pixels == Confusion()
    assert found.left_out == chip.codes.size
    assert found.to_dict()["mean_over_damaged_images"] == {}
