"""The rule by which the pixels of a building become its damage class, and its two flags.

| rule | class of a graded method | class of a binary method (supplied footprints) |
|---|---|---|
| majority | commonest level, the worse on a tie | 5 where the mean damage probability reaches the method's threshold, else 1 |
| worst | worst level that, with all worse ones, covers enough of the building | does not apply |
| mean | level of the largest mean probability | does not apply |
| threshold | commonest damaged level where enough is damaged, else 1 | 5 where enough is damaged, else 1 |

In a supplied footprint no pixel may have been classed as building: then `majority` and `worst` take
the level with the largest mean probability too, and `threshold` says 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..scenes.errors import Refused, UsageError
from ..scenes.layer import NOT_ANALYSED
from ..scenes.legend import LEVELS, UNGRADED
from .tally import columns

LEVEL_LAYERS = ("p_none", "p_minor", "p_major", "p_destroyed")
"""The probability layers of a graded method, in the order of the levels."""

RULES = ("majority", "worst", "mean", "threshold")
"""The rules there are; the first is the default."""

BINARY_RULES = ("majority", "threshold")
"""The rules that do without levels."""

HALF = 0.5
"""Damaged share from which `threshold` says damaged, where none is given."""

WORST_SHARE = 0.05
"""Share of a building's analysed pixels that a level needs to be its worst."""

WORST_PIXELS = 4
"""And that many pixels at least, so that no single pixel decides."""

FLAGS = (0.3, 0.7)
"""Damage scores from which a building is possibly and likely damaged: as far from an even chance
on either side, so that the first list misses little and the second holds little that is wrong."""


@dataclass(frozen=True)
class Verdict:
    """How counts of pixels become a damage class and flags."""

    rule: str = RULES[0]
    """One of `RULES`."""
    damage_threshold: float | None = None
    """Share of analysed pixels, above 0 to 1, for the rule `threshold`; None for a half."""
    flags: tuple[float, float] = FLAGS
    """Damage scores, 0-1, from which a building is possibly and likely damaged."""

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UsageError(
                f"There is no rule {self.rule!r}; the rules are {', '.join(RULES)}. Choose one "
                "with --rule."
            )
        if self.damage_threshold is not None:
            if self.rule != "threshold":
                raise UsageError(
                    f"--damage-threshold {self.damage_threshold:g} says what --rule threshold "
                    f"needs, and the rule is {self.rule}. Add --rule threshold, or leave it out."
                )
            if not 0 < self.damage_threshold <= 1:
                raise UsageError(
                    f"--damage-threshold {self.damage_threshold:g} is not a share of a building: "
                    "give one above 0 and at most 1."
                )
        low, high = (float(value) for value in self.flags)
        if not 0 <= low <= high <= 1:
            raise UsageError(
                f"--flags {low:g} {high:g} are not two damage scores from 0 to 1, the lower one "
                f"first, for example --flags {FLAGS[0]:g} {FLAGS[1]:g}."
            )
        object.__setattr__(self, "flags", (low, high))

    def check(self, method: str, graded: bool, layers: Sequence[str]) -> None:
        """Refuse a rule that a method's layers cannot answer."""
        if not graded and self.rule not in BINARY_RULES:
            raise Refused(
                f"{method} tells damaged from not damaged and knows no levels, so the rules worst "
                f"and mean, which compare levels, do not apply to it; --rule {self.rule} was asked "
                f"for. Choose {' or '.join(BINARY_RULES)}, or a method that grades damage."
            )
        missing = [name for name in LEVEL_LAYERS if name not in layers]
        if self.rule == "mean" and missing:
            raise Refused(
                f"--rule mean needs the mean probability of every level, and {method} does not "
                f"write {', '.join(missing)}. Choose another rule."
            )

    def facts(self) -> dict[str, object]:
        """What of it decides the results."""
        share = HALF if self.damage_threshold is None else self.damage_threshold
        return {
            "rule": self.rule,
            "damage_threshold": share if self.rule == "threshold" else None,
            "flags": list(self.flags),
        }

    def levels(
        self,
        counts: np.ndarray,
        layers: Sequence[str],
        damaged: np.ndarray,
        shares: np.ndarray | None = None,
    ) -> np.ndarray:
        """Classes of a graded method: tally rows and damaged shares to int16 levels.

        `shares` (rows, 4) are the mean probabilities of the levels; None for those of the tally.
        Not analysed (255) where there is neither a pixel of a building nor a probability.
        """
        at = {name: k for k, name in enumerate(columns(layers))}
        built = counts[:, [at[f"code_{level}"] for level in LEVELS]]
        sums = level_sums(counts, layers) if shares is None else np.nan_to_num(shares)
        likely = built if sums is None else sums
        found = np.where(built.any(axis=1), _largest(built), _largest(likely))
        if self.rule == "mean":
            found = np.where(likely.any(axis=1), _largest(likely), found)
        elif self.rule == "worst":
            valid = counts[:, : at[f"code_{NOT_ANALYSED}"]].sum(axis=1)
            found = _worst(built, valid, found)
        elif self.rule == "threshold":
            kind = _largest(np.where([False, True, True, True], built, 0))
            found = np.where(self.enough(damaged), kind, LEVELS[0])
        known = built.any(axis=1) | likely.any(axis=1)
        return np.where(known, found, NOT_ANALYSED).astype(np.int16)

    def binary(self, score: np.ndarray, damaged: np.ndarray, threshold: float) -> np.ndarray:
        """Classes of a binary method: damage scores (NaN unknown) and damaged shares to 1 or 5."""
        if self.rule == "threshold":
            hit = self.enough(damaged)
        else:
            hit = np.where(np.isnan(score), damaged >= HALF, score >= threshold)
        return np.where(hit, UNGRADED, LEVELS[0]).astype(np.int16)

    def enough(self, damaged: np.ndarray) -> np.ndarray:
        """Where the damaged share, NaN for unknown, reaches the threshold."""
        share = HALF if self.damage_threshold is None else self.damage_threshold
        return np.nan_to_num(damaged) >= share


def level_sums(counts: np.ndarray, layers: Sequence[str]) -> np.ndarray | None:
    """Sums of the four level probabilities, (rows, 4); None where a layer is missing."""
    if not set(LEVEL_LAYERS) <= set(layers):
        return None
    at = {name: k for k, name in enumerate(columns(layers))}
    return counts[:, [at[f"sum_{name}"] for name in LEVEL_LAYERS]]


def _largest(amounts: np.ndarray) -> np.ndarray:
    """The level with the largest amount, the worse one on a tie. (rows, 4) to int16."""
    backwards = np.argmax(amounts[:, ::-1], axis=1)
    return np.array(LEVELS[::-1], np.int16)[backwards]


def _worst(built: np.ndarray, valid: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """The worst level that, with all worse ones, covers enough; `otherwise` where none does."""
    at_least = built[:, ::-1].cumsum(axis=1)
    # Compared as integers, so that the figure on the line falls the same way everywhere.
    covered = 100 * at_least >= round(100 * WORST_SHARE) * valid[:, None]
    enough = covered & (at_least >= WORST_PIXELS)
    worst = np.array(LEVELS[::-1], np.int16)[np.argmax(enough, axis=1)]
    return np.where(enough.any(axis=1), worst, otherwise)
