"""Buildings as a list for FEMA preliminary damage assessments."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from .confidence import confidence
from .legend import LEGEND, entry
from .lonlat import DECIMALS, points_inside, to_lonlat
from .styles import Style, by_value

LAYER = "damage_assessment"

_DEGREE = {row.code: row.fema for row in LEGEND}
_KEPT = (
    "p_none",
    "p_minor",
    "p_major",
    "p_destroyed",
    "damage_score",
    "likely_damaged",
    "possibly_damaged",
    "valid_frac",
    "area_m2",
    "pre_image",
    "pre_date",
    "post_image",
    "post_date",
    "method",
    "run_id",
)


def assessed(block: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """One row per building in EPSG:4326: degree, a point inside it, and how sure the method was."""
    placed = to_lonlat(block)
    points = points_inside(placed.geometry.to_numpy())
    names = [entry(code).name for code in placed["damage_class"].tolist()]
    table = {
        "building_id": placed["building_id"],
        "source_id": placed["source_id"],
        "fema_degree": placed["damage_class"].map(_DEGREE).astype("str"),
        "latitude": np.round(shapely.get_y(points), DECIMALS),
        "longitude": np.round(shapely.get_x(points), DECIMALS),
        "confidence": confidence(placed),
        "damage_class": placed["damage_class"],
        "damage_name": pd.Series(names, placed.index, dtype="str"),
    }
    table |= {name: placed[name] for name in _KEPT if name in placed.columns}
    return gpd.GeoDataFrame(table, geometry=placed.geometry)


def styles() -> dict[str, Style]:
    """A style for the layer, in our colours."""
    degrees = {row.fema: row for row in LEGEND if row.code != 0}
    return {LAYER: by_value(LAYER, "fema_degree", degrees)}
