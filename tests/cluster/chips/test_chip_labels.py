"""Labels of chips: polygons with levels, rasters of codes, published masks by name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from aftermap.cluster.chips.chips import make_chips
from aftermap.models.chips.open import open_chips
from aftermap.scenes.errors import Refused
from distributed import Client
from event_made import (
    EAST,
    METRES,
    SIDE,
    SIZE,
    WEST,
    ask,
    corner,
    damage_labels,
    expected,
    lattice,
    place,
)
from PIL import Image
from rasters import write_raster


def test_levels_of_polygons(event: Path, tmp_path: Path, threads: Client) -> None:
    out = tmp_path / "chips"
    graded = ask(event, out, labels=event / "damage.gpkg", column="grade", cluster=threads)
    assert not any("--column" in note for note in make_chips(graded).notes)
    chips = open_chips(out, classes=5)
    assert chips.values == {0, 2, 3, 4}
    assert {place.label for place in chips.places} == {"damaged", ""}
    frame = damage_labels()
    for record in chips.records:
        touched = frame[frame.intersects(shapely.box(*record.place.box))].grade.tolist()
        assert (record.place.label == "damaged") == any(grade != "1" for grade in touched)


def test_a_raster_of_codes(event: Path, tmp_path: Path, threads: Client) -> None:
    """Coarser than the chips, and in degrees: the nearest code counts."""
    codes = np.zeros((1, 40, 40), np.uint8)
    codes[0, 10:20, 10:20], codes[0, :, 30:] = 4, 255
    west, _, east, north = (
        gpd.GeoSeries([shapely.box(*_box(WEST))], crs=32637).to_crs(4326).total_bounds
    )
    step = (east - west) / 40
    file = write_raster(
        tmp_path / "truth.tif", codes, "EPSG:4326", rasterio.Affine(step, 0, west, 0, -step, north)
    )
    make_chips(ask(event, tmp_path / "chips", labels=file, cluster=threads))
    chips = open_chips(tmp_path / "chips", classes=5)
    labels = Counter(place.label for place in chips.places)
    assert min(labels["damaged"], labels["intact"], labels[""]) > 5
    damaged = [r for r in chips.records if r.place.label == "damaged"]
    with rasterio.open(file) as source:
        for record in damaged[:5]:
            west, _, _, north = record.place.box
            xs = west + METRES * (np.arange(SIZE) + 0.5)
            ys = north - METRES * (np.arange(SIZE) + 0.5)
            points = gpd.GeoSeries.from_xy(*(a.ravel() for a in np.meshgrid(xs, ys)), crs=32637)
            points = points.to_crs(4326)
            rows, cols = rasterio.transform.rowcol(source.transform, points.x, points.y)
            inside = (np.array(rows) >= 0) & (np.array(rows) < 40) & (np.array(cols) >= 0)
            found = np.full(len(points), 255)
            found[inside] = codes[0][np.array(rows)[inside], np.array(cols)[inside]]
            mask = record.posts[0].mask.read(1)[0]
            # Pixels whose centre lies on an edge of the coarse cells may fall to either side.
            assert (mask.ravel() == found).mean() > 0.99


def _box(quadkey: str) -> tuple[float, float, float, float]:
    west, north = corner(quadkey)
    return west, north - 5312.5, west + 5312.5, north


def test_other_values_of_a_raster_are_refused(event: Path, tmp_path: Path, threads: Client) -> None:
    file = write_raster(
        tmp_path / "truth.tif", np.full((1, SIDE, SIDE), 7, np.uint8), transform=place(WEST)
    )
    with pytest.raises(Refused, match=r"values \[7\]"):
        make_chips(ask(event, tmp_path / "chips", labels=file, cluster=threads))


def save_mask(folder: Path, name: str, pixels: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(folder / f"{name}.png")


def test_published_masks_by_name(event: Path, tmp_path: Path, threads: Client) -> None:
    """Also one that names column 0 of the eastern tile, whose ground is the western tile's column 16."""
    _, paired = expected()
    left, top = lattice(WEST)
    own = next(
        (at[1] - top) * 17 + at[0] - left
        for at, images in sorted(paired.items())
        if at[0] - left < 16 and {"1040A", "1040B"} <= set(images)
    )
    seam = next(
        at[1] - top
        for at, images in sorted(paired.items())
        if at[0] - left == 16 and "1040B" in images
    )
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[10:20, 5:9] = 255
    masks = tmp_path / "masks"
    save_mask(masks, f"{WEST}_2023-02-07_1040A-visual_{own}", mask)
    save_mask(masks, f"{EAST}_2023-02-12_1040B-visual_{seam * 17}", mask // 255)
    save_mask(masks, f"{WEST}_2023-02-09_1040C-visual_3", mask)
    done = make_chips(ask(event, tmp_path / "chips", masks=masks, cluster=threads))
    (note,) = [n for n in done.notes if n.startswith("mask without a chip")]
    assert "1040C-visual_3.png: no such acquisition" in note
    chips = open_chips(tmp_path / "chips", classes=1)
    damaged = {r.place.name: r for r in chips.records if r.place.label == "damaged"}
    assert set(damaged) == {f"{WEST}_{own}", f"{WEST}_{seam * 17 + 16}"}
    for record in damaged.values():
        (after,) = record.posts
        np.testing.assert_array_equal(after.mask.read(1)[0], np.where(mask > 0, 5, 0))


@pytest.mark.parametrize(
    ("pixels", "match"),
    [
        (np.zeros((32, 64), np.uint8), "64 x 32 px"),
        (np.full((SIZE, SIZE), 7, np.uint8), r"values \[7\]"),
    ],
)
def test_masks_that_cannot_be_used(
    event: Path, tmp_path: Path, pixels: np.ndarray, match: str
) -> None:
    save_mask(tmp_path / "masks", f"{WEST}_2023-02-07_1040A-visual_3", pixels)
    with pytest.raises(Refused, match=match):
        make_chips(ask(event, tmp_path / "chips", masks=tmp_path / "masks"))
