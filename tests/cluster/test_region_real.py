"""The real catalog of an event, run over pixels that stand in for its imagery at 1/32 of its size."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from aftermap.cluster.client import connected
from aftermap.cluster.regions.file import Images
from aftermap.cluster.regions.pairs import find_pairs
from aftermap.cluster.regions.region import run_region
from aftermap.scenes.ard import ArdCell
from aftermap.scenes.catalog import CatalogImage
from pyproj import Transformer
from rasterio.features import rasterize

WHOLE = os.environ.get("AFTERMAP_EVENT") == "all"
"""Whether all of the event is run, which takes minutes, or a part of it."""

KILIS = (36.93, 36.53, 37.06, 36.68)
"""That part, EPSG:4326."""

EVENT = "Kahramanmaras-turkey-earthquake-23"
FEWER = 32
METRES = 5000 / 16_384 * FEWER
SIDE = 17_408 // FEWER
LATTICE, SQUARE = 48, 14
"""Every so many pixels one square may have changed; its side, px."""

REGION = """
[region]
name = "Kahramanmaras"
out = "out"
[images]
kind = "maxar"
path = "{catalog}"
event_date = 2023-02-06
root = "copies"
{area}
[assess]
method = "difference"
chunk = 1024
[cluster]
kind = "threads"
"""


def corner(image: CatalogImage) -> tuple[int, int]:
    """Column and row of a tile's first pixel, counted over its whole UTM zone."""
    cell = ArdCell.of(str(image.place))
    assert cell is not None
    column = sum((int(d) % 2) * 2 ** (11 - i) for i, d in enumerate(cell.quadkey))
    row = sum((int(d) // 2) * 2 ** (11 - i) for i, d in enumerate(cell.quadkey))
    return column * 512 - 16, row * 512 - 16


def place(column: int, row: int) -> Affine:
    return Affine(METRES, 0, -9_740_000 + column * METRES, 0, -METRES, 10_240_000 - row * METRES)


def ground(column: int, row: int, changed: bool) -> np.ndarray:
    """Pixels that depend on nothing but where they are: neighbours show the same in their aprons."""
    rng = np.random.default_rng(0)
    x, y = np.arange(column, column + SIDE), np.arange(row, row + SIDE)[:, None]
    waves = [
        np.sin(a * x + b * y + c)
        for a, b, c in rng.uniform((-0.9, -0.9, 0), (0.9, 0.9, 6.3), (24, 3))
    ]
    grey = np.clip(128 + 28 * np.sum(waves, axis=0) / 2, 20, 235)
    if changed:
        cell = (x // LATTICE) * 7919 + (y // LATTICE) * 104_729
        here = (cell % 5 == 0) & (x % LATTICE < SQUARE) & (y % LATTICE < SQUARE)
        grey = np.where(here, 255 - grey + 60 * np.sign(128 - grey), grey)
    return np.repeat(np.clip(grey, 1, 255).astype(np.uint8)[None], 3, axis=0)


def write_image(image: CatalogImage, root: Path, changed: bool) -> None:
    """A stand-in for one file of the catalog, where its address says, nodata outside its outline."""
    column, row = corner(image)
    affine = place(column, row)
    pixels = ground(column, row, changed)
    turn = Transformer.from_crs(4326, image.epsg, always_xy=True)
    outline = shapely.transform(image.outline, lambda xy: np.column_stack(turn.transform(*xy.T)))
    pixels *= rasterize([outline], (SIDE, SIDE), transform=affine).astype(np.uint8)
    file = root / image.href.partition(f"{EVENT}/")[2]
    file.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        file, "w", driver="GTiff", width=SIDE, height=SIDE, count=3, dtype="uint8", nodata=0,
        crs=f"EPSG:{image.epsg}", transform=affine, tiled=True, photometric="rgb",
    ) as target:  # fmt: skip
        target.write(pixels)


def squares(pairs: Any) -> gpd.GeoDataFrame:
    """Every changed square that lies whole, and not just so, in what one scene must show."""
    found = []
    for pair in pairs:
        column, row = corner(pair.post)
        turn = Transformer.from_crs(4326, pair.post.epsg, always_xy=True)
        seen = shapely.intersection_all([pair.core, pair.pre.outline, pair.post.outline])
        seen = shapely.transform(seen, lambda xy, t=turn: np.column_stack(t.transform(*xy.T)))
        inner = shapely.buffer(seen, -4 * METRES)
        for j in range(row // LATTICE, (row + SIDE) // LATTICE + 1):
            for i in range(column // LATTICE, (column + SIDE) // LATTICE + 1):
                if (i * 7919 + j * 104_729) % 5:
                    continue
                west, north = place(i * LATTICE, j * LATTICE) * (0, 0)
                box = shapely.box(west, north - SQUARE * METRES, west + SQUARE * METRES, north)
                if inner.contains(box):
                    found.append((pair.post.epsg, box.centroid))
    frames = [
        gpd.GeoDataFrame(geometry=[p for e, p in found if e == epsg], crs=epsg).to_crs(4326)
        for epsg in sorted({epsg for epsg, _ in found})
    ]
    return gpd.GeoDataFrame(
        geometry=np.concatenate([f.geometry.to_numpy() for f in frames]), crs=4326
    )


@pytest.mark.real
@pytest.mark.slow
def test_the_real_catalog_is_run_over_synthetic_pixels(real: Path, tmp_path: Path) -> None:
    catalog = real.parent / "catalog" / f"{EVENT}.geojson"
    if not catalog.is_file():
        pytest.skip(f"{catalog} is not there")
    bbox = None if WHOLE else KILIS
    images = Images(
        kind="maxar",
        path=str(catalog),
        event_date=date(2023, 2, 6),
        bbox=bbox,
        allow_remote=True,
        max_cloud=50,
    )
    pairs = find_pairs(images).pairs
    assert len(pairs) == (101 if WHOLE else 10)
    for pair in pairs:
        assert pair.pre is not None
        write_image(pair.pre, tmp_path / "copies", changed=False)
        write_image(pair.post, tmp_path / "copies", changed=True)
    file = tmp_path / "region.toml"
    area = "" if bbox is None else f"bbox = {list(bbox)}"
    file.write_text(REGION.format(catalog=catalog, area=area))
    with connected("threads", workers=2) as client:
        run = run_region(file, client=client)
    assert set(run.counts) <= {"done", "nothing"}, run.record["scenes"]
    assert run.counts["done"] > 0.9 * len(pairs)
    page = run.report.read_text()
    assert page.count('class="core found"') + page.count('class="core s0"') >= run.counts["done"]
    areas = run.damage_areas.to_crs(4326)
    assert areas["area_id"].is_unique
    known = squares([p for p in pairs if run.record["scenes"][p.scene_id]["state"] == "done"])
    assert len(known) > (500 if WHOLE else 20)
    right, left = areas.sindex.query(known.geometry, predicate="intersects")[::-1]
    hits = np.bincount(left, minlength=len(known))
    print(
        f"\n{dict(run.counts)}, {len(known)} squares, {(hits == 0).sum()} lost, "
        f"{(hits > 1).sum()} doubled, {run.record['seconds_merge']} s to merge"
    )
    assert (hits <= 1).all(), f"{(hits > 1).sum()} of {len(known)} squares are there twice"
    assert (hits == 1).mean() > 0.995, f"{(hits == 0).sum()} of {len(known)} squares are lost"
    assert np.bincount(right).max() == 1
    assert {f"damage-{pair.post.epsg}.vrt" for pair in pairs} <= set(run.record["mosaics"])
    # What the chosen pairs show of their tiles, and no more, was analysed.
    shown = gpd.GeoSeries(
        [shapely.intersection_all([p.core, p.pre.outline, p.post.outline]) for p in pairs if p.pre],
        crs=4326,
    )
    expected = shown.to_crs("EPSG:6933").area.sum() / 1e6
    assert run.record["totals"]["analysed_km2"] == pytest.approx(expected, rel=0.03)
