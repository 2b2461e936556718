"""The report's buildings: chosen from any number of them, and made small enough for a page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from ..scenes.grid import pixel_metres
from ..scenes.layer import NOT_ANALYSED
from ..scenes.legend import LEGEND, entry
from ..scenes.vectors import read_blocks
from .report_pictures import SIDE, code_picture

LIMIT = 5000
"""Most buildings in a report."""

PRINTED = 40
"""Rows of the table that is printed, and shown where scripts do not run."""

SCORE_EDGES = np.linspace(0, 1, 21)
"""Bins of the damage score."""

AREA_EDGES = np.array([0, 25, 50, 100, 150, 200, 300, 500, 1000, 2000, math.inf])
"""Bins of the area, m2."""

_BLOCK = 20_000
_MOST_AREAS = 2000
_MOST_BYTES = 4 << 20
_LONGEST = 80
_COARSENED = 8
_SEVERITY = {code: rank for rank, code in enumerate((4, 3, 5, 2, 1))}
_LEVELS = ("p_none", "p_minor", "p_major", "p_destroyed")
_NUMBERS = ("damage_score", *_LEVELS, "damage_frac", "valid_frac", "area_m2")
_TEXTS = ("source_id", "flags")
_DECIMALS = {"area_m2": 1}


@dataclass(frozen=True)
class Choice:
    """What was kept of a table, and what the whole of it looks like."""

    rows: gpd.GeoDataFrame
    """The kept rows, most severe first, those not analysed last; column `id` first."""
    total: int
    """Rows of the whole table."""
    scores: np.ndarray
    """Rows per bin of SCORE_EDGES and damage code, int64 (20, 256)."""
    areas: np.ndarray
    """Rows per bin of AREA_EDGES and damage code, int64 (10, 256)."""


@dataclass(frozen=True)
class Places:
    """All that the report shows on its map and in its table."""

    kind: str
    """"buildings" or "damage areas"."""
    choice: Choice
    """The rows."""
    page: dict[str, Any]
    """What the page's script reads; fit for JSON."""
    left_out: tuple[str, ...]
    """What the page does not show, in sentences."""


def find_places(folder: Path, grid: GeoBox, codes: np.ndarray, limit: int = LIMIT) -> Places:
    """Gather the buildings, or the damage areas, of a finished run for its report.

    Reads buildings.parquet and buildings.gpkg in blocks. `grid` is the georeference of the run's
    region, `codes` its damage codes (uint8, any shape).
    """
    package = folder / "buildings.gpkg"
    binary = _rows_in(package, "damage_areas") > 0
    blocks = (
        _layer_blocks(package, "damage_areas")
        if binary
        else read_blocks(folder / "buildings.parquet", _BLOCK)
    )
    choice = choose(blocks, "area_id" if binary else "building_id", limit)
    unseen = _layer(package, "not_analysed")
    kept = unseen.nlargest(_MOST_AREAS, "area_m2") if len(unseen) > _MOST_AREAS else unseen
    kind = "damage areas" if binary else "buildings"
    page, coarse = _fitting(choice, kept, _layer(package, "aoi"), grid)
    page |= {"kind": kind, "partial": choice.total > len(choice.rows)}
    page |= {"raster": code_picture(codes) if codes.any() else None}
    return Places(kind, choice, page, _left_out(kind, choice, unseen, kept, grid, coarse))


def choose(blocks: Iterable[gpd.GeoDataFrame], name: str, limit: int = LIMIT) -> Choice:
    """Keep at most `limit` rows: the most severe, and of those not analysed their fair share.

    Severity is the class, then `damage_score`, then the id in column `name`; what was not analysed
    is taken by area. The result does not depend on how the rows come in blocks.
    """
    known: pd.DataFrame | None = None
    unknown: pd.DataFrame | None = None
    count = np.zeros(256, np.int64)
    scores = np.zeros((len(SCORE_EDGES) - 1, 256), np.int64)
    areas = np.zeros((len(AREA_EDGES) - 1, 256), np.int64)
    for block in blocks:
        rows = _plain(block, name)
        code = rows["damage_class"].to_numpy()
        count += np.bincount(code, minlength=256)
        _tell(scores, SCORE_EDGES, rows["damage_score"].to_numpy(float), code)
        _tell(areas, AREA_EDGES, rows["area_m2"].to_numpy(float), code)
        missing = code == NOT_ANALYSED
        known = _most(known, rows[~missing], limit)
        unknown = _most(unknown, rows[missing], limit)
    if known is None or unknown is None:
        raise ValueError("a table without a single block has no columns")
    total, blind = int(count.sum()), int(count[NOT_ANALYSED])
    share = 0 if total == 0 else max(round(limit * blind / total), limit - (total - blind), 1)
    kept = unknown.head(min(share, blind) if total > limit else blind)
    rows = pd.concat([known.head(limit - len(kept)), kept], ignore_index=True)
    return Choice(gpd.GeoDataFrame(rows, crs=known.crs), total, scores, areas)


