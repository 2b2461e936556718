"""From what score on a photo counts as damaged: a point of the ROC curve; paper 003, section 4.3."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..scenes.errors import Refused, UsageError


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, inclusive (score >= threshold), and what it gives on the photos it was chosen on."""

    threshold: float
    true_positive_rate: float
    false_positive_rate: float


def at_false_positive_rate(
    scores: np.ndarray, labels: np.ndarray, rate: float = 0.0
) -> OperatingPoint:
    """The point with most damage found at which at most a `rate` of the other photos is called damaged.

    With 0, as in paper 003, the threshold is the lowest score of a damaged photo that lies above those
    of all others. Of equal points it is the highest threshold, always the score of a damaged photo.
    `scores` and `labels` (bool, damaged) are (n,), of photos that were not learnt from; scores should
    be to the bit what the network gives. Pixels of rasters are counted by `curves.ScoreCounts`.

    Raises UsageError for a rate outside 0-1, and Refused without photos of both classes, for scores
    that are not finite, and where no threshold finds any damage at that rate.
    """
    thresholds, true, false = _roc(scores, labels, rate)
    allowed = false <= rate
    if not allowed.any():
        raise Refused(
            f"No photo with damage scores so high that at most {rate:.4g} of those without do: the "
            f"highest one reaches {thresholds[0]:.6g}, as {false[0]:.4g} of the others do. Allow a "
            f"higher rate with --false-alarms, or train on more photos."
        )
    best = int(np.flatnonzero(allowed)[-1])
    return OperatingPoint(float(thresholds[best]), float(true[best]), float(false[best]))


def _roc(
    scores: np.ndarray, labels: np.ndarray, rate: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of damaged photos, falling, and the rates of photos of both classes that reach each."""
    scores, labels = np.asarray(scores), np.asarray(labels, bool)
    if scores.shape != labels.shape or scores.ndim != 1:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} do not match")
    if not 0 <= rate <= 1:
        raise UsageError(f"A rate lies in 0-1; got {rate}.")
    damaged, intact = np.sort(scores[labels]), np.sort(scores[~labels])
    if not damaged.size or not intact.size:
        raise Refused(
            f"A threshold is chosen on photos with damage and without; got {damaged.size} with and "
            f"{intact.size} without. Give labelled photos of both."
        )
    if not np.isfinite(scores).all():
        raise Refused(
            f"{int((~np.isfinite(scores)).sum())} of {scores.size} scores are not finite: the network "
            f"is unsound. Give other weights."
        )
    thresholds = np.unique(damaged)[::-1]
    true, false = (
        (group.size - np.searchsorted(group, thresholds, side="left")) / group.size
        for group in (damaged, intact)
    )
    return thresholds, true, false
