"""GeoJSON by RFC 7946, written feature by feature."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from .lonlat import rounded, to_lonlat
from .vectors import replacing


def write_geojson(
    path: Path, blocks: Iterable[gpd.GeoDataFrame], about: Mapping[str, Any] | None = None
) -> int:
    """Write frames in any CRS as one feature collection; returns the number of features.

    Degrees with seven decimals, outer rings counter-clockwise, cut at the antimeridian, nothing
    for null but null. `about` becomes the member `aftermap` of the collection. One block is in
    memory at a time.
    """
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        opening = {"type": "FeatureCollection", "aftermap": dict(about or {})}
        file.write(f'{_dumps(opening)[:-1]}, "features": [\n')
        count = write_items(file, (item for block in blocks for item in _features(block)))
        file.write("\n]}\n")
    return count


def write_items(file: IO[str], items: Iterable[Mapping[str, Any]]) -> int:
    """Write JSON objects with commas between them, one a line; returns how many."""
    count = 0
    for item in items:
        file.write((",\n" if count else "") + _dumps(item))
        count += 1
    return count


def plain(value: object) -> Any:
    """A table's value as JSON has it: null for what is missing, no NaN, no NumPy numbers."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, bool | int | float | str) else str(value)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as plain dictionaries, without its geometry."""
    table = (
        frame.drop(columns=frame.geometry.name) if isinstance(frame, gpd.GeoDataFrame) else frame
    )
    columns = {name: [plain(value) for value in table[name]] for name in table.columns}
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _features(block: gpd.GeoDataFrame) -> Iterable[dict[str, Any]]:
    placed = to_lonlat(block)
    shapes = shapely.to_geojson(rounded(placed.geometry.to_numpy()))
    for properties, shape in zip(records(placed), shapes, strict=True):
        geometry = None if shape is None else json.loads(shape)
        yield {"type": "Feature", "geometry": geometry, "properties": properties}


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
