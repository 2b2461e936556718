"""Evaluation against scikit-learn: counts, curves, thresholds; and panels in the paper's colours."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from aftermap.models.change import ChangeNet
from aftermap.models.chips.chip import Chip
from aftermap.models.curves import BINS, ScoreCounts
from aftermap.models.evaluation import Evaluation, evaluate_chips, predict_chip
from aftermap.models.metrics import Confusion
from aftermap.models.panels import (
    FALSE_ALARM,
    FOUND,
    MISSED,
    Panel,
    chosen,
    compared,
    draw_panels,
)
from aftermap.models.registry import build
from PIL import Image
from sklearn import metrics as sk


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


def truth_and_scores(net: ChangeNet, chips: list[Chip]) -> tuple[np.ndarray, np.ndarray, list]:
    truths, scores, called = [], [], []
    for chip in chips:
        said = predict_chip(net, chip)
        seen = chip.codes != 255
        truths.append(np.isin(chip.codes[seen], (2, 3, 4, 5)))
        scores.append(np.ceil(said.probability[seen].astype(float) * BINS - 1e-6) / BINS)
        called.append(np.isin(said.codes[seen], (2, 3, 4, 5)))
    return np.concatenate(truths), np.concatenate(scores), [truths, called]


@pytest.mark.parametrize("classes", [1, 5])
def test_counts_and_curves_are_those_of_scikit_learn(classes: int) -> None:
    net, chips = network(classes), some_chips(classes)
    found = evaluate_chips(net, chips)
    truth, scores, (truths, called) = truth_and_scores(net, chips)
    flat = np.concatenate(called)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(truth, flat, average="binary")
    assert found.pixels.precision == pytest.approx(precision)
    assert found.pixels.recall == pytest.approx(recall)
    assert found.pixels.f1 == pytest.approx(f1)
    assert found.pixels.iou == pytest.approx(sk.jaccard_score(truth, flat))
    assert 0 < flat.mean() < 1
    per_image = [sk.jaccard_score(t, c) for t, c in zip(truths, called, strict=True)]
    told = found.to_dict()
    assert told["mean_over_damaged_images"]["iou"] == pytest.approx(np.mean(per_image))
    assert told["roc_auc"] == pytest.approx(sk.roc_auc_score(truth, scores))
    assert told["average_precision"] == pytest.approx(sk.average_precision_score(truth, scores))
    assert told["pixels"] + told["left_out_pixels"] == 5 * 40 * 53
    assert (told["levels"] is None) == (classes == 1)


def test_the_best_threshold_is_the_best() -> None:
    net, chips = network(), some_chips()
    counts = evaluate_chips(net, chips).scores
    truth, scores, _ = truth_and_scores(net, chips)
    best = counts.best_threshold()
    assert best is not None
    ours = sk.f1_score(truth, scores > best + 1e-9)
    tried = [sk.f1_score(truth, scores > t / BINS + 1e-9) for t in range(1, BINS, 97)]
    assert ours >= max(tried)
    assert counts.at(best).f1 == pytest.approx(ours)
    at = counts.at(0.5)
    assert (at.tp, at.fp) == (int((truth & (scores > 0.5)).sum()), int((~truth & (scores > 0.5)).sum()))  # fmt: skip


def test_where_there_is_one_kind_of_pixel_only() -> None:
    none = ScoreCounts.of(np.array([0.1, 0.9]), np.array([False, False]))
    assert (none.auc, none.average_precision, none.best_threshold()) == (None, None, None)
    assert ScoreCounts.of(np.array([0.1]), np.array([True])).auc is None


def test_evaluations_add_up() -> None:
    net, chips = network(5), some_chips(5)
    whole = evaluate_chips(net, chips)
    parts = evaluate_chips(net, chips[:2]) + evaluate_chips(net, chips[2:])
    assert parts.to_dict() == whole.to_dict()
    assert parts.images == whole.images
    assert (Evaluation() + whole).to_dict() == whole.to_dict()


def test_a_chip_of_any_size_is_padded_as_the_engine_pads() -> None:
    """What a chip of 40 × 53 px gets is what it gets inside a larger image of the mean colour."""
    net, chip = network(), some_chips()[0]
    assert predict_chip(net, chip).probability.shape == (40, 53)
    mean = np.array([0.485, 0.456, 0.406])
    exact = np.rint(mean * 255).astype(np.uint8)
    around = np.broadcast_to(exact[:, None, None], (3, 40, 56)).copy()
    wide = [around.copy(), around.copy()]
    for target, source in zip(wide, (chip.pre, chip.post), strict=True):
        target[:, :, :53] = source
    inside = predict_chip(net, Chip(*wide, np.zeros((40, 56), np.uint8)))
    assert np.allclose(inside.probability[:, :53], predict_chip(net, chip).probability, atol=0.02)


def test_comparison_has_the_colours_of_the_paper() -> None:
    codes = np.array([[5, 5, 0, 0, 255]], np.uint8)
    said = np.array([[5, 0, 5, 0, 5]], np.uint8)
    image = np.full((3, 1, 5), 90, np.uint8)
    picture = compared(Chip(image, image, codes), said)
    assert tuple(picture[0, 0]) == FOUND
    assert tuple(picture[0, 1]) == MISSED
    assert tuple(picture[0, 2]) == FALSE_ALARM
    assert tuple(picture[0, 3]) == (200, 200, 200)
    assert tuple(picture[0, 4]) == (150, 150, 150)


def test_panels_show_the_best_the_median_and_the_worst() -> None:
    rows = tuple(
        (f"c{i}", Confusion(tp=tp, fp=fp, fn=fn, tn=100))
        for i, (tp, fp, fn) in enumerate([(9, 1, 0), (5, 5, 5), (0, 2, 9), (0, 70, 0), (7, 1, 1)])
    )
    found = Evaluation(images=rows)
    picks = chosen(found)
    assert [(number, text.split(":")[0]) for number, text in picks] == [
        (0, "best"),
        (1, "median"),
        (2, "worst"),
        (3, "most false alarms"),
    ]
    assert "IoU 0.90, 1 px false alarm, 0 px missed" in picks[0][1]
    assert chosen(Evaluation()) == []
    chip, net = some_chips()[0], network()
    sheet = draw_panels([Panel(chip, predict_chip(net, chip), "it")] * 2, side=64)
    size = Image.open(io.BytesIO(sheet)).size
    assert size == (5 * 64 + 36, 20 + 2 * (64 + 26) + 6)
    assert draw_panels([], side=64)


def test_left_out_pixels_count_in_no_way() -> None:
    net, chip = network(), some_chips()[0]
    blind = replace(chip, codes=np.full_like(chip.codes, 255))
    found = evaluate_chips(net, [blind])
    assert found.pixels == Confusion()
    assert found.left_out == chip.codes.size