def _plain(block: gpd.GeoDataFrame, name: str) -> gpd.GeoDataFrame:
    """The columns that the report shows."""
    table = pd.DataFrame({"id": block[name].astype(str).to_numpy()})
    table["damage_class"] = block["damage_class"].to_numpy(np.int64)
    for column in _NUMBERS:
        table[column] = block[column].to_numpy(float) if column in block else np.nan
    for column in _TEXTS:
        if column in block:
            table[column] = block[column].to_numpy(object)
    return gpd.GeoDataFrame(table, geometry=block.geometry.to_numpy(), crs=block.crs)


def _most(kept: gpd.GeoDataFrame | None, more: gpd.GeoDataFrame, limit: int) -> gpd.GeoDataFrame:
    """The first `limit` of both in the order of severity."""
    both = more if kept is None else pd.concat([kept, more], ignore_index=True)
    keyed = both.assign(
        rank=both["damage_class"].map(_SEVERITY).fillna(len(_SEVERITY)),
        size=np.where(both["damage_class"] == NOT_ANALYSED, both["area_m2"], both["damage_score"]),
    )
    order = keyed.sort_values(["rank", "size", "id"], ascending=[True, False, True]).index
    return both.loc[order[:limit]].reset_index(drop=True)


def _tell(counts: np.ndarray, edges: np.ndarray, values: np.ndarray, code: np.ndarray) -> None:
    """Count values per bin and code; the last bin takes its upper edge."""
    known = ~np.isnan(values)
    bins = np.searchsorted(edges, values[known], side="right") - 1
    np.add.at(counts, (np.clip(bins, 0, len(counts) - 1), code[known]), 1)


def _fitting(
    choice: Choice, unseen: gpd.GeoDataFrame, aoi: gpd.GeoDataFrame, grid: GeoBox
) -> tuple[dict[str, Any], float]:
    """What the script reads, outlines coarsened until it fits; and their tolerance in pixels."""
    per_picture = max(1.0, max(grid.shape) / SIDE)
    # Fine enough for a look closer than the picture allows, where a building is a few pixels.
    tolerance = min(max(0.75, 0.5 * per_picture), 3.0)
    page = _page(choice.rows, grid)
    for _ in range(_COARSENED):
        unit = tolerance / 4
        page |= {
            "unit": [_round(size * unit, 9) for size in reversed(pixel_metres(grid))],
            "shapes": _shapes(choice.rows.geometry, grid, tolerance, unit),
            "aoi": _shapes(aoi.geometry, grid, per_picture / 2, unit),
            "unseen": {
                "reason": [_text(reason) for reason in unseen["reason"]],
                "area": [_round(area, 0) for area in unseen["area_m2"]],
                "shapes": _shapes(unseen.geometry, grid, per_picture / 2, unit),
            },
        }
        if len(to_json(page).encode()) <= _MOST_BYTES:
            break
        tolerance *= 2
        per_picture *= 2
    return page, 4 * unit


