"""Buildings of a mask, and the xView2 score with buildings in the place of pixels."""

from __future__ import annotations

import cc3d
import numpy as np

from ..scenes.layer import NOT_ANALYSED
from .metrics import DAMAGED, LEVELS, Confusion, XView2Counts, confusion


def count_buildings(codes: np.ndarray) -> tuple[int, int]:
    """Undamaged and damaged buildings of a mask, damage codes uint8 (h, w).

    A building is what hangs together, corners included, of one code.
    """
    known = np.where(codes == NOT_ANALYSED, 0, codes)
    labels, count = cc3d.connected_components(
        known, connectivity=8, return_N=True, binary_image=False
    )
    level = np.zeros(count + 1, np.uint8)
    level[labels.ravel()] = known.ravel()
    damaged = int(np.isin(level, DAMAGED).sum())
    return count - damaged, damaged


def building_counts(truth: np.ndarray, found: np.ndarray) -> XView2Counts:
    """Count one image's buildings for the xView2 score; damage codes 0-4, uint8 (h, w).

    A building is what hangs together, corners included, of one true code. It is found where at
    least half of its pixels are called buildings, and its level is then the commonest of them, the
    worse on a tie; else it is missed, and so is its level. What hangs together of pixels called
    buildings is a false alarm where less than half of it lies on true buildings. Counts of several
    images add up; the score is then that of all their buildings.
    """
    labels, count = cc3d.connected_components(
        truth, connectivity=8, return_N=True, binary_image=False
    )
    table = np.zeros((count + 1, len(LEVELS) + 1), np.int64)
    np.add.at(table, (labels.ravel(), found.ravel()), 1)
    true = np.zeros(count + 1, np.uint8)
    true[labels.ravel()] = truth.ravel()
    table, true = table[1:], true[1:]
    built = table[:, 1:]
    seen = 2 * built.sum(axis=1) >= table.sum(axis=1)
    level = len(LEVELS) - np.argmax(built[:, ::-1], axis=1)
    level = np.where(seen, level, 0)
    alarms = _false_alarms(truth > 0, found > 0)
    hits = int(np.count_nonzero(seen))
    return XView2Counts(
        Confusion(tp=hits, fp=alarms, fn=count - hits),
        tuple(confusion(true == code, level == code) for code in LEVELS),
    )


def _false_alarms(truth: np.ndarray, found: np.ndarray) -> int:
    labels, count = cc3d.connected_components(
        found.astype(np.uint8), connectivity=8, return_N=True, binary_image=True
    )
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    right = np.bincount(labels[truth], minlength=count + 1)[1:]
    return int(np.count_nonzero(2 * right < sizes))
