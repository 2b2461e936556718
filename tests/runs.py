"""Finished run folders that tests make for themselves, with everything odd that a table may hold."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
from affine import Affine
from aftermap.kernels.buildings import AREA_COLUMNS, BUILDING_COLUMNS, empty_table
from aftermap.scenes.legend import colour_table
from aftermap.scenes.vectors import write_csv, write_geopackage, write_geoparquet

CRS = "EPSG:32637"
CORNER = 316_000.0, 4_162_000.0
GSD = 0.5
SHAPE = 1500, 2500
"""Rows and columns of the grid: two by three xBD tiles."""

HOSTILE = (
    "=cmd|' /C calc'!A0",
    'quote " and, comma',
    "new\nline",
    "<script>alert('x')</script>&amp;",
    "Kırıkhan 住宅 🏚",
    None,
)


def at(left: float, top: float, width: float = 20, height: float = 20) -> shapely.Polygon:
    """A box in pixels of the grid, as a map polygon."""
    x, y = CORNER[0] + left * GSD, CORNER[1] - top * GSD
    return shapely.box(x, y - height * GSD, x + width * GSD, y)


def hollow(left: float, top: float) -> shapely.Polygon:
    """A box of 60 px with a hole of 20 px in its middle."""
    return at(left, top, 60, 60) - at(left + 20, top + 20)


def buildings() -> gpd.GeoDataFrame:
    """Six buildings: codes 1 to 5 and 255, a hole, two parts, one across a tile's border."""
    shapes = [
        at(10, 10),
        hollow(1020, 100),
        shapely.union(at(1100, 300), at(1160, 300, 30, 30)),
        at(2000, 1200),
        at(1200, 1100),
        at(50, 1300),
    ]
    return table(shapes, [1, 2, 3, 4, 5, 255], BUILDING_COLUMNS)


def areas(count: int = 3) -> gpd.GeoDataFrame:
    """Damage areas of a binary method."""
    shapes = [at(100 + 60 * k, 100) for k in range(count)]
    return table(shapes, [5] * count, AREA_COLUMNS)


def table(
    shapes: list[shapely.Geometry], codes: list[int], columns: tuple[str, ...]
) -> gpd.GeoDataFrame:
    """A full table of a run; probabilities are null where a class has none."""
    count, none = len(shapes), empty_table(columns, CRS)
    code = np.array(codes, np.int16)
    graded = (code >= 1) & (code <= 4)
    names = pd.Series([HOSTILE[k % len(HOSTILE)] for k in range(count)], dtype="str")
    values: dict[str, object] = {
        columns[0]: pd.Series([f"post-r{k}c0" for k in range(count)], dtype="str"),
        "source_id": names,
        "footprint_source": "footprints.gpkg",
        "damage_class": code,
        "damage_score": np.where(code == 255, np.nan, np.clip(code / 5, 0, 1)),
        "damage_frac": 0.5,
        "valid_frac": np.where(code == 255, 0.2, 1.0),
        "shift_x_m": np.nan,
        "shift_y_m": np.nan,
        "align_conf": np.nan,
        "pre_image": "vor <dem> Beben",
        "post_image": "nach Beben",
        "pre_date": pd.Series([None] * count, dtype="str"),
        "post_date": "2023-02-08",
        "gsd_m": GSD,
        "method": "fc-siam-diff",
        "weights_sha256": "ab" * 32,
        "run_id": "0123456789abcdef",
        "det_method": "supplied",
        "area_m2": [round(shape.area, 2) for shape in shapes],
    }
    sure = pd.array([None if c == 255 else c > 2 for c in codes], dtype="boolean")
    values |= {"likely_damaged": sure, "possibly_damaged": sure}
    for k, name in enumerate(("p_none", "p_minor", "p_major", "p_destroyed"), start=1):
        values[name] = np.where(graded, np.where(code == k, 0.7, 0.1), np.nan)
    parts, owner = shapely.get_parts(np.array(shapes, object), return_index=True)
    multi = shapely.multipolygons(parts, indices=owner)
    frame = pd.DataFrame({name: values[name] for name in columns if name in values})
    placed = gpd.GeoDataFrame(frame, geometry=gpd.GeoSeries(list(multi), crs=CRS))
    return placed.astype(none.drop(columns="geometry").dtypes.to_dict())[list(columns)]


