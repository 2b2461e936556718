"""How right scores are on chips of which people said what they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ...models.curves import ScoreCounts
from ...models.roc import auc


@dataclass(frozen=True)
class Figures:
    """Counts and shares, 0-1, on some chips; from `threshold` on a chip counts as damaged."""

    chips: int
    damaged: int
    threshold: float
    auc: float
    average_precision: float
    precision: float
    """0 where nothing counts as damaged."""
    recall: float
    f1: float

    @classmethod
    def of(cls, scores: np.ndarray, damaged: np.ndarray, threshold: float) -> Figures:
        """Of scores 0-1, (n,), and of what the chips show, bool (n,), some of each kind."""
        found = scores >= threshold
        right = int((found & damaged).sum())
        area, precision = auc(scores, damaged), ScoreCounts.of(scores, damaged).average_precision
        assert area is not None
        assert precision is not None
        return cls(
            chips=len(damaged),
            damaged=int(damaged.sum()),
            threshold=float(threshold),
            auc=area,
            average_precision=precision,
            precision=right / max(int(found.sum()), 1),
            recall=right / int(damaged.sum()),
            f1=2 * right / (int(found.sum()) + int(damaged.sum())),
        )

    def to_dict(self) -> dict[str, float]:
        """Plain values."""
        return asdict(self)


def table(rows: Sequence[tuple[str, Figures]]) -> list[str]:
    """Figures as lines of text, one below the other."""
    head = f"{'':<10} {'AUC':>6} {'AP':>6} {'prec.':>6} {'recall':>6} {'F1':>6}  threshold"
    return [head] + [
        f"{name:<10} {f.auc:>6.3f} {f.average_precision:>6.3f} {f.precision:>6.3f} {f.recall:>6.3f} "
        f"{f.f1:>6.3f}  {f.threshold:.3g}"
        for name, f in rows
    ]
