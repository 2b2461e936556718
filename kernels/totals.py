"""Totals per damage class with 95 % intervals: from probabilities, and from an audited sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
"""How often an interval holds the true number, if what it rests on is right."""

DRAWS = 20_000
"""Simulated populations behind an audit's interval."""

_Z = 1.959963984540054


@dataclass(frozen=True)
class Total:
    """How many buildings there are of a kind."""

    count: float
    """Best estimate."""
    low: float
    high: float
    """Limits of the 95 % interval."""


class Expected:
    """Numbers of buildings per class that their probabilities add up to; filled block by block.

    The number of buildings of a class is a sum of independent yes-or-no draws, each with the
    probability of its building: mean Σp and variance Σp(1 − p), normal by the central limit. What
    the probabilities get wrong all together is not in the interval.
    """

    def __init__(self, classes: int) -> None:
        self.buildings = 0
        self.mean = np.zeros(classes + 1)
        self.variance = np.zeros(classes + 1)

    def add(self, probabilities: np.ndarray) -> None:
        """Add buildings: (n, classes), the first column the intact class; rows of NaN count not."""
        p = probabilities[np.isfinite(probabilities).all(axis=1)]
        # The last column: damaged at all.
        p = np.column_stack([p, 1 - p[:, 0]])
        self.buildings += len(p)
        self.mean += p.sum(axis=0)
        self.variance += (p * (1 - p)).sum(axis=0)

    def totals(self) -> tuple[Total, ...]:
        """One total per class, then one for all damaged classes together."""
        half = _Z * np.sqrt(self.variance)
        low = np.clip(self.mean - half, 0, self.buildings)
        high = np.clip(self.mean + half, 0, self.buildings)
        return tuple(map(Total, self.mean.tolist(), low.tolist(), high.tolist()))


@dataclass(frozen=True)
class Stratum:
    """The buildings that a run put into one class, and those of them that were looked at."""

    size: int
    """Buildings in the run."""
    answers: tuple[int, ...]
    """Audited buildings per true class."""

    def __post_init__(self) -> None:
        if min(self.answers, default=0) < 0 or sum(self.answers) > self.size:
            raise ValueError(f"{sum(self.answers)} answers for a stratum of {self.size} buildings")


def audited(
    strata: Sequence[Stratum], groups: Mapping[str, Sequence[int]], seed: int = 0
) -> dict[str, Total]:
    """Totals of groups of true classes, estimated from a random sample of each stratum.

    The shares of the true classes within a stratum get a Dirichlet posterior from the answers and
    a prior of one building in all, spread evenly (Perks); the buildings that were not looked at
    are drawn from it, so that a fully audited stratum leaves no doubt, and one with few answers
    much. `groups` names sums of true classes. Strata without an answer take the prior alone.
    Medians are not used: the estimate is the posterior mean.
    """
    rng = np.random.default_rng(seed)
    width = len(strata[0].answers)
    sums = np.zeros((DRAWS, width))
    for stratum in strata:
        seen = np.array(stratum.answers, float)
        left = stratum.size - int(seen.sum())
        shares = rng.dirichlet(seen + 1 / width, DRAWS)
        sums += seen + rng.multinomial(left, shares)
    tails = (1 - LEVEL) / 2
    found = {}
    for name, classes in groups.items():
        drawn = sums[:, list(classes)].sum(axis=1)
        low, high = np.quantile(drawn, [tails, 1 - tails])
        found[name] = Total(float(_mean(strata, classes)), float(low), float(high))
    return found


def _mean(strata: Sequence[Stratum], classes: Sequence[int]) -> float:
    """The posterior mean, exactly."""
    total = 0.0
    for stratum in strata:
        seen = np.array(stratum.answers, float)
        share = (seen + 1 / len(seen)) / (seen.sum() + 1)
        picked = list(classes)
        total += seen[picked].sum() + (stratum.size - seen.sum()) * share[picked].sum()
    return total
