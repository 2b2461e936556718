"""Metrics against scikit-learn, the official xView2 numbers and hand-counted buildings."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from aftermap.models.metrics import (
    Confusion,
    Match,
    building_confusion,
    confusion,
    match_buildings,
    xview2_counts,
    xview2_score,
)
from aftermap.scenes.errors import UsageError
from shapely import box


def digits(text: str) -> np.ndarray:
    return np.array([int(c) for c in text.replace(" ", "")], np.uint8)


LOC_TRUE, DMG_TRUE = digits("11111111 0000"), digits("111223440000")
LOC_PRED, DMG_PRED = digits("110111111000"), digits("111233414200")
VECTOR_A = (LOC_TRUE, DMG_TRUE, LOC_PRED, DMG_PRED)


def test_xview2_vector_a() -> None:
    counts = xview2_counts(*VECTOR_A)
    assert (counts.localization.tp, counts.localization.fn, counts.localization.fp) == (7, 1, 1)
    assert [(c.tp, c.fn, c.fp) for c in counts.damage] == [
        (2, 1, 1),
        (1, 1, 0),
        (1, 0, 1),
        (1, 1, 0),
    ]
    score = xview2_score(*VECTOR_A)
    assert score["localization_f1"] == 0.875
    assert score["damage_f1_per_class"] == pytest.approx((2 / 3,) * 4)
    assert score["damage_f1"] == pytest.approx(0.6666676667, abs=1e-10)
    assert score["score"] == pytest.approx(0.7291673667, abs=1e-10)


def test_xview2_shape_does_not_matter_and_images_add_up() -> None:
    square = tuple(array.reshape(3, 4) for array in VECTOR_A)
    assert xview2_score(*square) == xview2_score(*VECTOR_A)
    parts = [xview2_counts(*(array[cut] for array in VECTOR_A)) for cut in (np.s_[:5], np.s_[5:])]
    assert (parts[0] + parts[1]).score() == xview2_score(*VECTOR_A)


def test_xview2_corner_cases() -> None:
    levels = digits("01234")
    assert xview2_score(levels, levels, levels, levels)["score"] == pytest.approx(1.0000007)
    assert xview2_score(levels, levels, levels, levels)["damage_f1"] == pytest.approx(1.000001)
    zero = np.zeros(5, np.uint8)
    assert xview2_score(zero, zero, zero, zero)["damage_f1"] == pytest.approx(1e-6)
    assert xview2_score(zero, zero, zero, zero)["score"] == pytest.approx(7e-7)
    # A level that is absent from the truth pulls everything down.
    three = digits("01233")
    assert xview2_score(three, three, three, three)["damage_f1"] == pytest.approx(4e-6, rel=1e-4)
    # Damage outside the target's buildings costs nothing in the damage F1 ...
    spread = digits("41234")
    assert xview2_score(levels, levels, spread, spread)["damage_f1"] == pytest.approx(1.000001)
    # ... but damage without a predicted building earns nothing.
    assert xview2_score(levels, levels, zero, levels)["damage_f1"] == pytest.approx(1e-6)


def test_xview2_refuses_255_and_shapes() -> None:
    bad = np.array([0, 1, 2, 3, 255], np.uint8)
    levels = digits("01234")
    with pytest.raises(UsageError, match="dmg_pred holds 0 to 255"):
        xview2_score(levels, levels, levels, bad)
    with pytest.raises(UsageError, match=r"loc_pred \(4,\)"):
        xview2_score(levels, levels, levels[:4], levels)


def test_confusion_against_sklearn() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.random((2, 50, 40)) < [[[0.3]], [[0.4]]]
    found = confusion(truth, predicted)
    t, p = truth.ravel(), predicted.ravel()
    assert found.precision == pytest.approx(sklearn.metrics.precision_score(t, p))
    assert found.recall == pytest.approx(sklearn.metrics.recall_score(t, p))
    assert found.f1 == pytest.approx(sklearn.metrics.f1_score(t, p))
    assert found.iou == pytest.approx(sklearn.metrics.jaccard_score(t, p))
    assert found.accuracy == pytest.approx(sklearn.metrics.accuracy_score(t, p))
    assert found.tp + found.fp + found.fn + found.tn == truth.size
    halves = confusion(truth[:20], predicted[:20]) + confusion(truth[20:], predicted[20:])
    assert halves == found
    valid = rng.random(truth.shape) < 0.5
    assert confusion(truth, predicted, valid) == confusion(truth[valid], predicted[valid])


def test_empty_ratios_are_zero() -> None:
    nothing = confusion(np.zeros(4), np.zeros(4))
    assert nothing == Confusion(tn=4)
    assert (nothing.precision, nothing.recall, nothing.f1, nothing.iou) == (0, 0, 0, 0)
    assert Confusion().accuracy == 0


@pytest.mark.parametrize(
    ("f1", "iou"), [(53.34, 36.37), (55.02, 37.95), (55.62, 38.52)], ids=["ef", "conc", "diff"]
)
def test_table_iii_of_paper_001_is_micro(f1: float, iou: float) -> None:
    # Micro averages obey IoU = F1 / (2 − F1); counts with the published F1 give the published IoU.
    wrong = round(1e6 * (2 / (f1 / 100) - 2))
    counts = Confusion(tp=1_000_000, fp=wrong // 2, fn=wrong - wrong // 2)
    assert 100 * counts.f1 == pytest.approx(f1, abs=0.01)
    assert 100 * counts.iou == pytest.approx(iou, abs=0.01)
    assert counts.iou == pytest.approx(counts.f1 / (2 - counts.f1))


def test_buildings_are_matched_once_and_best_first() -> None:
    truth = [box(0, 0, 10, 10), box(20, 0, 30, 10), box(100, 0, 110, 10)]
    predicted = [
        box(0, 0, 10, 9),  # IoU 0.9 with the first
        box(0, 0, 10, 10),  # IoU 1.0 with the first: taken
        box(20, 0, 30, 6),  # IoU 0.6 with the second
        box(101, 5, 111, 15),  # too little of the third
        box(500, 500, 510, 510),
    ]
    assert match_buildings(truth, predicted) == [Match(0, 1, 1.0), Match(1, 2, 0.6)]
    assert [m.truth for m in match_buildings(truth, predicted, iou=0.7)] == [0]
    assert match_buildings([], predicted) == []
    assert match_buildings(truth, []) == []
    with pytest.raises(UsageError, match=r"iou must lie in \(0, 1\]; got 0"):
        match_buildings(truth, predicted, iou=0)


def test_ties_do_not_depend_on_the_index() -> None:
    same = [box(0, 0, 2, 2)] * 3
    assert [(m.truth, m.predicted) for m in match_buildings(same, same)] == [
        (0, 0),
        (1, 1),
        (2, 2),
    ]


def test_matching_against_every_pair() -> None:
    rng = np.random.default_rng(4)
    corners = rng.integers(0, 40, (2, 60, 2))
    sets = [[box(x, y, x + 6, y + 5) for x, y in part] for part in corners]
    truth, predicted = sets
    overlap = np.array(
        [[t.intersection(p).area / t.union(p).area for p in predicted] for t in truth]
    )
    expected = set()
    while overlap.max() >= 0.3:
        t, p = np.unravel_index(overlap.argmax(), overlap.shape)
        expected.add((int(t), int(p)))
        overlap[t], overlap[:, p] = 0, 0
    found = match_buildings(truth, predicted, iou=0.3)
    assert {(m.truth, m.predicted) for m in found} == expected


def test_buildings_damaged_or_not() -> None:
    matches = [Match(i, i, 1.0) for i in range(6)]
    #        hit miss false right ignored unseen | missed, not counted | alone ×2
    truth = [4, 3, 1, 1, 255, 4, 2, 1]
    predicted = [2, 1, 5, 1, 4, 255, 3, 1]
    counts = building_confusion(matches, truth, predicted)
    # Unmatched: truth 6 (damaged) is a miss, truth 7 is right; predicted 6 is a false alarm.
    assert counts == Confusion(tp=1, fp=1 + 1, fn=1 + 1, tn=1 + 1)
    assert counts.f1 == pytest.approx(2 / 6)
    assert building_confusion([], [4, 1], []) == Confusion(fn=1, tn=1)
    assert building_confusion([], [], [4, 1]) == Confusion(fp=1)
