"""A finished run's tables and pictures, made up, so that what the report shows is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from aftermap.cluster.report_pictures import Picture, damage_picture, photograph
from aftermap.kernels.buildings import AREA_COLUMNS, BUILDING_COLUMNS, empty_table
from aftermap.scenes.vectors import write_geopackage, write_geoparquet
from odc.geo.geobox import GeoBox
from PIL import Image

CRS = "EPSG:32637"
GRID = GeoBox((800, 1000), Affine(0.5, 0, 316000, 0, -0.5, 4162000), CRS)
"""1000 x 800 px of 0.5 m."""

NASTY = "<script>alert(1)</script>\"'><img src=http://x.invalid onerror=alert(1)></script><!--.tif"
"""What a file must not be called."""

BEFORE, AFTER = (20, 40, 200), (90, 200, 240)
"""The before image is of the one, the after image of the other colour."""


def pixels(geometry: shapely.Geometry) -> shapely.Geometry:
    """From the map to pixels, by hand: columns to the right, rows downwards."""
    return shapely.transform(
        geometry,
        lambda xy: np.column_stack(((xy[:, 0] - 316000) / 0.5, (4162000 - xy[:, 1]) / 0.5)),
    )


def places(count: int, seed: int = 0, side: float = 8.0, name: str = "building_id") -> Any:
    """`count` square buildings in a row-wise pattern, with classes and scores at random."""
    rng = np.random.default_rng(seed)
    per_row = max(1, int(np.ceil(np.sqrt(count))))
    step = min(400 / per_row, 30)
    col, row = np.arange(count) % per_row, np.arange(count) // per_row
    x, y = 316010 + col * step, 4161990 - row * step * 0.78
    size = min(side, step / 2)
    codes = rng.choice([1, 1, 1, 2, 3, 4, 255], count)
    levels = rng.dirichlet((1, 1, 1, 1), count).round(4)
    table = pd.DataFrame(index=range(count), columns=list(BUILDING_COLUMNS[:-1]))
    table["building_id"] = [f"b{k:05d}" for k in range(count)]
    table["damage_class"] = codes.astype(np.int16)
    for k, level in enumerate(("p_none", "p_minor", "p_major", "p_destroyed")):
        table[level] = np.where(codes == 255, np.nan, levels[:, k])
    table["damage_score"] = np.where(codes == 255, np.nan, rng.integers(0, 51, count) / 50)
    table["damage_frac"] = table["valid_frac"] = np.where(codes == 255, 0.2, 1.0)
    table["area_m2"] = rng.integers(15, 900, count).astype(float)
    boxes = shapely.box(x, y - size, x + size, y)
    shapes = [shapely.MultiPolygon([box]) for box in boxes]
    frame = gpd.GeoDataFrame(table, geometry=shapes, crs=CRS)
    if name == "area_id":
        frame = frame.rename(columns={"building_id": "area_id"})[list(AREA_COLUMNS)]
        frame["damage_class"] = np.int16(5)
        frame[["p_none", "p_minor", "p_major", "p_destroyed"]] = np.nan
    return frame


def write_run(folder: Path, buildings: Any = None, areas: Any = None) -> Path:
    """The files that the report reads; a corner of 100 x 80 m was not analysed."""
    folder.mkdir(parents=True, exist_ok=True)
    empty = {
        "buildings": empty_table(BUILDING_COLUMNS, CRS),
        "damage_areas": empty_table(AREA_COLUMNS, CRS),
    }
    given = {"buildings": buildings, "damage_areas": areas}
    tables = {name: empty[name] if given[name] is None else given[name] for name in empty}
    corner = shapely.multipolygons([[shapely.box(316400, 4161600, 316500, 4161680)]])
    unseen = gpd.GeoDataFrame(
        {"reason": ["no data"], "cell_px": [1], "exact": [True], "area_m2": [8000.0]},
        geometry=corner,
        crs=CRS,
    )
    outline = shapely.multipolygons([[shapely.box(316000, 4161600, 316500, 4162000)]])
    aoi = gpd.GeoDataFrame({"name": ["analysed grid"]}, geometry=outline, crs=CRS)
    write_geoparquet(folder / "buildings.parquet", tables["buildings"])
    write_geopackage(folder / "buildings.gpkg", tables | {"aoi": aoi, "not_analysed": unseen})
    return folder


def pictures(before: bool = True) -> list[Picture]:
    """One-coloured photographs and their damage map."""
    before_image, after_image = (
        np.full((800, 1000, 3), colour, np.uint8) for colour in (BEFORE, AFTER)
    )
    drawn = damage_picture(after_image, np.ones((4, 5), np.uint8))
    shots = [("after", "After", after_image), ("damage", "Damage map", drawn)]
    if before:
        shots.insert(0, ("before", "Before", before_image))
    return [photograph(name, caption, Image.fromarray(shot)) for name, caption, shot in shots]


def facts(buildings: Any = None, **more: Any) -> dict[str, Any]:
    """What a run tells its report."""
    none = {"total": 0, "area_m2": 0.0, "by_class": {}}
    counted = none
    if buildings is not None and len(buildings):
        by_class = {
            int(code): {"count": len(rows), "area_m2": float(rows["area_m2"].sum())}
            for code, rows in buildings.groupby("damage_class")
        }
        area = float(buildings["area_m2"].sum())
        counted = {"total": len(buildings), "area_m2": area, "by_class": by_class}
    return {
        "title": "Damage assessment: Antakya",
        "method": "fc-test",
        "buildings": counted,
        "damage_areas": none,
        "analysed_km2": 2.5,
        "not_analysed_km2": 0.5,
        "not_analysed": {"no data": 0.4, "OSError: tile": 0.1},
        "footprints": None,
        "provenance": [("Run", "abc"), ("Weights", None)],
        "pre_date": "2023-01-01",
        "post_date": "2023-02-08",
    } | more
