"""Chips from made tiles: two neighbours of Maxar's grid, two dates before the event and two after."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from aftermap.cluster.chips.chips import make_chips
from aftermap.cluster.chips.command import run_chips
from aftermap.cluster.chips.request import ChipsRequest, ReadAs
from aftermap.cluster.client import connected
from aftermap.models.chips.open import open_chips
from aftermap.scenes.errors import NothingToAnalyse, Refused, UsageError
from aftermap.scenes.places import read_places
from aftermap.scenes.screen import Screens
from catalogs import ard_feature, write_features
from distributed import Client
from PIL import Image
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


@pytest.fixture(scope="module")
def event(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a catalog, its local copies, and a region file."""
    folder = tmp_path_factory.mktemp("event")
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
    _labels().to_file(folder / "damage.gpkg")
    west, north = corner(WEST)
    half = shapely.box(west, north - 5312.5, west + 5000, north)
    gpd.GeoDataFrame(geometry=[half], crs="EPSG:32637").to_file(folder / "seen.gpkg")
    return folder


def _labels() -> gpd.GeoDataFrame:
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


@pytest.fixture(scope="module")
def threads() -> Iterator[Client]:
    with connected("threads", workers=2) as client:
        yield client


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
    shapes = [(shape, 5) for shape in _labels().geometry]
    codes = rasterize(shapes, (SIZE, SIZE), transform=transform, dtype="uint8")
    return np.full_like(codes, 255) if west + 1 > corner(WEST)[0] + 5000 else codes


@pytest.mark.parametrize("format", ["zarr", "png", "tif"])
def test_chips_are_what_was_painted(
    event: Path, tmp_path: Path, threads: Client, format: str
) -> None:
    out = tmp_path / "chips"
    request = ask(
        event,
        out,
        format=format,
        labels=event / "damage.gpkg",
        labelled_area=event / "seen.gpkg",
        cluster=threads,
    )
    done = make_chips(request)
    counts, paired = expected()
    assert done.exit_code == 0
    assert "give --column grade" in done.notes[-1]
    assert done.funnel["images"] == 8
    assert done.funnel["patches"] == 8 * 289
    assert done.funnel["removed: black"] == counts["b"]
    assert done.funnel["removed: snow"] == counts["s"]
    assert done.funnel["removed: variance"] == counts["v"]
    assert done.funnel["kept"] == counts["k"]
    assert done.funnel["shown twice"] == counts["twice"] > 0
    assert done.funnel["places"] == len(paired)
    check_chips(out, event)
    places = read_places(out / "places.csv").values()
    assert {place.split for place in places if place.label} >= {"train", "validation", "test"}
    assert all(place.pretrain == "" for place in places if place.split != "train")
    assert not any(place.split for place in places if not place.label)


def test_files_have_the_studys_names_and_lie_on_the_earth(
    event: Path, tmp_path: Path, threads: Client
) -> None:
    out = tmp_path / "chips"
    make_chips(ask(event, out, format="tif", cluster=threads))
    rows = list(csv.DictReader((out / "images.csv").open()))
    place = read_places(out / "places.csv")[rows[0]["place"]]
    file = out / rows[0]["when"] / rows[0]["name"]
    quadkey, _, index = rows[0]["place"].rpartition("_")
    assert file.name.startswith(f"{quadkey}_{rows[0]['date']}_")
    assert file.name.endswith(f"-visual_{index}.tif")
    with rasterio.open(file) as source:
        assert tuple(source.bounds) == place.box
        assert source.crs.to_epsg() == 32637
    assert not any(r["mask"] for r in rows)


