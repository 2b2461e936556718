"""How right a damage map is: pixel counts, the xView2 score, and building by building."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from ..scenes.errors import UsageError

LEVELS = (1, 2, 3, 4)
"""Damage levels that the xView2 score counts, in the order of its per-class results."""

DAMAGED = (2, 3, 4, 5)
"""Codes that count as damaged where only damaged or not is asked."""

_EPSILON = 1e-6  # the official score adds it to every F1; a perfect map scores 1.0000007


@dataclass(frozen=True)
class Confusion:
    """Counts of a yes-or-no decision; add them up over images for micro averages (paper 001).

    Ratios with an empty denominator are 0, as in the official xView2 scoring.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(
            self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn
        )

    @property
    def precision(self) -> float:
        """Share of the positives found that are true."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of the true positives that were found."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        """Intersection over union."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def accuracy(self) -> float:
        """Share of right decisions."""
        return _ratio(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn)


def confusion(
    truth: np.ndarray, predicted: np.ndarray, valid: np.ndarray | None = None
) -> Confusion:
    """Count a binary decision; arrays of one shape, nonzero is positive.

    `valid` (bool, same shape) leaves elements out. Raises UsageError for different shapes.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    _same_shape(truth=truth, predicted=predicted)
    t, p = truth.astype(bool).ravel(), predicted.astype(bool).ravel()
    if valid is not None:
        kept = np.asarray(valid, bool).ravel()
        t, p = t[kept], p[kept]
    tp, both = int(np.count_nonzero(t & p)), int(np.count_nonzero(t | p))
    return Confusion(
        tp=tp,
        fp=int(np.count_nonzero(p)) - tp,
        fn=int(np.count_nonzero(t)) - tp,
        tn=t.size - both,
    )


@dataclass(frozen=True)
class XView2Counts:
    """Totals of the xView2 metric; add them up over images, then ask for the score."""

    localization: Confusion = Confusion()
    damage: tuple[Confusion, ...] = (Confusion(),) * len(LEVELS)
    """Counts of levels 1 to 4 within the target's buildings."""

    def __add__(self, other: XView2Counts) -> XView2Counts:
        levels = tuple(a + b for a, b in zip(self.damage, other.damage, strict=True))
        return XView2Counts(self.localization + other.localization, levels)

    def score(self) -> dict[str, Any]:
        """The scores: "score", "localization_f1", "damage_f1", "damage_f1_per_class" (1 to 4)."""
        per_class = tuple(c.f1 for c in self.damage)
        damage = len(per_class) / sum(1 / (f1 + _EPSILON) for f1 in per_class)
        return {
            "score": 0.3 * self.localization.f1 + 0.7 * damage,
            "localization_f1": self.localization.f1,
            "damage_f1": damage,
            "damage_f1_per_class": per_class,
        }


def xview2_counts(
    loc_true: np.ndarray, dmg_true: np.ndarray, loc_pred: np.ndarray, dmg_pred: np.ndarray
) -> XView2Counts:
    """Count one image for the xView2 metric; uint8 arrays of any one shape with values 0 to 4.

    A damage prediction counts only where the predicted localization is a building, and only on
    the buildings of the damage target. Raises UsageError for different shapes or other values:
    255 is not part of this metric, give such pixels a level or cut them out.
    """
    named = {
        "loc_true": np.asarray(loc_true),
        "dmg_true": np.asarray(dmg_true),
        "loc_pred": np.asarray(loc_pred),
        "dmg_pred": np.asarray(dmg_pred),
    }
    _same_shape(**named)
    for name, array in named.items():
        if array.size and (array.min() < 0 or array.max() > 4):
            raise UsageError(
                f"The xView2 metric takes values 0 to 4; {name} holds {array.min()} to "
                f"{array.max()}. Take pixels of other values out of all four arrays."
            )
    predicted = np.where(named["loc_pred"] > 0, named["dmg_pred"], 0)
    building = named["dmg_true"] > 0
    t, p = named["dmg_true"][building], predicted[building]
    return XView2Counts(
        confusion(named["loc_true"], named["loc_pred"]),
        tuple(confusion(t == level, p == level) for level in LEVELS),
    )


