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

    `grid` is the georeference of the plan's region. `damage_score` is the square's, ids are the
    prefix and its first pixel in the full raster, and rows are sorted by that. `lon` and `lat` are
    the centre, degrees. Squares that end with the raster stand once. Their order, size and
    suppression are those of the whole scene, whatever its chunks are.
    """
    boxes, stored = _squares(store)
    hits = (stored != NOT_ANALYSED) & (stored >= least_byte(rules.threshold))
    boxes, first = np.unique(boxes[hits], axis=0, return_index=True)
    scores = stored[hits][first] / FULL
    kept = np.sort(
        suppressed(boxes[:, [1, 0, 3, 2]], scores, suppression.overlap, suppression.rule)
    )
    boxes, scores, crs = boxes[kept], scores[kept], grid.crs.to_wkt()
    shapes = to_map(shapely.box(*boxes[:, [1, 0, 3, 2]].T), grid, store.plan)
    centres = gpd.GeoSeries(shapely.centroid(shapes), crs=crs).to_crs("EPSG:4326")
    lon, lat = centres.x.to_numpy(), centres.y.to_numpy()
    told = [None] * len(boxes) if addresses is None else addresses(lon, lat)
    table = pd.DataFrame(
        {
            "area_id": [f"{scene_prefix}-r{row}c{col}" for row, col in boxes[:, :2].tolist()],
            "damage_class": UNGRADED,
            "damage_score": np.round(scores, 4),
            "damage_frac": np.nan,
            "valid_frac": np.nan,
            "det_method": f"squares of {store.plan.window.scan} px",
            "area_m2": np.round(geodesic_area(shapes, crs), 2),
            "lon": np.round(lon, 7),
            "lat": np.round(lat, 7),
            "address": pd.Series(told, dtype="str"),
            **dict.fromkeys(LEVEL_LAYERS, np.nan),
        }
    )
    return completed(table, shapely.multipolygons(shapes[:, None]), crs, origin, rules, COLUMNS)


def centres(found: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Detections as points: id, score, where they are, and their addresses."""
    kept = found[["area_id", "damage_score", "damage_class", "lon", "lat", "address"]]
    return gpd.GeoDataFrame(kept, geometry=found.geometry.centroid, crs=found.crs)


def _squares(store: Store) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the first pixel and past the last one of each square, (n, 4), and its byte.

    All at once: a raster of 10^11 px has as many squares as a photograph has pixels.
    """
    plan = store.plan
    cells = store.read(LAYER, *plan.region)
    starts = [
        first_pixels(side, plan.window)[begin // plan.window.core :][:count]
        for side, begin, count in zip(plan.shape, plan.region[:2], cells.shape, strict=True)
    ]
    firsts = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, 2)
    lasts = np.minimum(firsts + plan.window.scan, plan.shape)
    return np.concatenate([firsts, lasts], axis=1), cells.ravel()