def test_a_cluster_of_processes_writes_the_same(
    event: Path, tmp_path: Path, threads: Client
) -> None:
    labels = {"labels": event / "damage.gpkg", "labelled_area": event / "seen.gpkg"}
    make_chips(ask(event, tmp_path / "a", cluster=threads, **labels))
    with connected("local", workers=2) as client:
        make_chips(ask(event, tmp_path / "b", cluster=client, **labels))
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize("format", ["zarr", "png"])
def test_killed_and_run_again(event: Path, tmp_path: Path, threads: Client, format: str) -> None:
    labels = {"labels": event / "damage.gpkg", "labelled_area": event / "seen.gpkg"}
    make_chips(ask(event, tmp_path / "whole", format=format, cluster=threads, **labels))
    out = tmp_path / "killed"
    halves = [
        lambda: len(list((out / ".screens").glob("*.json"))) >= 3,
        lambda: (
            any((out / "chips.zarr").glob("images/c/*/*/*/*")) or any((out / "pre").glob("*.png"))
        ),
    ]
    for reached in halves:
        process = subprocess.Popen(
            [sys.executable, "-c", _SLOW, str(event), str(out), format],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 90
        while not reached() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was over before it could be killed"
        assert not (out / "images.csv").exists()
    make_chips(ask(event, out, format=format, cluster=threads, **labels))
    assert files_of(out) == files_of(tmp_path / "whole")


_SLOW = """
import sys, time
from pathlib import Path
from aftermap.cluster.chips import screening, write
from aftermap.cluster.chips.chips import make_chips
from aftermap.cluster.chips.request import ChipsRequest
from aftermap.cluster.client import connected

event, out, format = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
read = screening.read_patch
def slowly(*arguments):
    time.sleep(0.01)
    return read(*arguments)
write.read_patch = slowly
judge = screening._judge
def slow_judge(*arguments):
    time.sleep(0.02)
    return judge(*arguments)
screening._judge = slow_judge
with connected("threads", workers=2) as client:
    make_chips(ChipsRequest(
        out=out, region=event / "region.toml", size=64, format=format, cluster=client,
        labels=event / "damage.gpkg", labelled_area=event / "seen.gpkg",
    ))
"""


def test_a_dry_run_writes_no_chip_and_is_believed(
    event: Path, tmp_path: Path, threads: Client
) -> None:
    out = tmp_path / "chips"
    planned = make_chips(ask(event, out, dry_run=True, cluster=threads))
    assert not planned.written
    assert not (out / "images.csv").exists()
    assert not (out / "chips.zarr").exists()
    text = planned.text()
    assert "26,188" in text
    assert "removed: snow" in text
    done = make_chips(ask(event, out, cluster=threads))
    assert done.funnel == planned.funnel
    stored = sum(file.stat().st_size for file in (out / "chips.zarr").rglob("*") if file.is_file())
    assert stored < done.most_bytes


def test_other_options_are_refused_until_started_over(
    event: Path, tmp_path: Path, threads: Client
) -> None:
    out = tmp_path / "chips"
    make_chips(ask(event, out, cluster=threads))
    with pytest.raises(Refused, match=r"options\.seed: was 0, now 3"):
        make_chips(ask(event, out, seed=3, cluster=threads))
    before = files_of(out)
    assert make_chips(ask(event, out, cluster=threads)).written
    make_chips(ask(event, out, format="png", fresh=True, cluster=threads))
    assert not (out / "chips.zarr").exists()
    make_chips(ask(event, out, fresh=True, cluster=threads))
    assert files_of(out) == before


def test_a_folder_with_something_else_is_refused(
    event: Path, tmp_path: Path, threads: Client
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(Refused, match=r"mine\.txt"):
        make_chips(ask(event, tmp_path, cluster=threads))
    assert (tmp_path / "mine.txt").read_text() == "mine"
    (tmp_path / "chips.json").write_text("[]")
    with pytest.raises(Refused, match="does not describe a set of chips"):
        make_chips(ask(event, tmp_path, cluster=threads))


def test_a_damaged_tile_is_set_aside_and_tried_again(
    event: Path, tmp_path: Path, threads: Client
) -> None:
    folder = tmp_path / "event"
    subprocess.run(["cp", "-r", str(event), str(folder)], check=True)
    file = folder / "copies/ard/37" / WEST / SHOTS[2][0] / f"{SHOTS[2][1]}-visual.tif"
    whole = file.read_bytes()
    with rasterio.open(file) as source:
        assert source.profile["tiled"]
    # A tile of it lies past the file's end: its patches cannot be read, all others can.
    file.write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "chips"
    done = make_chips(ask(folder, out, cluster=threads))
    assert done.exit_code == 4
    assert 0 < done.funnel["cannot be read"] < 289
    assert SHOTS[2][1] in done.unreadable[0]
    assert open_chips(out, classes=1)
    table = (out / "places.csv").read_text()
    edited = table.replace(",,EPSG", ",intact,EPSG", 1)
    (out / "places.csv").write_text(edited)
    assert make_chips(ask(folder, out, cluster=threads)).funnel == done.funnel
    assert (out / "places.csv").read_text() == edited != table
    file.write_bytes(whole)
    with pytest.raises(Refused, match="sampled_sha256"):
        make_chips(ask(folder, out, cluster=threads))
    make_chips(ask(folder, out, fresh=True, cluster=threads))
    make_chips(ask(event, tmp_path / "whole", cluster=threads))
    assert files_of(out) == files_of(tmp_path / "whole")


def test_no_chip_is_left(event: Path, tmp_path: Path, threads: Client) -> None:
    request = ask(event, tmp_path / "chips", screens=Screens(variance=16_000), cluster=threads)
    with pytest.raises(NothingToAnalyse, match=r"removed: variance 1,\d{3}") as error:
        make_chips(request)
    assert error.value.exit_code == 5
    assert not (tmp_path / "chips").exists()


def test_no_chip_is_left_of_what_can_be_read(event: Path, tmp_path: Path, threads: Client) -> None:
    """What was screened is kept: the same command may find the rest readable."""
    folder = tmp_path / "event"
    subprocess.run(["cp", "-r", str(event), str(folder)], check=True)
    for file in folder.glob("copies/ard/37/*/2022-*/*.tif"):
        file.write_bytes(file.read_bytes()[:4000])
    out = tmp_path / "chips"
    for _ in range(2):
        with pytest.raises(NothingToAnalyse, match="Some images cannot be read"):
            make_chips(ask(folder, out, cluster=threads))
        assert len(list((out / ".screens").glob("*.json"))) == 4


def test_what_has_no_partner_is_not_read(event: Path, tmp_path: Path, threads: Client) -> None:
    """A tile from after the event alone, all of whose pixels are beyond reading."""
    folder, lone = tmp_path / "event", "031133012000"
    subprocess.run(["cp", "-r", str(event), str(folder)], check=True)
    file = write_tile(folder / "copies", lone, *SHOTS[2])
    file.write_bytes(file.read_bytes()[:4000])
    features = [ard_feature(quadkey, *shot) for quadkey in (WEST, EAST) for shot in SHOTS]
    write_features(folder / "event.geojson", [*features, ard_feature(lone, *SHOTS[2])])
    done = make_chips(ask(folder, tmp_path / "chips", dry_run=True, cluster=threads))
    assert done.unreadable == ()
    assert done.funnel["images"] == 9
    assert done.funnel["one side only"] == 289
    assert done.funnel["kept"] == expected()[0]["k"]


@pytest.mark.parametrize("format", ["zarr", "png"])
def test_chips_that_were_lost_are_made_again(
    event: Path, tmp_path: Path, threads: Client, format: str
) -> None:
    out = tmp_path / "chips"
    request = ask(event, out, format=format, labels=event / "damage.gpkg", cluster=threads)
    make_chips(request)
    before = files_of(out)
    for lost in ("chips.zarr/masks/c/0/0/0",) if format == "zarr" else ("mask", "post"):
        gone = out / lost
        next(gone.glob("*.png"), gone).unlink()
    assert files_of(out) != before
    make_chips(request)
    assert files_of(out) == before


def test_screens_can_be_switched_off(event: Path, tmp_path: Path, threads: Client) -> None:
    off = Screens(black=None, snow=None, variance=None)
    done = make_chips(ask(event, tmp_path / "chips", screens=off, cluster=threads))
    assert done.funnel["kept"] == done.funnel["patches"]
    assert done.funnel["shown twice"] == 4 * 17
    assert done.funnel["places"] == 2 * 289 - 17


def test_a_chip_larger_than_the_image_is_refused(event: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"1088 x 1088 px\. Give a smaller --size"):
        make_chips(replace(ask(event, tmp_path / "chips"), size=2048))
    assert not (tmp_path / "chips").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 4},
        {"format": "jpg"},
        {"seed": -1},
        {"column": "grade"},
        {"labels": Path("a"), "masks": Path("b")},
    ],
)
def test_requests_that_make_no_sense(event: Path, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"--{next(iter(wrong))}"):
        ChipsRequest(out=tmp_path, region=event / "region.toml", **wrong)


