"""The detections that a region's page shows: the best of all, picked while its rows pass by."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd

DRAWN = 20_000
"""Detections on the page's map, at most."""

LISTED = 50
"""Detections in the page's table, at most."""

_COLUMNS = ["area_id", "damage_score", "lon", "lat", "address", "scene_id"]


class BestDetections:
    """Detections by falling score, no more of them than a page can draw."""

    def __init__(self) -> None:
        self.table = pd.DataFrame(columns=_COLUMNS)
        """`area_id`, `damage_score`, `lon`, `lat`, `address` and `scene_id`."""

    def buildings(self, block: gpd.GeoDataFrame, anchors: np.ndarray) -> None:
        """Keep what is among the best so far; equals go by their ids."""
        rows = pd.DataFrame(block[_COLUMNS])
        every = rows if self.table.empty else pd.concat([self.table, rows])
        by_score = every.sort_values(["damage_score", "area_id"], ascending=[False, True])
        self.table = by_score.head(DRAWN).reset_index(drop=True)

    def unseen(self, shapes: np.ndarray) -> None:
        """Nothing: what was not analysed holds no detection."""
