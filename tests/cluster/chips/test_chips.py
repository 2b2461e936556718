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
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from event_made import (
    EAST,
    SHOTS,
    SIZE,
    WEST,
    ask,
    check_chips,
    expected,
    files_of,
    write_tile,
)
from rasters import write_raster


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
