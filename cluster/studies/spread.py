"""Figures of several seeds: their mean, and how far they lie apart."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Figures by name, over seeds; 0-1."""

    mean: Mapping[str, float]
    sd: Mapping[str, float] | None
    """Sample standard deviation; None of one seed, which says nothing of others."""

    @classmethod
    def of(cls, found: Sequence[Mapping[str, float]]) -> Spread:
        """From the figures of each seed."""
        by_name = {name: [figures[name] for figures in found] for name in found[0]}
        return cls(
            {name: statistics.fmean(values) for name, values in by_name.items()},
            {name: statistics.stdev(v) for name, v in by_name.items()} if len(found) > 1 else None,
        )

    def text(self, name: str) -> str:
        """A figure in percent, with its deviation."""
        mean = f"{100 * self.mean[name]:.2f}"
        return mean if self.sd is None else f"{mean} ± {100 * self.sd[name]:.2f}"
