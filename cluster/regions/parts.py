"""Scenes with results as the merge sees them: whose ground is where, and who a building belongs to.

A building has one anchor, a point that does not depend on how much of it a scene sees: the first
pixel of a detected one, the centroid of a supplied footprint. The scene whose core holds the
anchor answers for the building.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from ...kernels.buildings import AREA_COLUMNS, BUILDING_COLUMNS, empty_table
from ...scenes.catalog import ScenePair
from ...scenes.grid import gsd, polygonal
from ...scenes.plan import Plan, Window
from ..finished import Finished
from .folder import RegionFolder

TABLES = {"buildings": BUILDING_COLUMNS, "damage_areas": AREA_COLUMNS}
"""The tables of a run and their columns; the first column is the id."""

LONLAT = "EPSG:4326"

_DENSE = 250.0
"""Longest piece of a core's outline that is straight in degrees as well as on a map, m."""


@dataclass(frozen=True, eq=False)
class Part:
    """One scene with results."""

    number: int
    """Its place among the parts."""
    pair: ScenePair
    run: Finished

    @cached_property
    def crs(self) -> str:
        """The coordinate system of its rasters and tables, WKT."""
        return str(self.run.record["facts"]["grid"]["crs"])

    @cached_property
    def grid(self) -> GeoBox:
        """The full raster that ids of detected buildings count from."""
        facts = self.run.record["facts"]["grid"]
        return GeoBox(tuple(facts["shape"]), Affine(*facts["transform"]), facts["crs"])

    @cached_property
    def core(self) -> shapely.Geometry:
        """Its core in its own coordinate system."""
        return to_crs(self.pair.core, LONLAT, self.crs)

    @property
    def pixel(self) -> float:
        """Side of a pixel, map units."""
        return float(np.sqrt(abs(self.grid.affine.determinant)))

    @property
    def units_per_metre(self) -> float:
        """Map units to a metre on the ground."""
        return self.pixel / gsd(self.grid)

    @property
    def plan(self) -> Plan:
        """The squares that its run scored one by one; their halo is as wide as they are."""
        facts = self.run.record["facts"]
        window, region = facts["window"], facts["grid"]["region"]
        core, side = window["core_px"], window["halo_px"]
        return Plan(self.grid.shape, tuple(region), Window(core, side, scan=side), core)

    def blocks(self, table: str, columns: Sequence[str]) -> Iterator[tuple[int, gpd.GeoDataFrame]]:
        """The rows of a table in order, in blocks, each with the number of its first row."""
        if not self.run.record["totals"][table]["total"]:
            return
        kinds = empty_table(columns, self.crs).drop(columns="geometry").dtypes.to_dict()
        first = 0
        for block in self.run.rows(table):
            yield first, block[list(columns)].astype(kinds)
            first += len(block)

    def anchors(self, block: gpd.GeoDataFrame) -> np.ndarray:
        """Longitude and latitude of each building's anchor, (n, 2)."""
        xy = shapely.get_coordinates(shapely.centroid(block.geometry.to_numpy()))
        first = block.iloc[:, 0].astype("str").str.extract(r"-r(\d+)c(\d+)$")
        found = first[0].notna().to_numpy()
        if "footprint_source" in block:
            found = found & (block["footprint_source"] == "detected").to_numpy()
        if found.any():
            row, col = (first.loc[found, k].astype(float).to_numpy() + 0.5 for k in (0, 1))
            affine = self.grid.affine
            xy[found, 0] = affine.a * col + affine.b * row + affine.c
            xy[found, 1] = affine.d * col + affine.e * row + affine.f
        to_degrees = Transformer.from_crs(self.crs, LONLAT, always_xy=True)
        return np.column_stack(to_degrees.transform(xy[:, 0], xy[:, 1]))

    def owns(self, anchors: np.ndarray) -> np.ndarray:
        """Which anchors lie in its core, bool."""
        shapely.prepare(self.pair.core)
        return shapely.contains_xy(self.pair.core, anchors[:, 0], anchors[:, 1])


def open_part(folder: RegionFolder, pair: ScenePair, number: int) -> Part:
    """A scene with results; its record is read, no table."""
    return Part(number, pair, Finished.open(folder.run(pair.scene_id).path))


def to_crs(shape: shapely.Geometry, source: str, target: str) -> shapely.Geometry:
    """A polygon in another coordinate system, its sides made of pieces short enough to bend."""
    if source == target:
        return shape
    dense = shapely.segmentize(shape, _DENSE / 111_000 if source == LONLAT else _DENSE)
    turn = Transformer.from_crs(source, target, always_xy=True)
    moved = shapely.transform(dense, lambda xy: np.column_stack(turn.transform(*xy.T)))
    return polygonal(shapely.make_valid(moved))


def as_frame(shapes: Any, crs: str, **columns: Any) -> gpd.GeoDataFrame:
    """Polygons and what is known of them as a table of multipolygons."""
    multi = [shapely.multipolygons(shapely.get_parts(shape)) for shape in shapes]
    return gpd.GeoDataFrame(pd.DataFrame(columns), geometry=gpd.GeoSeries(multi, crs=crs))
