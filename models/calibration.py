"""Calibration of class probabilities by temperatures, and how well calibrated they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from ..scenes.errors import Refused

BINS = 15
"""Bins of equal width over the confidence, as Guo et al. take them."""

LEAST = 20
"""Fewer labelled buildings than this fit nothing that deserves trust."""

_LIMITS = (0.05, 20.0)
_TINY = 1e-6
_PRIOR = 0.5


@dataclass(frozen=True)
class Bin:
    """Buildings whose confidence falls into one interval."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean probability of the class that was called."""
    accuracy: float
    """Share of them whose call was right."""


@dataclass(frozen=True)
class Fit:
    """Temperatures, and what they changed."""

    temperatures: tuple[float, ...]
    """One per class; 1 changes nothing, larger is less sure."""
    buildings: int
    """Labelled buildings that they were fitted to."""
    ece_before: float
    ece_after: float
    """On buildings left out of the fit: each half by temperatures fitted to the other."""
    nll_before: float
    nll_after: float
    before: tuple[Bin, ...]
    after: tuple[Bin, ...]
    """Reliability before, and after as for `ece_after`."""


def tempered(probabilities: np.ndarray, temperatures: Sequence[float]) -> np.ndarray:
    """Calibrated probabilities: softmax(log p_c / T_c).

    `probabilities` (n, c) in 0-1; rows of NaN stay NaN. The logarithm of a probability is a logit
    up to a constant, so that equal temperatures are the temperature scaling of Guo et al. 2017,
    "On calibration of modern neural networks"; one per class is their vector scaling without the
    offsets. Returns float64 (n, c), rows summing to 1.
    """
    logits = np.log(np.clip(probabilities, _TINY, 1.0)) / np.asarray(temperatures, float)
    logits -= logits.max(axis=1, keepdims=True)
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def fit(probabilities: np.ndarray, truth: np.ndarray) -> Fit:
    """Fit one temperature per class to labelled buildings by maximum likelihood.

    `probabilities` (n, c), `truth` (n) the true column. A weak prior pulls temperatures that few
    buildings speak about towards 1. The errors after calibration are those of buildings that the
    fit did not see: every second building (in the order given) is calibrated by the others.
    Raises Refused for fewer than `LEAST` buildings or a single class among them.
    """
    p, y = np.asarray(probabilities, float), np.asarray(truth, int)
    if p.ndim != 2 or y.shape != p.shape[:1]:
        raise ValueError(f"probabilities {p.shape} and truth {y.shape} do not belong together")
    known = np.isfinite(p).all(axis=1)
    p, y = p[known], y[known]
    if len(y) < LEAST or len(np.unique(y)) < 2:
        raise Refused(
            f"Calibration needs at least {LEAST} labelled buildings of two levels or more; found "
            f"{len(y)} of {len(np.unique(y))}. Label more buildings and give them with --labels."
        )
    held = np.empty_like(p)
    odd = np.arange(len(y)) % 2 == 1
    for part in (odd, ~odd):
        held[part] = tempered(p[part], _temperatures(p[~part], y[~part]))
    return Fit(
        temperatures=_temperatures(p, y),
        buildings=len(y),
        ece_before=calibration_error(p, y),
        ece_after=calibration_error(held, y),
        nll_before=_nll(tempered(p, (1.0,) * p.shape[1]), y),
        nll_after=_nll(held, y),
        before=reliability(p, y),
        after=reliability(held, y),
    )


def reliability(probabilities: np.ndarray, truth: np.ndarray, bins: int = BINS) -> tuple[Bin, ...]:
    """Confidence against accuracy of the called class, in bins of equal width; empty bins left out."""
    called = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(len(called)), called]
    right = called == truth
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    found = []
    for k in np.unique(number).tolist():
        here = number == k
        found.append(
            Bin(
                low=k / bins,
                high=(k + 1) / bins,
                count=int(here.sum()),
                confidence=float(confidence[here].mean()),
                accuracy=float(right[here].mean()),
            )
        )
    return tuple(found)


def calibration_error(probabilities: np.ndarray, truth: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: |accuracy - confidence|, mean over buildings, bin by bin.

    Naeini, Cooper and Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian
    binning"; equal widths.
    """
    rows = reliability(probabilities, truth, bins)
    total = sum(row.count for row in rows)
    return sum(row.count * abs(row.accuracy - row.confidence) for row in rows) / total


def _temperatures(p: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    """The maximum of likelihood and prior, over the logarithms of the temperatures."""

    def cost(logs: np.ndarray) -> float:
        return _nll(tempered(p, np.exp(logs)), y) * len(y) + _PRIOR * float((logs**2).sum())

    limits = [tuple(np.log(_LIMITS))] * p.shape[1]
    found = minimize(cost, np.zeros(p.shape[1]), method="L-BFGS-B", bounds=limits)
    return tuple(round(float(value), 4) for value in np.exp(found.x))


def _nll(p: np.ndarray, y: np.ndarray) -> float:
    """Negative log-likelihood, mean over buildings."""
    return float(-np.log(np.clip(p[np.arange(len(y)), y], _TINY, 1)).mean())
