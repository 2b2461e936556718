"""The area under the ROC curve of scores without bounds, few enough to be ranked."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def auc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """How often a positive scores above a negative, ties counting half; exact.

    `scores` and `positive` (bool) are (n,). None where there is one kind only. Of the pixels of
    rasters, which are too many to rank, see `curves.ScoreCounts`.
    """
    positive = np.asarray(positive, bool)
    most, least = int(positive.sum()), int((~positive).sum())
    if not most or not least:
        return None
    above = rankdata(scores)[positive].sum() - most * (most + 1) / 2
    return float(above / (most * least))
