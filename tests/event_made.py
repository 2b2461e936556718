"""An event as Maxar shows it: two neighbouring tiles, two dates before it and two after, made here."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from aftermap.cluster.chips.request import ChipsRequest
from aftermap.models.chips.open import open_chips
from catalogs import ard_feature, write_features
from rasterio.features import rasterize
from rasters import write_raster

SIZE = 64
SIDE = 17 * SIZE
METRES = 312.5 / SIZE
"""Pixels of the made tiles: a chip is the same ground as one of 1,024 px of a real tile."""

WEST, EAST = "031133012312", "031133012313"
SHOTS = (
    ("2022-07-26", "1030A"),
    ("2022-12-30", "1030B"),
    ("2023-02-07", "1040A"),
    ("2023-02-12", "1040B"),
)
BEFORE = ("1030A", "1030B")


def corner(quadkey: str) -> tuple[float, float]:
    """West and north of a tile's file, by plain digits."""
    column = sum((int(d) % 2) * 2 ** (11 - i) for i, d in enumerate(quadkey))
    row = sum((int(d) // 2) * 2 ** (11 - i) for i, d in enumerate(quadkey))
    return -9_740_000 + 5000 * column - 156.25, 10_240_000 - 5000 * row + 156.25


def place(quadkey: str) -> rasterio.Affine:
    west, north = corner(quadkey)
    return rasterio.Affine(METRES, 0, west, 0, -METRES, north)


def kind(column: int, row: int, image: str) -> str:
    """What a patch of the ground shows in an image: by its place in the zone, whatever the tile."""
    roll = np.random.default_rng([column, row, *image.encode()]).random()
    return next(k for k, most in zip("bsvk", (0.08, 0.16, 0.3, 1.0), strict=True) if roll < most)


def paint(column: int, row: int, image: str) -> np.ndarray:
    """A patch, uint8 (3, 64, 64): black, bright, flat, or dark and light with noise."""
    what = kind(column, row, image)
    rng = np.random.default_rng([1, column, row, *image.encode()])
    pixels = np.full((3, SIZE, SIZE), {"b": 0, "s": 200, "v": 90, "k": 180}[what], np.int16)
    if what == "k":
        pixels[:, :, : SIZE // 2] = 50
    noise = rng.integers(0, 5, pixels.shape)
    return (pixels + (noise if what != "b" else 0)).astype(np.uint8)


def lattice(quadkey: str) -> tuple[int, int]:
    """Column and row of a tile's first patch, counted over its zone."""
    west, north = corner(quadkey)
    return round((west + 10_000_000) / 312.5 + 0.5), round((20_000_000 - north) / 312.5 + 0.5)


def write_tile(folder: Path, quadkey: str, day: str, image: str) -> Path:
    left, top = lattice(quadkey)
    rows = [
        np.concatenate([paint(left + c, top + r, image) for c in range(17)], axis=2)
        for r in range(17)
    ]
    file = folder / "ard/37" / quadkey / day / f"{image}-visual.tif"
    file.parent.mkdir(parents=True, exist_ok=True)
    return write_raster(
        file, np.concatenate(rows, axis=1), transform=place(quadkey), photometric="rgb"
    )


def write_event(folder: Path) -> Path:
    """Fill a folder with a catalog, its local copies, and a region file; returns it."""
    features = []
    for quadkey in (WEST, EAST):
        for day, image in SHOTS:
            write_tile(folder / "copies", quadkey, day, image)
            features.append(ard_feature(quadkey, day, image))
    write_features(folder / "event.geojson", features)
    (folder / "region.toml").write_text(
        '[images]\nkind = "maxar"\npath = "event.geojson"\nevent_date = 2023-02-06\n'
        'root = "copies"\n'
    )
    damage_labels().to_file(folder / "damage.gpkg")
    west, north = corner(WEST)
    half = shapely.box(west, north - 5312.5, west + 5000, north)
    gpd.GeoDataFrame(geometry=[half], crs="EPSG:32637").to_file(folder / "seen.gpkg")
    return folder


def damage_labels() -> gpd.GeoDataFrame:
    """A damaged square in every fifth patch of the western tile."""
    west, north = corner(WEST)
    squares = [
        shapely.box(*(x := west + c * 312.5 + 30, y := north - r * 312.5 - 90), x + 40, y + 50)
        for r in range(17)
        for c in range(16)
        if (r * 17 + c) % 5 == 0
    ]
    grades = [str(1 + i % 4) for i in range(len(squares))]
    return gpd.GeoDataFrame({"grade": grades}, geometry=squares, crs="EPSG:32637")


def ask(event: Path, out: Path, **options: Any) -> ChipsRequest:
    return ChipsRequest(out=out, region=event / "region.toml", size=SIZE, **options)


def expected() -> tuple[Counter[str], dict[tuple[int, int], list[str]]]:
    """What should become of the patches, from the painting alone: counts, and images by place."""
    counts: Counter[str] = Counter()
    shown: dict[tuple[int, int], list[str]] = {}
    for quadkey in (WEST, EAST):
        left, top = lattice(quadkey)
        for _, image in SHOTS:
            for r in range(17):
                for c in range(17):
                    what = kind(left + c, top + r, image)
                    counts[what] += 1
                    images = shown.setdefault((left + c, top + r), [])
                    if what == "k" and image in images:
                        counts["twice"] += 1
                    elif what == "k":
                        images.append(image)
    paired = {
        at: images
        for at, images in shown.items()
        if {image in BEFORE for image in images} == {True, False}
    }
    return counts, paired


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything in a folder of chips but its record and its memory of the screens."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
        and file.name not in ("chips.json", ".lock")
        and ".screens" not in file.parts
    }


def check_chips(folder: Path, event: Path) -> None:
    """Every chip that a network is given is what was painted at its place, and nothing is missing."""
    _, paired = expected()
    chips = open_chips(folder, classes=1)
    assert len(chips) == len(paired)
    rows = list(csv.DictReader((folder / "images.csv").open()))
    assert len(rows) == sum(map(len, paired.values()))
    for number, record in enumerate(chips.records):
        west, _, _, north = record.place.box
        at = round((west + 10_000_000) / 312.5 + 0.5), round((20_000_000 - north) / 312.5 + 0.5)
        befores = [image for image in paired[at] if image in BEFORE]
        afters = [image for image in paired[at] if image not in BEFORE]
        np.testing.assert_array_equal(record.pres[0].read(3), paint(*at, max(befores)))
        np.testing.assert_array_equal(record.posts[0].image.read(3), paint(*at, min(afters)))
        assert (len(record.pres), len(record.posts)) == (len(befores), len(afters))
        if record.posts[0].mask is not None:
            mask = record.posts[0].mask.read(1)[0]
            np.testing.assert_array_equal(mask, truth(record.place.box))
        assert bool(chips.damaged(number)) == (truth(record.place.box) == 5).any()


def truth(box: tuple[float, float, float, float]) -> np.ndarray:
    """Damage codes at a place, burned here from the labels; 255 in the strip that nobody looked at."""
    west, _, _, north = box
    transform = rasterio.Affine(METRES, 0, west, 0, -METRES, north)
    shapes = [(shape, 5) for shape in damage_labels().geometry]
    codes = rasterize(shapes, (SIZE, SIZE), transform=transform, dtype="uint8")
    return np.full_like(codes, 255) if west + 1 > corner(WEST)[0] + 5000 else codes
