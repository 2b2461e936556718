"""How right damage probabilities are at every threshold: counts, curves, and the threshold to take."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .metrics import Confusion

STEPS = 1000
"""Thresholds are looked for, and counted exactly, in steps of a thousandth."""

_ENDS = np.geomspace(1e-9, 1e-1, 801)
_DEPTHS = np.geomspace(1e-37, 1e-9, 561)
"""Networks are sure of most pixels: without finer bins near 0 and 1 these would be one point of a curve."""

EDGES = np.unique(
    np.concatenate([np.arange(STEPS + 1) / STEPS, _ENDS, 1 - _ENDS, _DEPTHS]).astype(np.float32)
)
"""Upper edges of the bins in which probabilities are counted, ascending from 0 to 1; fp32, in which a
network's probabilities are compared."""


def _empty() -> np.ndarray:
    return np.zeros((2, EDGES.size), np.int64)


@dataclass(frozen=True, eq=False)
class ScoreCounts:
    """How many pixels, damaged and not, had each probability; add them up over chips.

    Memory does not grow with the pixels. Two probabilities within one bin are not told apart: bins are
    a thousandth wide, below 0.1 and above 0.9 a hundredth of a decade, below 1e-9 a twentieth. Counts at a threshold of whole
    thousandths are exact, those of `damage_codes`; areas under curves are exact for probabilities that
    are edges of bins, and else within what happens in a bin.
    """

    counts: np.ndarray = field(default_factory=_empty)
    """int64 (2, bins): not damaged, damaged. Bin k holds the probabilities above edge k - 1 and up to
    edge k; the first one nothing but 0."""

    @classmethod
    def of(cls, probability: np.ndarray, truth: np.ndarray) -> ScoreCounts:
        """Count pixels: probabilities 0-1, and whether each is damaged (bool), of one shape.

        Raises ValueError for other probabilities, NaN among them.
        """
        bins = np.searchsorted(EDGES, np.asarray(probability, np.float32).ravel())
        if bins.max(initial=0) == EDGES.size:
            raise ValueError("Probabilities must lie in 0-1.")
        true = np.asarray(truth, bool).ravel()
        rows = [np.bincount(bins[true == flag], minlength=EDGES.size) for flag in (False, True)]
        return cls(np.stack(rows))

    def __add__(self, other: ScoreCounts) -> ScoreCounts:
        return ScoreCounts(self.counts + other.counts)

    def at(self, threshold: float) -> Confusion:
        """What calling everything above a threshold (strictly) damaged would give.

        A threshold within a bin stands for the bin's lower edge.
        """
        fp, tp = self._over()[:, _first(threshold)].tolist()
        negative, positive = self.counts.sum(axis=1).tolist()
        return Confusion(tp, fp, positive - tp, negative - fp)

    @property
    def damaged_share(self) -> float:
        """Share of damaged pixels: the precision of calling everything damaged."""
        negative, positive = self.counts.sum(axis=1)
        return float(positive / max(negative + positive, 1))

    def roc(self) -> tuple[np.ndarray, np.ndarray]:
        """False and true positive rate, from (0, 0) to (1, 1) as the threshold falls."""
        fp, tp = self._over()[:, ::-1]
        return fp / max(fp[-1], 1), tp / max(tp[-1], 1)

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray]:
        """Precision and recall as the threshold falls, from the first pixel that is called damaged."""
        fp, tp = self._over()[:, ::-1]
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
        """The threshold, in thousandths above 0 and below 1, of the highest F1, and so of the highest
        IoU; of equals the highest.

        None without damaged pixels. To be looked for on validation chips, never on those tested on.
        """
        if not self.counts[1].any():
            return None
        tried = np.arange(STEPS - 1, 0, -1) / STEPS
        fp, tp = self._over()[:, _first(tried)]
        f1 = 2 * tp / (fp + tp + self.counts[1].sum())
        return float(tried[int(np.argmax(f1))])

    def _over(self) -> np.ndarray:
        """Pixels in bin k and those above, for each k and for none: int64 (2, bins + 1)."""
        sums = np.cumsum(self.counts[:, ::-1], axis=1)[:, ::-1]
        return np.concatenate([sums, np.zeros((2, 1), np.int64)], axis=1)


def _first(thresholds: float | np.ndarray) -> np.ndarray:
    """The lowest bins that lie over thresholds."""
    return np.searchsorted(EDGES, np.asarray(thresholds, np.float32), side="right")