def test_levels_of_polygons(event: Path, tmp_path: Path, threads: Client) -> None:
    out = tmp_path / "chips"
    graded = ask(event, out, labels=event / "damage.gpkg", column="grade", cluster=threads)
    assert not any("--column" in note for note in make_chips(graded).notes)
    chips = open_chips(out, classes=5)
    assert chips.values == {0, 2, 3, 4}
    labels = Counter(place.label for place in chips.places)
    assert set(labels) == {"damaged", ""}
    frame = _labels()
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


def test_two_images_on_their_own_grids(tmp_path: Path, threads: Client) -> None:
    """Everything is cut on the after image's grid; the before image is brought onto it."""
    rng = np.random.default_rng(0)
    coarse = np.repeat(rng.integers(0, 2, (1, 20, 20)) * 180 + 20, 3, axis=0)
    before = np.kron(coarse, np.ones((1, 20, 20), int)).astype(np.uint8)
    after = np.kron(coarse, np.ones((1, 10, 10), int)).astype(np.uint8)
    fine, wide = rasterio.Affine(1, 0, 3e5, 0, -1, 4.1e6), rasterio.Affine(2, 0, 3e5, 0, -2, 4.1e6)
    pre = write_raster(tmp_path / "pre-20230101.tif", before, transform=fine)
    post = write_raster(tmp_path / "post-20230301.tif", after, transform=wide)
    out = tmp_path / "chips"
    request = ChipsRequest(out=out, pre=pre, post=post, size=SIZE, cluster=threads)
    done = make_chips(request)
    assert done.funnel["places"] == 9
    rows = list(csv.DictReader((out / "images.csv").open()))
    assert {row["date"] for row in rows} == {"2023-01-01", "2023-03-01"}
    record = open_chips(out, classes=1).records[4]
    inside = (slice(None), slice(64, 128), slice(64, 128))
    np.testing.assert_array_equal(record.posts[0].image.read(3), after[inside])
    pixels = record.pres[0].read(3).astype(int)
    assert np.abs(pixels - after[inside].astype(int)).mean() < 25


