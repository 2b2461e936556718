"""The exact area under the ROC curve, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from aftermap.models.roc import auc
from sklearn.metrics import auc as area
from sklearn.metrics import roc_curve


@pytest.mark.parametrize("seed", range(20))
def test_it_is_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 60))
    scores = rng.integers(0, 8, n) / 3 if seed % 2 else rng.normal(0, 50, n)
    truth = rng.random(n) < 0.4
    truth[:2] = [True, False]
    fpr, tpr, _ = roc_curve(truth, scores)
    assert auc(scores, truth) == pytest.approx(area(fpr, tpr), abs=1e-12)


def test_one_kind_has_no_area() -> None:
    assert auc(np.array([1.0, 2.0]), np.array([True, True])) is None
    assert auc(np.array([]), np.array([], bool)) is None
