"""Thresholds, folds and figures, against scikit-learn."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from aftermap.cluster.learn.figures import Figures
from aftermap.cluster.learn.fitting import Learning, _folds, best_threshold, fitted
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)


def _learning(seed: int, count: int = 120, grounds: int = 12) -> Learning:
    rng = np.random.default_rng(seed)
    damaged = rng.random(count) < 0.3
    features = rng.normal(size=(count, 5)) + damaged[:, None]
    blocks = [f"block {n}" for n in rng.integers(grounds, size=count)]
    return Learning(features.astype(np.float32), damaged, blocks)


@pytest.mark.parametrize("seed", range(6))
def test_figures_are_those_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    damaged = rng.random(150) < 0.2
    scores = np.clip(np.round(rng.normal(0.3 + 0.3 * damaged, 0.2), 3), 0, 1)
    found = Figures.of(scores, damaged, 0.5)
    assert found.auc == pytest.approx(roc_auc_score(damaged, scores))
    assert found.average_precision == pytest.approx(
        average_precision_score(damaged, scores), abs=2e-3
    )
    for name, oracle in (
        ("precision", precision_score),
        ("recall", recall_score),
        ("f1", f1_score),
    ):
        assert getattr(found, name) == pytest.approx(
            oracle(damaged, scores >= 0.5, zero_division=0)
        )


@pytest.mark.parametrize("seed", range(6))
def test_the_threshold_has_the_highest_f1(seed: int) -> None:
    rng = np.random.default_rng(seed)
    damaged = rng.random(60) < 0.3
    scores = np.clip(rng.normal(0.3 + 0.3 * damaged, 0.2), 0, 1)
    found = best_threshold(scores, damaged)
    best = max(f1_score(damaged, scores >= t) for t in np.unique(scores))
    assert f1_score(damaged, scores >= found) == pytest.approx(best)
    assert found not in scores


def test_a_threshold_lies_in_the_middle_of_a_gap() -> None:
    assert best_threshold(np.array([0.1, 0.2, 0.9, 0.95]), np.array([0, 0, 1, 1], bool)) == 0.55
    assert best_threshold(np.array([0.1, 0.2]), np.zeros(2, bool)) == 0.5


def test_equal_scores_are_on_one_side_of_a_threshold() -> None:
    rng = np.random.default_rng(3)
    damaged = rng.random(400) < 0.3
    scores = np.round(np.clip(rng.normal(0.3 + 0.3 * damaged, 0.2), 0, 1), 1)
    found = best_threshold(scores, damaged)
    best = max(f1_score(damaged, scores >= t) for t in np.unique(scores))
    assert f1_score(damaged, scores >= found) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(4))
def test_a_threshold_is_for_ground_with_as_much_damage_as_is_said(seed: int) -> None:
    rng = np.random.default_rng(seed)
    damaged = rng.random(80) < 0.5
    scores = np.clip(rng.normal(0.3 + 0.3 * damaged, 0.2), 0, 1)
    weight = np.where(damaged, 0.1 / damaged.mean(), 0.9 / (1 - damaged.mean()))

    def f1(threshold: float) -> float:
        return float(f1_score(damaged, scores >= threshold, sample_weight=weight))

    found = best_threshold(scores, damaged, share=0.1)
    assert f1(found) == pytest.approx(max(f1(t) for t in np.unique(scores)))
    assert found > best_threshold(scores, damaged)
    assert best_threshold(scores, damaged, float(damaged.mean())) == best_threshold(scores, damaged)


def test_memory_grows_with_the_chips_not_with_their_square() -> None:
    rng = np.random.default_rng(0)
    scores, damaged = rng.random(5_000), rng.random(5_000) < 0.3
    tracemalloc.start()
    best_threshold(scores, damaged)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * len(scores)


def test_folds_share_no_ground() -> None:
    learning = _learning(1)
    blocks = np.array(learning.blocks)
    seen_once = np.zeros(len(blocks), int)
    for seen, unseen in _folds(learning):
        assert not set(blocks[seen]) & set(blocks[unseen])
        seen_once[unseen] += 1
    assert (seen_once == 1).all()


@pytest.mark.parametrize("grounds", [1, 2, 12])
def test_the_same_chips_give_the_same_layer_and_threshold(grounds: int) -> None:
    (one, first), (other, second) = (
        fitted("logistic", _learning(2, grounds=grounds)) for _ in range(2)
    )
    assert first == second
    assert 0 < first < 1
    assert one.weight.tobytes() == other.weight.tobytes()


def test_the_threshold_is_of_scores_that_were_not_learnt_from() -> None:
    rng = np.random.default_rng(0)
    # More features than chips: whatever was learnt from is told apart without error, the rest by chance.
    learning = Learning(
        rng.normal(size=(60, 200)).astype(np.float32),
        rng.random(60) < 0.5,
        [str(n) for n in range(60)],
    )
    layer, threshold = fitted("logistic", learning)
    own = layer.scores(learning.features)
    assert f1_score(learning.damaged, own >= 0.5) == 1.0
    assert (
        threshold < own[learning.damaged].min() - 0.2
        or threshold > own[~learning.damaged].max() + 0.2
    )