def test_images_of_folders_that_overlap_by_half(tmp_path: Path, threads: Client) -> None:
    """The second after image lies off the first one's grid: only its new ground makes places."""
    rng = np.random.default_rng(0)
    pixels = (rng.integers(0, 2, (3, 256, 512)) * 200 + 20).astype(np.uint8)
    for name, shift in (
        ("pre/2022-01-01_a", 0),
        ("post/2023-03-01_b", 0),
        ("post/2023-03-02_c", 32),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        moved = rasterio.Affine(1, 0, 3e5 + shift, 0, -1, 4.1e6)
        write_raster(tmp_path / f"{name}.tif", pixels, transform=moved)
    (tmp_path / "region.toml").write_text(
        '[images]\nkind = "folder"\nbefore = "pre"\nafter = "post"\n'
    )
    done = make_chips(
        ChipsRequest(
            out=tmp_path / "chips", region=tmp_path / "region.toml", size=SIZE, cluster=threads
        )
    )
    places = read_places(tmp_path / "chips" / "places.csv").values()
    boxes = shapely.box(*np.array([place.box for place in places]).T)
    assert len(places) == 4 * 8
    for one in range(len(boxes)):
        assert shapely.area(shapely.intersection(boxes[one], np.delete(boxes, one))).sum() == 0
    afters = Counter(row["when"] for row in csv.DictReader((tmp_path / "chips/images.csv").open()))
    assert afters["post"] == 4 * 8 + 4 * 7  # the second image shows half of the first column
    assert done.funnel["not cut"] > 0
    assert done.funnel["images"] == 3  # though two of them are cut on both grids


def test_the_command(event: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments: dict[str, Any] = {
        "images": [str(event / "region.toml")], "out": tmp_path / "chips", "size": SIZE,
        "format": "zarr", "labels": None, "column": None, "labelled_area": None, "masks": None,
        "black": "0.05", "snow": "off", "variance": "2601", "seed": 0, "resolution": None,
        "cluster": "threads", "workers": 2, "memory": None, "dry_run": False, "fresh": False,
        "as_json": True, **vars(ReadAs()),
    }  # fmt: skip
    assert run_chips(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["funnel"]["removed: snow"] == 0
    assert run_chips({**arguments, "as_json": False}) == 0
    text = capsys.readouterr().out
    assert "1,614" in text
    assert "no place is labelled" in text
    assert "Try: aftermap train" not in text
    labels = {"labels": event / "damage.gpkg", "fresh": True, "as_json": False}
    assert run_chips(arguments | labels) == 0
    assert "Try: aftermap train" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"'one\.tif' is neither.*BEFORE and AFTER"):
        run_chips({**arguments, "images": ["one.tif"]})
