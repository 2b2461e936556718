"""Damage sites and 500 m cells, laid out like the rapid assessments of UNOSAT."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pyproj import CRS, Transformer

from .confidence import confidence
from .layer import NOT_ANALYSED
from .legend import LEGEND, LEVELS, UNGRADED, entry
from .lonlat import points_inside, to_lonlat
from .styles import Style, by_value

SITES, CELLS = "damage_sites", "cells_500m"
"""Layer names."""

SIDE = 500.0
"""Metres a side of a cell; corners lie on multiples of it in the UTM zone."""

HALF = 0.5
"""A damaged share is given where at least so much of a cell's known buildings was analysed."""

_NAMED = {row.code: row for row in LEGEND}
_DAMAGED = (2, 3, 4, UNGRADED)
_COUNTED = (*LEVELS, UNGRADED, NOT_ANALYSED)
_COLUMNS = {
    4: "destroyed",
    3: "severe",
    2: "moderate",
    UNGRADED: "damage",
    1: "no_visible",
    NOT_ANALYSED: "not_analysed",
}


def metric_crs(lon: float, lat: float) -> CRS:
    """The UTM zone (or, near a pole, the polar stereographic grid) of a place, WGS 84."""
    if not -80 <= lat <= 84:
        return CRS.from_epsg(32661 if lat > 0 else 32761)
    zone = int((lon + 180) // 6) % 60 + 1
    return CRS.from_epsg((32600 if lat >= 0 else 32700) + zone)


def sites(block: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """One point inside each building, EPSG:4326, with UNOSAT's class; no number where unseen."""
    placed = to_lonlat(block)
    codes = placed["damage_class"].tolist()
    numbers = pd.array([_NAMED[code].unosat_code for code in codes], dtype="Int32")
    table = {
        "SiteID": placed[placed.columns[0]],
        "SensorDate": placed["post_date"],
        "Main_Damage_Site_Class": pd.Series(numbers, placed.index),
        "Damage_Class_Name": pd.Series(
            [_NAMED[code].unosat for code in codes], placed.index, dtype="str"
        ),
        "Confidence": confidence(placed),
        "aftermap_class": placed["damage_class"],
        "area_m2": placed["area_m2"],
    }
    points = gpd.GeoSeries(points_inside(placed.geometry.to_numpy()), placed.index, crs=4326)
    return gpd.GeoDataFrame(table, geometry=points)


@dataclass
class CellCounts:
    """Sites per cell and class, gathered while they pass by; memory follows the built cells."""

    crs: CRS
    """Metric; cells are squares in it."""
    counts: dict[tuple[int, int], np.ndarray] = field(
        default_factory=lambda: defaultdict(lambda: np.zeros(len(_COUNTED), np.int64))
    )
    """Cell (east, north, in sides) to the number of sites of each class."""

    def watch(self, blocks: Iterable[gpd.GeoDataFrame]) -> Iterator[gpd.GeoDataFrame]:
        """Pass sites on and count them; a site belongs to the cell that holds its point."""
        to_metres = Transformer.from_crs(4326, self.crs, always_xy=True)
        for block in blocks:
            x, y = to_metres.transform(block.geometry.x.to_numpy(), block.geometry.y.to_numpy())
            east, north = (np.floor(np.asarray(v) / SIDE).astype(np.int64) for v in (x, y))
            kinds = np.searchsorted(_COUNTED, block["aftermap_class"].to_numpy())
            for i, j, kind in zip(east.tolist(), north.tolist(), kinds.tolist(), strict=True):
                self.counts[i, j][kind] += 1
            yield block

    def cells(
        self, aoi: gpd.GeoDataFrame, unseen: gpd.GeoDataFrame, shares: bool
    ) -> Iterator[gpd.GeoDataFrame]:
        """The cells that touch the area or hold a site, a row of them at a time, south to north.

        `seen_share` is the part of a cell's ground that was asked for and analysed. A damaged
        share is given only where `shares` says that undamaged buildings were counted too, and at
        least half of a cell's known buildings was analysed.
        """
        asked = aoi.to_crs(self.crs).geometry.union_all()
        blind = unseen.to_crs(self.crs).geometry.make_valid().union_all() if len(unseen) else None
        seen = asked if blind is None else asked.difference(blind)
        held: dict[int, set[int]] = defaultdict(set)
        for i, j in self.counts:
            held[j].add(i)
        left, bottom, right, top = (int(np.floor(v / SIDE)) for v in asked.bounds)
        for j in range(min([bottom, *held]), max([top, *held]) + 1):
            wide = np.arange(left, right + 1)
            touched = wide[_covered(wide, j, asked) > 0]
            columns = np.array(sorted({*touched.tolist(), *held.get(j, ())}), np.int64)
            if len(columns):
                yield self._row(columns, j, seen, shares)

    def _row(
        self, columns: np.ndarray, j: int, seen: shapely.Geometry, shares: bool
    ) -> gpd.GeoDataFrame:
        """One row of cells."""
        boxes = _boxes(columns, j)
        none = np.zeros(len(_COUNTED), np.int64)
        counts = np.array([self.counts.get((i, j), none) for i in columns.tolist()])
        number = dict(zip(_COUNTED, counts.T, strict=True))
        every, unknown = counts.sum(axis=1), number[NOT_ANALYSED]
        damaged = np.sum([number[code] for code in _DAMAGED], axis=0)
        known = every - unknown
        told = (known > 0) & (known >= HALF * every) & shares
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(told, np.round(damaged / known, 4), np.nan)
        worst = [
            next((entry(code).unosat for code in (4, 3, 2, UNGRADED, 1) if number[code][k]), None)
            for k in range(len(columns))
        ]
        unlooked = pd.Series(np.where(unknown > 0, _NAMED[NOT_ANALYSED].unosat, "No sites"))
        table = {
            "cell_id": [f"E{int(i * SIDE)}N{int(j * SIDE)}" for i in columns.tolist()],
            "sites": every,
            **{name: number[code] for code, name in _COLUMNS.items()},
            "damaged": damaged,
            "damaged_share": share,
            "seen_share": np.round(_covered(columns, j, seen), 4),
            "worst": pd.Series(worst, dtype="object").fillna(unlooked).astype("str"),
        }
        return gpd.GeoDataFrame(table, geometry=gpd.GeoSeries(list(boxes), crs=self.crs))


def styles() -> dict[str, Style]:
    """Styles for both layers, in our colours."""
    classes = {row.unosat: row for row in LEGEND if row.code != 0}
    return {
        SITES: by_value(SITES, "Damage_Class_Name", classes, points=True),
        CELLS: by_value(CELLS, "worst", classes),
    }


def _covered(columns: np.ndarray, j: int, area: shapely.Geometry) -> np.ndarray:
    """The share of each cell of a row that an area covers."""
    boxes = _boxes(columns, j)
    left, right = columns.min() * SIDE, (columns.max() + 1) * SIDE
    # Cut to the row first: each cell then meets a small shape.
    band = area.intersection(shapely.box(left, j * SIDE, right, (j + 1) * SIDE))
    return shapely.area(shapely.intersection(boxes, band)) / SIDE**2


def _boxes(columns: np.ndarray, j: int) -> np.ndarray:
    return shapely.box(columns * SIDE, j * SIDE, (columns + 1) * SIDE, (j + 1) * SIDE)