def finished_run(
    folder: Path,
    rows: gpd.GeoDataFrame | None = None,
    found: gpd.GeoDataFrame | None = None,
    **record: object,
) -> Path:
    """A run folder with these buildings (or, of a binary method, damage areas)."""
    folder.mkdir(parents=True)
    binary = found is not None
    rows = empty_table(BUILDING_COLUMNS, CRS) if rows is None else rows
    found = empty_table(AREA_COLUMNS, CRS) if found is None else found
    write_geoparquet(folder / "buildings.parquet", rows)
    aoi, unseen = at(0, 0, SHAPE[1], SHAPE[0]), at(0, 1240, 260, 260)
    layers = {
        "buildings": rows,
        "damage_areas": found,
        "aoi": gpd.GeoDataFrame({"name": ["analysed grid"]}, geometry=[aoi], crs=CRS),
        "not_analysed": gpd.GeoDataFrame(
            {"reason": ["cloud"], "cell_px": [4], "exact": [False], "area_m2": [16900.0]},
            geometry=[unseen],
            crs=CRS,
        ),
        "sources": pd.DataFrame({"role": ["post"], "path": ["/data/nach.tif"]}),
    }
    write_geopackage(folder / "buildings.gpkg", layers)
    write_csv(folder / "summary.csv", pd.DataFrame({"figure": ["buildings"], "value": [6.0]}))
    (folder / "report.html").write_text("<!doctype html>")
    _raster(folder / "damage.tif")
    (folder / "run.json").write_text(json.dumps(_record(rows, found, binary) | record))
    return folder


def _raster(path: Path) -> None:
    place = Affine(GSD, 0, CORNER[0], 0, -GSD, CORNER[1])
    profile = {"driver": "GTiff", "height": SHAPE[0], "width": SHAPE[1], "count": 1}
    options = {"dtype": "uint8", "nodata": 255, "crs": CRS, "transform": place, "compress": "zstd"}
    with rasterio.open(path, "w", **profile, **options) as target:
        target.write(np.zeros((1, *SHAPE), np.uint8))
        target.write_colormap(1, colour_table())


def _record(rows: gpd.GeoDataFrame, found: gpd.GeoDataFrame, binary: bool) -> dict[str, object]:
    def counted(frame: gpd.GeoDataFrame) -> dict[str, object]:
        by_class = frame["damage_class"].value_counts().sort_index()
        return {
            "total": len(frame),
            "area_m2": float(frame["area_m2"].sum()),
            "by_class": {str(code): {"count": int(n)} for code, n in by_class.items()},
        }

    return {
        "state": "done",
        "run_id": "0123456789abcdef",
        "method": {"method": "difference"} if binary else {"method": "fc", "classes": [5, 0.5]},
        "quarantined": [],
        "facts": {
            "inputs": {
                "pre": [{"path": "/data/vor.tif"}],
                "post": [{"path": "/data/nach.tif"}, {"path": "/data/nach2.tif"}],
                "footprints": [{"path": "/data/footprints.gpkg"}],
            },
            "placement": {"post 0": {"crs": CRS, "transform": [GSD, 0, 0, 0, -GSD, 0]}},
        },
        "totals": {
            "buildings": counted(rows),
            "damage_areas": counted(found),
            "not_analysed_km2": 0.0169,
            "footprints": None if binary else {"read": len(rows)},
            "files": ["damage.tif", "buildings.gpkg", "buildings.parquet", "summary.csv"],
        },
    }