def to_json(page: dict[str, Any]) -> str:
    """JSON that can lie in a script element: nothing in it opens or ends a tag or a line."""
    text = json.dumps(page, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _page(rows: gpd.GeoDataFrame, grid: GeoBox) -> dict[str, Any]:
    """The table, column by column, and the size of the map."""
    height, width = pixel_metres(grid)
    columns: dict[str, list[Any]] = {
        "id": [_text(value) for value in rows["id"]],
        "damage_class": rows["damage_class"].tolist(),
    }
    for name in _NUMBERS:
        if rows[name].notna().any():
            columns[name] = [_round(value, _DECIMALS.get(name, 4)) for value in rows[name]]
    for name in _TEXTS:
        if name in rows and rows[name].notna().any():
            columns[name] = [_text(value) for value in rows[name]]
    centres = shapely.point_on_surface(rows.geometry.to_numpy())
    degrees = Transformer.from_crs(grid.crs.to_wkt(), "EPSG:4326", always_xy=True)
    lon, lat = degrees.transform(shapely.get_x(centres), shapely.get_y(centres))
    columns["lon"] = [_round(value, 5) for value in lon]
    columns["lat"] = [_round(value, 5) for value in lat]
    return {
        "size": [_round(grid.shape[1] * width, 3), _round(grid.shape[0] * height, 3)],
        "pixel": _round(max(height, width), 4),
        "pixels": [grid.shape[1], grid.shape[0]],
        "upright": bool(grid.affine.b == 0 == grid.affine.d and grid.affine.e < 0),
        "legend": [
            {"code": row.code, "name": row.name, "colour": row.hex, "hatched": row.hatched}
            for row in LEGEND
            if row.code
        ],
        "columns": columns,
    }


def _shapes(
    geometry: gpd.GeoSeries, grid: GeoBox, tolerance: float, unit: float
) -> list[list[list[list[int]]]]:
    """Outlines in whole units from the map's upper left corner, each point after the one before.

    `tolerance` and `unit` in pixels. One list of polygons per shape, one of rings per polygon.
    """
    inverse = ~grid.affine
    pixels = shapely.transform(
        geometry.to_numpy(), lambda xy: np.column_stack(inverse * (xy[:, 0], xy[:, 1]))
    )
    simple = shapely.simplify(pixels, tolerance)
    return [_polygons(shape, unit) for shape in simple]


def _polygons(shape: shapely.Geometry, unit: float) -> list[list[list[int]]]:
    found = []
    for part in shapely.get_parts(shape):
        rings = [_ring(np.asarray(part.exterior.coords), unit, 1)]
        rings += [_ring(np.asarray(hole.coords), unit, 0) for hole in part.interiors]
        found.append([ring for ring in rings if ring])
    return found


def _ring(xy: np.ndarray, unit: float, least: int) -> list[int]:
    """A ring without its last point; one that vanishes is nothing, or a box of `least` units."""
    whole = np.rint(xy[:-1] / unit).astype(np.int64)
    moved = np.any(np.diff(whole, axis=0, prepend=whole[-1:]) != 0, axis=1)
    whole = whole[moved]
    if len(whole) < 3:
        if not least:
            return []
        x0, y0 = np.floor(xy.min(axis=0) / unit).astype(np.int64)
        x1, y1 = np.maximum(np.ceil(xy.max(axis=0) / unit).astype(np.int64), (x0 + 1, y0 + 1))
        whole = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    steps: list[int] = np.diff(whole, axis=0, prepend=np.zeros((1, 2), np.int64)).ravel().tolist()
    return steps


def _left_out(
    kind: str,
    choice: Choice,
    unseen: gpd.GeoDataFrame,
    kept: gpd.GeoDataFrame,
    grid: GeoBox,
    tolerance: float,
) -> tuple[str, ...]:
    height, width = pixel_metres(grid)
    said = []
    if choice.total > len(choice.rows):
        said.append(
            f"{choice.total - len(choice.rows):,} of {choice.total:,} {kind}: the map and the "
            f"table hold {len(choice.rows):,}, the most damaged first, and of those not analysed "
            "a share as large as theirs of all. Totals and histograms count every one; all of "
            "them are in buildings.gpkg."
        )
    if len(kept) < len(unseen):
        said.append(
            f"{len(unseen) - len(kept):,} of {len(unseen):,} areas that were not analysed, the "
            "smallest. All of them are in the layer not_analysed of buildings.gpkg."
        )
    if len(choice.rows):
        said.append(
            f"Detail of the outlines: they are simplified by up to "
            f"{tolerance * max(height, width):.2g} m. The exact ones are in buildings.gpkg."
        )
    return tuple(said)


def printed_rows(choice: Choice) -> list[dict[str, Any]]:
    """The first rows for paper: `id`, `entry` of the legend, `score`, `levels`, `area`."""
    return [
        {
            "id": _text(row["id"]),
            "entry": entry(row["damage_class"]),
            "score": _round(row["damage_score"], 2),
            "levels": [_round(row[name], 2) for name in _LEVELS],
            "area": row["area_m2"],
        }
        for row in choice.rows.head(PRINTED).to_dict("records")
    ]


def _rows_in(path: Path, layer: str) -> int:
    return int(pyogrio.read_info(path, layer=layer)["features"])


def _layer(path: Path, layer: str) -> gpd.GeoDataFrame:
    return pyogrio.read_dataframe(path, layer=layer)


def _layer_blocks(path: Path, layer: str) -> Iterator[gpd.GeoDataFrame]:
    """A layer of a GeoPackage by its row numbers, which it counts from 1."""
    for first in range(0, _rows_in(path, layer), _BLOCK):
        where = f"fid > {first} and fid <= {first + _BLOCK}"
        yield pyogrio.read_dataframe(path, layer=layer, where=where)


def _round(value: float, digits: int) -> float | None:
    """A short number; None for NaN, which JSON has no word for."""
    if not math.isfinite(value):
        return None
    short = round(float(value), digits)
    return int(short) if short.is_integer() else short


def _text(value: object) -> str:
    """Text of bounded length, empty where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    said = str(value)
    return said if len(said) <= _LONGEST else f"{said[: _LONGEST - 1]}…"