def xview2_score(
    loc_true: np.ndarray, dmg_true: np.ndarray, loc_pred: np.ndarray, dmg_pred: np.ndarray
) -> dict[str, Any]:
    """The official xView2 score of one image, or of a whole data set stacked in four arrays.

    0.3 · localization F1 + 0.7 · damage F1, the latter the harmonic mean of the F1 of levels 1-4,
    each plus 1e-6; a level that never occurs has F1 0 and pulls the damage F1 to about 4e-6, and a
    perfect map scores 1.0000007. Arguments and errors as for `xview2_counts`. Returns "score",
    "localization_f1", "damage_f1" and "damage_f1_per_class", a tuple for levels 1, 2, 3, 4.
    Source: the definitions of the xView2 challenge; paper 002, section 3.
    """
    return xview2_counts(loc_true, dmg_true, loc_pred, dmg_pred).score()


@dataclass(frozen=True)
class Match:
    """A true and a predicted building that are taken for the same."""

    truth: int
    """Position in the true geometries."""
    predicted: int
    """Position in the predicted geometries."""
    iou: float


def match_buildings(
    truth_geometries: Sequence[Any], predicted_geometries: Sequence[Any], iou: float = 0.5
) -> list[Match]:
    """Pair true with predicted buildings, one to one, the largest overlap first.

    Both are shapely polygons in one projected CRS. Pairs with an intersection over union of at
    least `iou` are taken greedily; of equal overlaps the lower positions win. The result is
    sorted by the true position. Raises UsageError unless 0 < iou <= 1.
    """
    if not 0 < iou <= 1:
        raise UsageError(f"iou must lie in (0, 1]; got {iou}.")
    truth, predicted = _geometries(truth_geometries), _geometries(predicted_geometries)
    if not len(truth) or not len(predicted):
        return []
    # Row 0 of the answer indexes what is asked, row 1 what the tree holds.
    p, t = shapely.STRtree(truth).query(predicted, predicate="intersects")
    common = shapely.area(shapely.intersection(truth[t], predicted[p]))
    union = shapely.area(truth)[t] + shapely.area(predicted)[p] - common
    overlap = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    matches, used_t, used_p = [], set[int](), set[int]()
    for k in np.lexsort((p, t, -overlap)):
        i, j = int(t[k]), int(p[k])
        if overlap[k] < iou:
            break
        if i not in used_t and j not in used_p:
            used_t.add(i)
            used_p.add(j)
            matches.append(Match(i, j, float(overlap[k])))
    return sorted(matches, key=lambda match: match.truth)


def building_confusion(
    matches: Sequence[Match],
    truth_codes: Sequence[int] | np.ndarray,
    predicted_codes: Sequence[int] | np.ndarray,
    damaged: Collection[int] = DAMAGED,
    ignore: int = 255,
) -> Confusion:
    """Count damaged against not damaged over matched buildings.

    A building that is damaged in truth but unmatched is a miss, one predicted damaged but
    unmatched a false alarm. A true building of code `ignore` counts in no way, nor does its
    match; a predicted one of code `ignore` was not looked at, and its true match is left out.
    """
    truth = np.asarray(truth_codes, dtype=int)
    predicted = np.asarray(predicted_codes, dtype=int)
    partner_t = np.full(truth.size, -1)
    partner_p = np.full(predicted.size, -1)
    for match in matches:
        partner_t[match.truth], partner_p[match.predicted] = match.predicted, match.truth
    hit_t, hit_p = np.isin(truth, list(damaged)), np.isin(predicted, list(damaged))
    found_t = np.where(partner_t >= 0, hit_p[partner_t] if predicted.size else False, False)
    unseen = (partner_t >= 0) & (
        predicted[partner_t] == ignore if predicted.size else np.zeros(truth.size, bool)
    )
    counted = confusion(hit_t, found_t, valid=(truth != ignore) & ~unseen)
    alone = int(np.count_nonzero(hit_p & (partner_p < 0) & (predicted != ignore)))
    return counted + Confusion(fp=alone)


def _geometries(items: Sequence[Any]) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    array[:] = list(items)
    return array


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _same_shape(**arrays: np.ndarray) -> None:
    if len({array.shape for array in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise UsageError(f"The arrays must have one shape; got {shapes}.")
