"""From scored squares to a table of detections: suppressed, on the earth, with addresses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from odc.geo.geobox import GeoBox

from ..scenes.layer import FULL, NOT_ANALYSED
from ..scenes.legend import UNGRADED
from ..scenes.plan import Plan
from ..scenes.store import Store
from .buildings import AREA_COLUMNS, Origin, Rules, completed, geodesic_area, to_map
from .scan import first_pixels
from .suppression import suppressed
from .verdict import LEVEL_LAYERS

LAYER = "window_score"
"""The layer that holds the scores of squares, a cell for each."""

Addresses = Callable[[np.ndarray, np.ndarray], list[str | None]]
"""From longitudes and latitudes, degrees, to addresses."""

COLUMNS = (*AREA_COLUMNS[:-1], "lon", "lat", "address", AREA_COLUMNS[-1])
"""The columns of the table of detections: those of damage areas, the centre and its address."""


@dataclass(frozen=True)
class Suppression:
    """How squares that lie on each other become one detection; see `suppressed`."""

    overlap: float = 0.1
    """Of paper 003's table of results."""
    rule: str = "iou"

    def __post_init__(self) -> None:
        suppressed(np.empty((0, 4)), np.empty(0), self.overlap, self.rule)


def least_byte(threshold: float) -> int:
    """The byte from which a stored score is a detection.

    Kernels store scores so that rounding carries none across it.
    """
    return math.ceil(round(threshold * FULL, 6))


def score_bytes(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Scores, 0-1 with NaN for none, as bytes on their own side of a threshold, uint8.

    Inclusive: a score that equals the threshold is a detection, as on the ROC curve that it was
    chosen from.
    """
    least = least_byte(threshold)
    rounded = np.rint(np.nan_to_num(scores) * FULL).astype(np.int64)
    with np.errstate(invalid="ignore"):
        above = scores >= threshold
    stored = np.where(above, np.maximum(rounded, least), np.minimum(rounded, least - 1))
    return np.where(np.isnan(scores), NOT_ANALYSED, stored).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Squares:
    """Scored squares of one raster, in the order of their first pixels, each once."""

    boxes: np.ndarray
    """Row and column of the first pixel and past the last one, full raster, (n, 4) int64."""
    scores: np.ndarray
    """0-1, (n,)."""

    @property
    def outlines(self) -> np.ndarray:
        """Polygons in pixel coordinates of the full raster."""
        return shapely.box(*self.boxes[:, [1, 0, 3, 2]].T)

    def take(self, which: np.ndarray) -> Squares:
        """Some of them, by number or by truth values."""
        return Squares(self.boxes[which], self.scores[which])

    def ids(self, scene_prefix: str) -> list[str]:
        """What they are called: the prefix and the first pixel."""
        return [f"{scene_prefix}-r{row}c{col}" for row, col in self.boxes[:, :2].tolist()]


def squares_of(cells: np.ndarray, plan: Plan) -> Squares:
    """The squares of a plan that have a score, from the bytes of its region's cells, uint8.

    Squares that end with the raster stand once. All at once: a raster of 10^11 px has as many
    squares as a photograph has pixels.
    """
    starts = [
        first_pixels(side, plan.window)[begin // plan.window.core :][:count]
        for side, begin, count in zip(plan.shape, plan.region[:2], cells.shape, strict=True)
    ]
    firsts = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, 2)
    lasts = np.minimum(firsts + plan.window.scan, plan.shape)
    stored = cells.ravel()
    by_score = np.argsort(stored, kind="stable")[::-1]
    by_score = by_score[stored[by_score] != NOT_ANALYSED]
    boxes, best = np.unique(
        np.concatenate([firsts, lasts], axis=1)[by_score], axis=0, return_index=True
    )
    return Squares(boxes, stored[by_score][best] / FULL)


def reaching(squares: Squares, threshold: float) -> np.ndarray:
    """Which squares reach a threshold, bool."""
    return np.rint(squares.scores * FULL) >= least_byte(threshold)


def detections(
    store: Store,
    grid: GeoBox,
    rules: Rules,
    suppression: Suppression,
    origin: Origin,
    scene_prefix: str,
    addresses: Addresses | None = None,
) -> gpd.GeoDataFrame:
    """The damage areas of a finished store of scanned squares: those that reach the threshold and
    lie on no better one.

    Their order, size and suppression are those of the whole scene, whatever its chunks are; see
    `detections_table` for the arguments and the rows.
    """
    squares = squares_of(store.read(LAYER, *store.plan.region), store.plan)
    hits = squares.take(reaching(squares, rules.threshold))
    boxes = hits.boxes[:, [1, 0, 3, 2]]
    kept = np.sort(suppressed(boxes, hits.scores, suppression.overlap, suppression.rule))
    return detections_table(
        hits.take(kept), grid, store.plan, rules, origin, scene_prefix, addresses
    )


def detections_table(
    squares: Squares,
    grid: GeoBox,
    plan: Plan,
    rules: Rules,
    origin: Origin,
    scene_prefix: str,
    addresses: Addresses | None = None,
) -> gpd.GeoDataFrame:
    """Squares as the table of detections, in their order.

    `grid` is the georeference of the plan's region. `damage_score` is the square's, ids are the
    prefix and its first pixel in the full raster. `lon` and `lat` are the centre, degrees.
    """
    crs = grid.crs.to_wkt()
    shapes = to_map(squares.outlines, grid, plan)
    centres = gpd.GeoSeries(shapely.centroid(shapes), crs=crs).to_crs("EPSG:4326")
    lon, lat = centres.x.to_numpy(), centres.y.to_numpy()
    told = [None] * len(shapes) if addresses is None else addresses(lon, lat)
    table = pd.DataFrame(
        {
            "area_id": squares.ids(scene_prefix),
            "damage_class": UNGRADED,
            "damage_score": np.round(squares.scores, 4),
            "damage_frac": np.nan,
            "valid_frac": np.nan,
            "det_method": f"squares of {plan.window.scan} px",
            "area_m2": np.round(geodesic_area(shapes, crs), 2),
            "lon": np.round(lon, 7),
            "lat": np.round(lat, 7),
            "address": pd.Series(told, dtype="str"),
            **dict.fromkeys(LEVEL_LAYERS, np.nan),
        }
    )
    return completed(table, shapely.multipolygons(shapes[:, None]), crs, origin, rules, COLUMNS)


def centres(found: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Detections as points: id, score, where they are, their addresses, and their scene if told."""
    names = ("area_id", "damage_score", "damage_class", "lon", "lat", "address", "scene_id")
    if found.crs.is_geographic:  # a square across the antimeridian has a part on either side
        points = shapely.points(found["lon"], found["lat"])
    else:
        points = shapely.centroid(found.geometry.to_numpy())
    kept = found[[name for name in names if name in found]]
    return gpd.GeoDataFrame(kept, geometry=points, crs=found.crs)
