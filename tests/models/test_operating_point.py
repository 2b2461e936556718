"""Thresholds are points of scikit-learn's ROC curve."""

from __future__ import annotations

import numpy as np
import pytest
from aftermap.models.operating_point import OperatingPoint, at_false_positive_rate
from aftermap.scenes.errors import Refused, UsageError
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1], bool)
SCORES = np.array([0.1, 0.4, 0.35, 0.8, 0.3, 0.85, 0.9, 0.95])


def test_the_rule_of_the_paper() -> None:
    assert at_false_positive_rate(SCORES, LABELS) == OperatingPoint(0.85, 0.75, 0.0)
    # Inclusive: with > the photo on the threshold would be lost.
    assert (SCORES[LABELS] >= 0.85).mean() == 0.75
    assert (SCORES[LABELS] > 0.85).mean() == 0.5


def test_nine_of_seventeen() -> None:
    """The true positive rate that paper 003 publishes is 9/17."""
    scores = np.concatenate([np.linspace(0.1, 0.5, 8), np.linspace(0.983629, 0.99, 9), [0.6] * 20])
    labels = np.arange(37) < 17
    point = at_false_positive_rate(scores, labels)
    assert point.threshold == pytest.approx(0.983629)
    assert point.true_positive_rate == pytest.approx(0.529412, abs=5e-7)
    assert point.false_positive_rate == 0


def test_a_target_of_false_positives() -> None:
    assert at_false_positive_rate(SCORES, LABELS, 0.7) == OperatingPoint(0.85, 0.75, 0.0)
    assert at_false_positive_rate(SCORES, LABELS, 0.75) == OperatingPoint(0.3, 1.0, 0.75)
    assert at_false_positive_rate(SCORES, LABELS, 1.0).true_positive_rate == 1


@given(
    st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=40),
    st.integers(0, 12),
)
def test_as_scikit_learn_s_curve(pairs: list[tuple[int, bool]], twelfths: int) -> None:
    scores = np.array([score for score, _ in pairs], np.float32) / 12
    labels, rate = np.array([label for _, label in pairs]), twelfths / 12
    if labels.all() or not labels.any():
        with pytest.raises(Refused, match="with damage and without"):
            at_false_positive_rate(scores, labels)
        return
    false, true, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    allowed = true[false <= rate]
    if allowed.max() == 0:
        with pytest.raises(Refused, match="No photo with damage scores so high"):
            at_false_positive_rate(scores, labels, rate)
    else:
        point = at_false_positive_rate(scores, labels, rate)
        assert point.true_positive_rate == pytest.approx(allowed.max())
        # The first of those with as many found, where fewest others are.
        first = int(np.flatnonzero(true >= allowed.max() - 1e-12)[0])
        assert point.threshold == thresholds[first]
        assert point.false_positive_rate == pytest.approx(false[first])
        called = scores >= point.threshold
        assert called[labels].mean() == pytest.approx(point.true_positive_rate)
        assert called[~labels].mean() == pytest.approx(point.false_positive_rate)


def test_what_is_refused() -> None:
    with pytest.raises(Refused, match="got 8 with and 0 without"):
        at_false_positive_rate(SCORES, np.ones(8, bool))
    with pytest.raises(Refused, match="got 0 with and 8 without"):
        at_false_positive_rate(SCORES, np.zeros(8, bool))
    with pytest.raises(Refused, match="1 of 8 scores are not finite"):
        at_false_positive_rate(np.where(SCORES == 0.9, np.nan, SCORES), LABELS)
    with pytest.raises(Refused, match=r"reaches 0\.3, as 0\.75 of the others"):
        at_false_positive_rate(SCORES[:5], LABELS[:5])
    for rate in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="in 0-1"):
            at_false_positive_rate(SCORES, LABELS, rate)
    with pytest.raises(ValueError, match="do not match"):
        at_false_positive_rate(SCORES, LABELS[:3])
