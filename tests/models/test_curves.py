"""Counts of probabilities against scikit-learn: curves, the areas under them, and thresholds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from aftermap.models.curves import EDGES, STEPS, ScoreCounts
from aftermap.models.damage_net import damage_codes
from aftermap.models.metrics import confusion
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk


def drawn(seed: int, count: int = 4000, spread: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, fp32, and truths that they say something of; both kinds occur."""
    rng = np.random.default_rng(seed)
    truth = rng.random(count) < 0.1
    truth[:2] = False, True
    return (spread * (rng.normal(size=count) + 1.5 * truth - 1)).astype(np.float32), truth


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).sigmoid().numpy()


@pytest.mark.parametrize("seed", range(5))
def test_of_probabilities_at_edges_all_is_that_of_scikit_learn(seed: int) -> None:
    logits, truth = drawn(seed)
    scores = EDGES[np.searchsorted(EDGES, sigmoid(logits))]
    counts = ScoreCounts.of(scores, truth)
    assert counts.auc == pytest.approx(sk.roc_auc_score(truth, scores), abs=1e-12)
    ours = counts.average_precision
    assert ours == pytest.approx(sk.average_precision_score(truth, scores), abs=1e-12)
    fpr, tpr, _ = sk.roc_curve(truth, scores, drop_intermediate=False)
    assert set(zip(fpr, tpr, strict=True)) <= set(zip(*counts.roc(), strict=True))
    precision, recall, _ = sk.precision_recall_curve(truth, scores)
    found = set(zip(*counts.precision_recall(), strict=True))
    # The last point of scikit-learn's curve stands for no pixel at all.
    assert set(zip(precision[:-1], recall[:-1], strict=True)) <= found
    assert counts.damaged_share == truth.mean()


@pytest.mark.parametrize("spread", [0.3, 3, 30])
def test_areas_are_right_of_networks_that_are_sure_and_of_such_that_are_not(spread: float) -> None:
    """Most pixels of a trained network have a probability below a thousandth."""
    logits, truth = drawn(0, 200_000, spread)
    scores = sigmoid(logits)
    counts = ScoreCounts.of(scores, truth)
    assert counts.auc == pytest.approx(sk.roc_auc_score(truth, scores), abs=2e-4)
    assert counts.average_precision == pytest.approx(
        sk.average_precision_score(truth, scores), abs=3e-3
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, STEPS - 1), st.floats(0.1, 30))
def test_counts_at_a_threshold_are_those_of_the_map(seed: int, step: int, spread: float) -> None:
    logits, truth = drawn(seed, 300, spread)
    threshold = step / STEPS
    near = np.float32(threshold)
    logits[2:5] = torch.logit(torch.tensor([near, np.nextafter(near, 0), np.nextafter(near, 1)]))
    codes = damage_codes(torch.from_numpy(logits).sigmoid().reshape(1, 1, 20, 15), threshold)
    found = ScoreCounts.of(sigmoid(logits), truth).at(threshold)
    assert found == confusion(truth, codes.numpy().ravel())


def test_a_probability_that_is_a_threshold_is_not_above_it() -> None:
    exact = (np.arange(1, STEPS) / STEPS).astype(np.float32)
    counts = ScoreCounts.of(exact, np.ones(exact.size, bool))
    for step in range(1, STEPS):
        assert counts.at(step / STEPS).tp == STEPS - 1 - step


def test_a_threshold_within_a_bin_stands_for_its_lower_edge() -> None:
    counts = ScoreCounts.of(np.array([0.5, 0.5004, 0.5009, 0.6]), np.ones(4, bool))
    assert [counts.at(t).tp for t in (0.5, 0.5002, 0.5006, 0.501)] == [3, 3, 3, 1]


@pytest.mark.parametrize("seed", range(5))
def test_the_best_threshold_is_the_best(seed: int) -> None:
    logits, truth = drawn(seed)
    scores = sigmoid(logits)
    counts = ScoreCounts.of(scores, truth)
    best = counts.best_threshold()
    assert best is not None
    tried = {t / STEPS: sk.f1_score(truth, scores > np.float32(t / STEPS)) for t in range(1, STEPS)}
    assert counts.at(best).f1 == pytest.approx(max(tried.values()))
    assert best == max(t for t, f1 in tried.items() if f1 == max(tried.values()))
    ious = [sk.jaccard_score(truth, scores > np.float32(t)) for t in (best, best / 2, 0.5, 0.999)]
    assert max(ious) == ious[0]


def test_of_equal_thresholds_the_highest_is_taken() -> None:
    counts = ScoreCounts.of(np.array([0.1, 0.9]), np.array([False, True]))
    assert counts.best_threshold() == 0.899
    sure = ScoreCounts.of(np.array([0.0, 1.0]), np.array([False, True]))
    assert sure.best_threshold() == 0.999
    blind = ScoreCounts.of(np.array([0.0, 0.0]), np.array([False, True]))
    assert blind.best_threshold() == 0.999  # nothing finds it


def test_where_there_is_one_kind_of_pixel_only() -> None:
    none = ScoreCounts.of(np.array([0.1, 0.9]), np.array([False, False]))
    assert (none.auc, none.average_precision, none.best_threshold()) == (None, None, None)
    assert ScoreCounts.of(np.array([0.1]), np.array([True])).auc is None
    assert (ScoreCounts().auc, ScoreCounts().damaged_share) == (None, 0)


def test_counts_add_up() -> None:
    logits, truth = drawn(3)
    scores = sigmoid(logits)
    parts = ScoreCounts.of(scores[:999], truth[:999]) + ScoreCounts.of(scores[999:], truth[999:])
    assert np.array_equal(parts.counts, ScoreCounts.of(scores, truth).counts)
    assert parts.counts.sum() == scores.size


@pytest.mark.parametrize("wrong", [1.5, np.nan, np.inf])
def test_what_is_no_probability_is_not_counted(wrong: float) -> None:
    with pytest.raises(ValueError, match="0-1"):
        ScoreCounts.of(np.array([0.5, wrong]), np.array([True, False]))
