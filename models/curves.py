"""How right damage probabilities are at every threshold: counts, curves, and the threshold to take."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .metrics import Confusion

BINS = 10_000
"""Probabilities are counted in bins of a ten-thousandth: two within one bin are not told apart."""


def _empty() -> np.ndarray:
    return np.zeros((2, BINS + 1), np.int64)


@dataclass(frozen=True, eq=False)
class ScoreCounts:
    """How many pixels, damaged and not, had each probability; add them up over chips."""

    counts: np.ndarray = field(default_factory=_empty)
    """int64 (2, BINS + 1): not damaged, damaged; bin k holds probabilities above (k - 1) / BINS up
    to k / BINS, so that thresholds between bins are exact."""

    @classmethod
    def of(cls, probability: np.ndarray, truth: np.ndarray) -> ScoreCounts:
        """Count pixels: probabilities 0-1, and whether each is damaged (bool), of one shape."""
        share = np.asarray(probability, np.float64) * BINS
        # A probability given as k / BINS belongs to bin k, whatever its last bit is.
        bins = np.ceil(share - 1e-6).astype(np.int64).ravel()
        true = np.asarray(truth, bool).ravel()
        rows = [np.bincount(bins[true == flag], minlength=BINS + 1) for flag in (False, True)]
        return cls(np.stack(rows))

    def __add__(self, other: ScoreCounts) -> ScoreCounts:
        return ScoreCounts(self.counts + other.counts)

    def at(self, threshold: float) -> Confusion:
        """What calling everything above a threshold (strictly) damaged would give."""
        over = np.arange(BINS + 1) > round(threshold * BINS, 6)
        (fp, tp), (negative, positive) = self.counts[:, over].sum(axis=1), self.counts.sum(axis=1)
        return Confusion(int(tp), int(fp), int(positive - tp), int(negative - fp))

    @property
    def thresholds(self) -> np.ndarray:
        """Thresholds from the highest on; the lowest calls all but probability 0 damaged."""
        return np.arange(BINS, -1, -1) / BINS

    def roc(self) -> tuple[np.ndarray, np.ndarray]:
        """False and true positive rate, from (0, 0) to (1, 1) as the threshold falls."""
        fp, tp = self._above()
        return fp / max(fp[-1], 1), tp / max(tp[-1], 1)

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray]:
        """Precision and recall as the threshold falls, from the first pixel that is called damaged."""
        fp, tp = (values[1:] for values in self._above())
        some = fp + tp > 0
        return tp[some] / (fp + tp)[some], tp[some] / max(tp[-1], 1)

    @property
    def auc(self) -> float | None:
        """Area under the ROC curve; None where there is one kind of pixel only."""
        fp, tp = self.roc()
        return float(np.trapezoid(tp, fp)) if self.counts.any(axis=1).all() else None

    @property
    def average_precision(self) -> float | None:
        """Mean precision over recall; None without damaged pixels."""
        if not self.counts[1].any():
            return None
        precision, recall = self.precision_recall()
        return float((np.diff(recall, prepend=0) * precision).sum())

    def best_threshold(self) -> float | None:
        """The threshold, between 0 and 1, of the highest F1, and so of the highest IoU; of equals the
        highest.

        None without damaged pixels. To be looked for on validation chips, never on those tested on.
        """
        if not self.counts[1].any():
            return None
        # Above thresholds[k] lie k bins; 0 and 1 would call everything one thing.
        fp, tp = (values[1:BINS] for values in self._above())
        f1 = 2 * tp / np.maximum(fp + tp + self.counts[1].sum(), 1)
        return float(self.thresholds[1:BINS][int(np.argmax(f1))])

    def _above(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels in the highest 0, 1, ... bins: not damaged, and damaged."""
        sums = np.cumsum(self.counts[:, ::-1], axis=1)
        start = np.zeros((2, 1), np.int64)
        fp, tp = np.concatenate([start, sums], axis=1)
        return fp, tp
