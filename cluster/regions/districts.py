"""Totals per district: a building belongs to the polygon that holds its anchor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely

from ...kernels.buildings import geodesic_area
from ...scenes.catalog import ScenePair
from ...scenes.errors import Refused
from ...scenes.grid import polygonal
from ...scenes.layer import NOT_ANALYSED
from ...scenes.vector_file import check_vector_file, offline
from .parts import LONLAT

COLUMNS = {
    1: "no_damage",
    2: "minor",
    3: "major",
    4: "destroyed",
    5: "damaged_not_graded",
    NOT_ANALYSED: "not_analysed",
}
"""Damage code to its column in districts.csv."""

ELSEWHERE = "(in no district)"
"""What the row of buildings outside all districts is called."""

MOST = 100_000
"""Districts that are read at most."""


@dataclass(frozen=True, eq=False)
class Districts:
    """Named polygons."""

    names: Sequence[str]
    shapes: np.ndarray
    """Polygons in EPSG:4326, one per name."""


def read_districts(path: Path, column: str) -> Districts:
    """Read the polygons of a vector file and the column with their names.

    Polygons of one name stay districts of their own. Raises Refused for a file without polygons,
    coordinate system or that column.
    """
    check_vector_file(path, "district", "[districts] path")
    try:
        with offline():
            frame = pyogrio.read_dataframe(path, max_features=MOST + 1)
    except Exception as error:  # pyogrio raises several kinds, all meaning the same here
        raise Refused(f"[districts] path = {str(path)!r} cannot be read: {error}.") from error
    if getattr(frame, "crs", None) is None:
        raise Refused(f"[districts] path = {str(path)!r} has no coordinate system or no geometry.")
    if column not in frame:
        known = ", ".join(map(str, frame.columns.drop(frame.geometry.name)))
        raise Refused(
            f"[districts] column = {column!r} is not in {path}; it has {known or 'none'}."
        )
    if len(frame) > MOST:
        raise Refused(f"{path} has more than {MOST:,} districts. Give larger ones.")
    there = frame[~(frame.geometry.isna() | frame.geometry.is_empty)]
    placed = there.to_crs(LONLAT).geometry.force_2d().make_valid()
    shapes = np.array([polygonal(shape) for shape in placed], object)
    whole = np.array([shape.area > 0 for shape in shapes], bool)
    if not whole.any():
        raise Refused(f"{path} has {len(frame)} features, and none of them is a polygon.")
    names = ["" if pd.isna(name) else str(name) for name in there[column]]
    return Districts([n for n, w in zip(names, whole, strict=True) if w], shapes[whole])


class DistrictTotals:
    """Counts and areas per district, gathered while a region's rows pass by."""

    def __init__(self, districts: Districts, pairs: Sequence[ScenePair]) -> None:
        self.districts = districts
        size = len(districts.names)
        self.tree = shapely.STRtree(districts.shapes)
        self.counts = np.zeros((size + 1, 256), np.int64)
        self.damaged_m2 = np.zeros(size + 1)
        self.unseen_m2 = np.zeros(size)
        self.area_m2 = geodesic_area(districts.shapes, LONLAT)
        self.covered_m2 = np.zeros(size)
        for pair in pairs:
            self._add(self.covered_m2, np.array([pair.core], object))

    def buildings(self, block: gpd.GeoDataFrame, anchors: np.ndarray) -> None:
        """Count rows where their anchors are; one in no district counts too."""
        points = shapely.points(anchors)
        row, where = self.tree.query(points, predicate="intersects")
        outside = np.setdiff1d(np.arange(len(block)), row)
        row = np.concatenate([row, outside])
        where = np.concatenate([where, np.full(len(outside), len(self.counts) - 1)])
        codes = block["damage_class"].to_numpy()[row]
        np.add.at(self.counts, (where, codes), 1)
        damaged = (codes >= 2) & (codes <= 5)
        np.add.at(self.damaged_m2, where[damaged], block["area_m2"].to_numpy()[row][damaged])

    def unseen(self, shapes: np.ndarray) -> None:
        """Add ground that was not analysed, EPSG:4326."""
        self._add(self.unseen_m2, shapes)

    def table(self, buildings: bool) -> pd.DataFrame:
        """One row per district in the order of the file, then one for what lies in none.

        Without `buildings` what is counted are damaged areas, and there is no damaged share.
        """
        size = len(self.districts.names)
        damaged = self.counts[:, 2:6].sum(axis=1)
        known = self.counts.sum(axis=1) - self.counts[:, NOT_ANALYSED]
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(known > 0, np.round(damaged / known, 4), np.nan)
        seen = np.clip(self.covered_m2 - self.unseen_m2, 0, self.area_m2)
        columns: dict[str, Any] = {
            "district": [*self.districts.names, ELSEWHERE],
            "buildings" if buildings else "damage_areas": self.counts.sum(axis=1),
            **{name: self.counts[:, code] for code, name in COLUMNS.items()},
            "damaged_share": share if buildings else np.nan,
            "damaged_m2": np.round(self.damaged_m2, 2),
            "area_km2": [*_km2(self.area_m2), np.nan],
            "analysed_km2": [*_km2(seen), np.nan],
            "not_analysed_km2": [*_km2(self.area_m2 - seen), np.nan],
        }
        table = pd.DataFrame(columns)
        outside = int(self.counts[-1].sum())
        return table if outside else table.iloc[:size]

    def _add(self, sums: np.ndarray, shapes: np.ndarray) -> None:
        """Add to each district the area of what it shares with each shape."""
        left, right = self.tree.query(shapes, predicate="intersects")
        for k, district in zip(left.tolist(), right.tolist(), strict=True):
            common = polygonal(shapely.intersection(shapes[k], self.districts.shapes[district]))
            if not common.is_empty:
                sums[district] += geodesic_area(np.array([common], object), LONLAT)[0]


def _km2(values: np.ndarray) -> list[float]:
    return [round(float(value) / 1e6, 6) for value in values]
