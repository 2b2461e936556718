"""How sure a method was of the damage class that a building got."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .legend import LEVELS, UNGRADED

_LEVEL_COLUMNS = ("p_none", "p_minor", "p_major", "p_destroyed")


def confidence(table: pd.DataFrame) -> np.ndarray:
    """The mean probability of each row's damage class, 0-1; NaN where it was not analysed.

    A method without levels gives the probability of damage, or of no damage. It is the method's
    own number, not a measured rate of being right.
    """
    code = table["damage_class"].to_numpy()
    score = table["damage_score"].to_numpy(float)
    sure = np.full(len(table), np.nan)
    for level, column in zip(LEVELS, _LEVEL_COLUMNS, strict=True):
        here = code == level
        sure[here] = table[column].to_numpy(float)[here]
    intact = (code == LEVELS[0]) & np.isnan(sure)
    sure[intact] = np.round(1.0 - score[intact], 4)
    return np.where(code == UNGRADED, score, sure)
