"""Temperatures and calibration errors, against populations whose probabilities are known."""

from __future__ import annotations

import numpy as np
import pytest
from aftermap.models.calibration import calibration_error, fit, reliability, tempered
from aftermap.scenes.errors import Refused
from scipy.special import softmax
from sklearn.calibration import calibration_curve


def population(
    temperatures: tuple[float, ...], n: int = 6000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are right once tempered, and classes drawn from the right ones."""
    rng = np.random.default_rng(seed)
    given = rng.dirichlet([0.35] * len(temperatures), n)
    right = tempered(given, temperatures)
    return given, (right.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(
        max=len(temperatures) - 1
    )


def test_equal_temperatures_are_the_softmax_of_divided_logits() -> None:
    logits = np.random.default_rng(0).normal(0, 1.5, (200, 4))
    ours = tempered(softmax(logits, axis=1), (2.5,) * 4)
    np.testing.assert_allclose(ours, softmax(logits / 2.5, axis=1), atol=1e-4)
    np.testing.assert_allclose(ours.sum(axis=1), 1)


def test_temperature_one_changes_nothing_and_unknown_stays_unknown() -> None:
    p = np.array([[0.1, 0.2, 0.3, 0.4], [np.nan] * 4])
    np.testing.assert_allclose(tempered(p, (1, 1, 1, 1))[0], p[0])
    assert np.isnan(tempered(p, (1, 2, 3, 4))[1]).all()


@pytest.mark.parametrize("truth", [(2.0, 2.0, 2.0, 2.0), (0.6, 1.0, 1.8, 3.0), (1.7, 1.7)])
def test_the_fit_finds_the_temperatures_of_a_population_and_mends_its_error(
    truth: tuple[float, ...],
) -> None:
    p, y = population(truth)
    found = fit(p, y)
    np.testing.assert_allclose(found.temperatures, truth, rtol=0.12)
    assert found.ece_after < 0.02 < found.ece_before
    assert found.nll_after < found.nll_before
    assert found.buildings == 6000


def test_probabilities_that_are_right_are_left_alone() -> None:
    p, y = population((1.0,) * 4)
    np.testing.assert_allclose(fit(p, y).temperatures, 1, rtol=0.12)


def test_calibration_error_by_hand() -> None:
    # Ten buildings called with 0.9, of which seven rightly; ten with 0.6, of which six.
    p = np.repeat([[0.9, 0.1], [0.6, 0.4]], 10, axis=0)
    y = np.array([0] * 7 + [1] * 3 + [0] * 6 + [1] * 4)
    assert calibration_error(p, y) == pytest.approx(0.5 * 0.2 + 0.5 * 0.0)


def test_reliability_agrees_with_scikit_learn() -> None:
    p, y = population((1.5, 1.5), 2000)
    called = p.argmax(axis=1)
    accuracy, confidence = calibration_curve(called == y, p.max(axis=1), n_bins=15)
    rows = reliability(p, y)
    np.testing.assert_allclose([row.accuracy for row in rows], accuracy)
    np.testing.assert_allclose([row.confidence for row in rows], confidence)
    assert sum(row.count for row in rows) == 2000


def test_too_little_to_learn_from_is_refused() -> None:
    p, y = population((1.0,) * 4, 30)
    with pytest.raises(Refused, match=r"at least 20 labelled buildings.*found 10"):
        fit(p[:10], y[:10])
    with pytest.raises(Refused, match="two levels"):
        fit(p, np.zeros(30, int))
