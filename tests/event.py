"""Stand-ins for a real event's imagery: painted ground at 1/32 of the resolution, where the real files lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
from affine import Affine
from aftermap.scenes.catalog import CatalogImage, Pairing
from rasterio.features import geometry_mask

GSD = 5000 / 16384 * 32
"""Pixel size of the stand-ins, m; the tiles' pixels are a 32nd of it."""

BLOCK = 400.0
"""Every square of so many metres has one building."""

HOUSE = (120.0, 140.0, 280.0, 260.0)
"""The building in its square: left, bottom, right, top, m."""

CHANGED = 3
"""Every so many-th square's building is destroyed."""


def write_event(pairing: Pairing, root: Path, footprints: Path) -> gpd.GeoDataFrame:
    """Write the images of all pairs under `root` and every building of their ground as footprints.

    Returns the buildings with what is true of them: `destroyed`, and the middle in EPSG:4326.
    """
    zones: dict[int, list[shapely.Geometry]] = {}
    for pair in pairing.pairs:
        for image, after in ((pair.pre, False), (pair.post, True)):
            assert image is not None
            _write(image, after, root)
        zones.setdefault(int(pair.post.epsg or 0), []).append(pair.core)
    tables = [_buildings(epsg, cores) for epsg, cores in sorted(zones.items())]
    buildings = gpd.GeoDataFrame(pd.concat(tables, ignore_index=True), crs="EPSG:4326")
    buildings["id"] = [f"b{k}" for k in range(len(buildings))]
    buildings[["id", "geometry"]].to_file(footprints, engine="pyogrio")
    return buildings


def local_copy(image: CatalogImage, root: Path) -> Path:
    """Where a file of the catalog is looked for under `root`."""
    return root / image.href.split("/events/", 1)[1].split("/", 1)[1]


def _write(image: CatalogImage, after: bool, root: Path) -> None:
    """One image: its real outline on the grid of its tile, painted; nodata outside."""
    path = local_copy(image, root)
    outline = gpd.GeoSeries([image.outline], crs="EPSG:4326").to_crs(image.epsg).iloc[0]
    left, bottom, right, top = outline.bounds
    col0, col1 = int(np.floor(left / GSD)), int(np.ceil(right / GSD))
    row0, row1 = int(np.floor(-top / GSD)), int(np.ceil(-bottom / GSD))
    place = Affine(GSD, 0, col0 * GSD, 0, -GSD, -row0 * GSD)
    rows, cols = np.mgrid[row0:row1, col0:col1]
    grey = _painted(rows, cols, after)
    outside = geometry_mask([outline], grey.shape, place)
    pixels = np.where(outside, 0, np.stack([grey, grey + 5, grey - 5])).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff",
        "height": grey.shape[0],
        "width": grey.shape[1],
        "count": 3,
        "dtype": "uint8",
        "crs": f"EPSG:{image.epsg}",
        "transform": place,
        "nodata": 0,
        "photometric": "rgb",
        "compress": "deflate",
    }
    with rasterio.open(path, "w", **profile) as target:
        target.write(pixels)


def _painted(rows: np.ndarray, cols: np.ndarray, after: bool) -> np.ndarray:
    """Grey values of pixels of the zone: the same wherever a tile shows them."""
    x, y = (cols + 0.5) * GSD, -(rows + 0.5) * GSD
    i, j = np.floor(x / BLOCK).astype(int), np.floor(y / BLOCK).astype(int)
    inside = (x - i * BLOCK > HOUSE[0]) & (x - i * BLOCK < HOUSE[2])
    inside &= (y - j * BLOCK > HOUSE[1]) & (y - j * BLOCK < HOUSE[3])
    ground = 90 + (cols * 7919 + rows * 104729 + (cols * rows) % 31) % 23
    house = 200 - np.where(after & destroyed(i, j), 120, 0)
    return np.where(inside, house, ground)


def destroyed(i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Whether the building of a square is destroyed."""
    return (i * 31 + j * 17) % CHANGED == 0


def _buildings(epsg: int, cores: Sequence[shapely.Geometry]) -> gpd.GeoDataFrame:
    """Every building on and around the cores."""
    ground = gpd.GeoSeries(list(cores), crs="EPSG:4326").to_crs(epsg)
    squares = set()
    for left, bottom, right, top in ground.bounds.to_numpy():
        i, j = np.meshgrid(
            np.arange(left // BLOCK - 1, right // BLOCK + 2),
            np.arange(bottom // BLOCK - 1, top // BLOCK + 2),
        )
        squares |= set(zip(i.ravel().astype(int), j.ravel().astype(int), strict=True))
    i, j = np.array(sorted(squares)).T
    x, y = i * BLOCK, j * BLOCK
    boxes = shapely.box(x + HOUSE[0], y + HOUSE[1], x + HOUSE[2], y + HOUSE[3])
    table = gpd.GeoDataFrame({"destroyed": destroyed(i, j)}, geometry=boxes, crs=epsg)
    return table.to_crs("EPSG:4326")
