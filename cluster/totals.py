"""Counts and areas per class of a table, gathered while its rows pass by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import geopandas as gpd
import numpy as np

from ..kernels.buildings import Rules
from ..kernels.totals import Expected
from ..kernels.verdict import LEVEL_LAYERS
from ..scenes.layer import NOT_ANALYSED
from ..scenes.legend import LEGEND, LEVELS


class Totals:
    """Counts and areas per class, gathered while rows pass by."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.count = np.zeros(256, np.int64)
        self.area = np.zeros(256)
        self.expected = Expected(len(LEVELS))

    def watch(self, blocks: Iterable[gpd.GeoDataFrame]) -> Iterator[gpd.GeoDataFrame]:
        for block in blocks:
            classes = block["damage_class"].to_numpy()
            self.count += np.bincount(classes, minlength=256)
            self.area += np.bincount(classes, weights=block["area_m2"], minlength=256)
            seen = classes != NOT_ANALYSED
            self.expected.add(block.loc[seen, list(LEVEL_LAYERS)].to_numpy(float))
            yield block

    def expectations(self) -> dict[str, Any]:
        """The numbers that the probabilities add up to, with their intervals; nothing without any."""
        if not self.expected.buildings:
            return {}
        *levels, _ = self.expected.totals()
        known = "calibrated" if self.rules.temperatures else "not calibrated"
        return {
            "intervals": {
                code: {
                    "count": round(total.count, 1),
                    "low": round(total.low, 1),
                    "high": round(total.high, 1),
                }
                for code, total in zip(LEVELS, levels, strict=True)
            },
            "interval_basis": (
                f"Expected numbers are what the probabilities of {self.expected.buildings} analysed "
                f"buildings add up to ({known}). Their 95 % intervals hold for chance alone, as if "
                "each building were judged on its own; what the method gets wrong all over the scene "
                "is not in them. An audit measures that: aftermap audit RUN."
            ),
        }

    def facts(self) -> dict[str, Any]:
        by_class = {
            row.code: {
                "count": int(self.count[row.code]),
                "area_m2": round(float(self.area[row.code]), 2),
            }
            for row in LEGEND
            if self.count[row.code]
        }
        total = round(float(self.area.sum()), 2)
        return {"total": int(self.count.sum()), "area_m2": total, "by_class": by_class}
