"""Bad inputs and faults: the exit code, what is said, and that nothing is left half done."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.warp
import safetensors.torch
import shapely
from affine import Affine
from aftermap.cluster import assess as assess_module
from aftermap.cluster import budget, job
from aftermap.cluster.client import connected
from aftermap.cluster.folder import RunFolder
from aftermap.models import build
from aftermap.models.card import Card
from aftermap.models.checkpoint import read_card, save
from aftermap.scenes import raster as raster_module
from aftermap.scenes.align import measure_shift
from aftermap.scenes.pair import make_pair
from aftermap.scenes.scene import open_tiles
from distributed import Client
from rasterio.control import GroundControlPoint
from rasters import UTM, texture, write_raster

from aftermap import cli

DONE, UNEXPECTED, USAGE, REFUSED, QUARANTINED, NOTHING, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
QUICK = ("--method", "difference", "--cluster", "threads", "--workers", "2", "--memory", "2GiB")
NO_PLACE = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


class Told(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


Command = Callable[..., Told]


@pytest.fixture(scope="module")
def threads() -> Iterator[Client]:
    with connected("threads", workers=2) as client:
        yield client


@pytest.fixture
def command(
    threads: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The command line in this process, on one cluster for all tests."""

    @contextmanager
    def shared(*_: object) -> Iterator[Client]:
        yield threads

    monkeypatch.setattr(assess_module, "connected", shared)

    def run(*words: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["aftermap", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        raster_module.close_handles()
        told = capsys.readouterr()
        assert "Traceback" not in told.err, told.err
        return Told(int(stop.value.code or 0), told.out, told.err)

    return run


@pytest.fixture
def assess(command: Command, tmp_path: Path) -> Command:
    """`aftermap assess` with the quickest method, into `tmp_path / "run"`."""

    def run(*words: object) -> Told:
        return command("assess", "-o", tmp_path / "run", *QUICK, *words)

    return run


@pytest.fixture
def refused(assess: Command, tmp_path: Path) -> Callable[..., str]:
    """A run that must be refused (or end with `code`) and leave nothing; returns what it said."""

    def run(*words: object, code: int = REFUSED) -> str:
        before = contents(tmp_path)
        told = assess(*words)
        assert told.code == code, told
        assert contents(tmp_path) == before
        assert re.search(r"aftermap: |Usage|Error", told.err)
        return re.sub(r"\s+", " ", told.err)

    return run


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder, with its size and when it changed."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def scene(folder: Path, height: int = 300, width: int = 400, **options: Any) -> tuple[Path, Path]:
    """A before and an after image with one changed block; `options` are those of the after image."""
    pre = texture(height, width)
    post = pre.copy()
    post[:, height // 3 : height // 2, width // 3 : width // 2] ^= 255
    place = {k: v for k, v in options.items() if k in ("crs", "transform")}
    return (
        write_raster(folder / "pre.tif", pre, **place),
        write_raster(folder / "post.tif", post, **options),
    )


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def damage(folder: Path) -> np.ndarray:
    with rasterio.open(folder / "damage.tif") as source:
        return source.read(1)


# Files that are no image, or not a whole one (rows 1-4, A1, A2)


def test_paths_that_are_no_local_file_are_refused(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    pre, _ = scene(tmp_path)
    vrt = f'<VRTDataset rasterXSize="9" rasterYSize="9"><!-- {pre} --></VRTDataset>'
    for given, said in (
        (tmp_path / "missing.tif", "missing.tif does not exist"),
        (f"/vsicurl/http://127.0.0.1:9/{'x' * 300}.tif", "not a local file"),
        ("http://127.0.0.1:9/a.tif", "not a local file"),
        (f"/vsizip/{tmp_path}/a.zip/a.tif", "not a local file"),
        (vrt, "not a local file"),
        ("WMS:http://127.0.0.1:9/", "not a local file"),
        (f"GTIFF_DIR:1:{pre}", "does not exist"),
        ("x" * 300 + ".tif", "too long"),
        ("~nobody-here/a.tif", "home"),
    ):
        assert said in refused(pre, given)
        assert said in refused(given, pre)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty (0 bytes)"),
        (b"just some text, named .tif", "not an image that aftermap reads: it starts with b'just"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "not an image that aftermap reads"),
        (b"CDF\x01" + bytes(600), "not an image that aftermap reads"),
        (b"II*\0" + bytes(60), "cannot be opened"),
        (b'<VRTDataset rasterXSize="9" rasterYSize="9"/>', "A VRT can point at any file"),
        (b"\xff\xd8\xff\xe0" + bytes(40), "cannot be opened"),
    ],
    ids=["empty", "text", "hdf5", "netcdf", "bare-tiff-magic", "vrt", "bare-jpeg-magic"],
)
def test_files_that_are_no_image_are_refused_by_name(
    tmp_path: Path, refused: Callable[..., str], content: bytes, said: str
) -> None:
    pre, post = scene(tmp_path)
    post.write_bytes(content)
    told = refused(pre, post)
    assert said in told
    assert str(post) in told


def test_a_tiff_without_bands_is_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    pre, post = scene(tmp_path)
    tags = [
        (256, 9),
        (257, 9),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 0),
        (278, 9),
        (279, 81),
    ]
    entries = b"".join(
        tag.to_bytes(2, "little") + b"\x03\0\x01\0\0\0" + value.to_bytes(4, "little")
        for tag, value in tags
    )
    post.write_bytes(b"II*\0\x08\0\0\0" + len(tags).to_bytes(2, "little") + entries + bytes(4 + 81))
    assert str(post) in refused(pre, post)


def test_a_tiff_cut_off_in_its_header_is_refused(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    pre, post = scene(tmp_path)
    post.write_bytes(post.read_bytes()[:60])
    told = refused(pre, post)
    assert str(post) in told
    assert "damaged or cut off" in told


def test_a_reference_to_files_elsewhere_is_refused(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    pre, post = scene(tmp_path)
    secret = tmp_path / "elsewhere" / "secret.tif"
    secret.parent.mkdir()
    write_raster(secret, texture(150, 200))
    with rasterio.open(secret, "r+") as target:
        target.build_overviews([2])
    pointer = post.with_name("post.tif.ovr")
    pointer.write_text(f'<VRTDataset rasterXSize="200" rasterYSize="150">{secret}</VRTDataset>')
    assert "post.tif.ovr is not an image" in refused(pre, post)
    pointer.unlink()
    post.with_name("post.tif.aux.xml").write_text(
        '<PAMDataset><Metadata domain="OVERVIEWS">'
        f'<MDI key="OVERVIEW_FILE">{secret}</MDI></Metadata></PAMDataset>'
    )
    told = refused(pre, post)
    assert str(secret) in told
    assert "post.tif.aux.xml" in told


def test_a_folder_without_images_and_lists_of_tiles(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    pre, post = scene(tmp_path)
    empty = tmp_path / "photos"
    empty.mkdir()
    (empty / "readme.txt").write_text("none here")
    assert "photos holds no image (.tif" in refused(pre, empty)
    assert "No such file" in refused(pre, f"@{tmp_path}/list.txt")
    (tmp_path / "list.txt").write_text("\n\n")
    assert "empty list of tiles" in refused(pre, f"@{tmp_path}/list.txt")
    (tmp_path / "list.txt").write_text("post.tif\ngone.tif\n")
    assert "gone.tif does not exist" in refused(pre, f"@{tmp_path}/list.txt")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\0")
    assert "list.txt cannot be read" in refused(pre, f"@{tmp_path}/list.txt")
    assert "3 images were given" in refused(pre, post, post, code=USAGE)


def test_a_list_of_tiles_is_read_from_beside_the_list(tmp_path: Path, assess: Command) -> None:
    pre, _ = scene(tmp_path)
    (tmp_path / "list.txt").write_text(f"post.tif\n{tmp_path / 'post.tif'}\n")
    assert assess(pre, f"@{tmp_path}/list.txt").code == DONE


def test_a_sparse_file_that_declares_terabytes_is_refused_before_planning(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    pre, post = scene(tmp_path)
    huge = {
        "driver": "GTiff",
        "width": 3_000_000,
        "height": 3_000_000,
        "count": 3,
        "dtype": "uint8",
    }
    blocks = {"tiled": True, "blockxsize": 8192, "blockysize": 8192}
    with rasterio.open(
        post, "w", **huge, **blocks, crs="EPSG:32637", transform=UTM, sparse_ok=True, bigtiff="yes"
    ):
        pass
    assert post.stat().st_size < 20e6
    told = refused(pre, post)
    assert "declares 3000000 x 3000000 = 9e+12 px" in told
    assert str(post) in told


def test_tiles_far_apart_and_absurd_resolutions_are_refused_before_planning(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    pre, post = scene(tmp_path)
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    shutil.copy(post, tiles / "a.tif")
    far = UTM * Affine.translation(1_000_000, 2_000_000)
    write_raster(tiles / "b.tif", texture(100, 100), transform=far)
    told = refused(pre, tiles)
    assert "1000100 x 2000300 = 2e+12 px" in told or "2e+12 px" in told
    assert "far apart" in told
    assert "--resolution 1e-06 is too fine" in refused(pre, post, "--resolution", 1e-6)


def test_a_one_pixel_image_works(tmp_path: Path, assess: Command) -> None:
    pre, post = scene(tmp_path, 3, 3)
    for path in (pre, post):
        write_raster(path, texture(3, 3)[:, :1, :1])
    told = assess(pre, post)
    assert told.code == DONE, told
    assert damage(tmp_path / "run").shape == (1, 1)


@pytest.mark.parametrize("side", [2**20, 2**30])
def test_absurd_block_sizes_are_refused(
    tmp_path: Path, refused: Callable[..., str], side: int
) -> None:
    pre, post = scene(tmp_path)
    content = bytearray(post.read_bytes())
    for tag in (322, 323):  # TileWidth, TileLength: 2-byte values become 4-byte ones
        at = content.index(tag.to_bytes(2, "little") + b"\x03\0\x01\0\0\0")
        content[at + 2 : at + 12] = b"\x04\0\x01\0\0\0" + side.to_bytes(4, "little")
    post.write_bytes(content)
    assert str(post) in refused(pre, post)


@pytest.mark.parametrize("fault", ["truncated", "corrupt"])
def test_a_damaged_part_is_set_aside_and_the_rest_is_there(
    tmp_path: Path, assess: Command, fault: str
) -> None:
    pre, post = scene(tmp_path, 700, 1300, compress="deflate")
    whole = post.read_bytes()
    if fault == "truncated":
        post.write_bytes(whole[:-3000])  # the last tile of the last chunk
    else:
        with rasterio.open(post) as source:
            at, size = (
                int(source.get_tag_item(f"BLOCK_{what}_1_1", "TIFF", bidx=1))
                for what in ("OFFSET", "SIZE")
            )
        post.write_bytes(whole[:at] + b"\xff" * size + whole[at + size :])
    told = assess(pre, post, "--chunk", 512)
    assert told.code == QUARANTINED, told
    run = tmp_path / "run"
    (entry,) = record(run)["quarantined"]
    assert entry["chunk"] == ([1, 2] if fault == "truncated" else [0, 0])
    assert entry["reason"].startswith(f"ReadError: {post}: rows ")
    assert re.search(r"rows \d+-\d+, columns \d+-\d+ of the analysis grid", entry["reason"])
    assert entry["reason"] in told.out
    set_aside = np.zeros((700, 1300), bool)
    set_aside[slice(*entry["rows"]), slice(*entry["cols"])] = True
    np.testing.assert_array_equal(damage(run) == 255, set_aside)
    assert (damage(run) == 5).any()
    # The repaired file is another input, so going on is refused and starting over works.
    post.write_bytes(whole)
    again = assess(pre, post, "--chunk", 512)
    assert again.code == REFUSED
    assert "inputs.post" in again.err
    assert "--fresh" in again.err
    assert assess(pre, post, "--chunk", 512, "--fresh").code == DONE
    assert (damage(run) != 255).all()


def test_a_scene_of_which_no_chunk_can_be_read_says_why(tmp_path: Path, assess: Command) -> None:
    pre, post = scene(tmp_path, compress="deflate")
    post.write_bytes(post.read_bytes()[:-3000])
    told = assess(pre, post)
    assert told.code == QUARANTINED, told
    (entry,) = record(tmp_path / "run")["quarantined"]
    assert str(post) in entry["reason"]
    assert entry["reason"] in told.out
    assert (damage(tmp_path / "run") == 255).all()


# Where an image lies (rows 5-9, 16)


def test_no_crs_and_no_transform_name_the_flag(
    tmp_path: Path, refused: Callable[..., str], assess: Command
) -> None:
    pre, post = scene(tmp_path, crs=None)
    assert "--crs EPSG:32637" in refused(pre, post)
    assert "--crs 'EPSG:99999' is no coordinate system" in refused(pre, post, "--crs", "EPSG:99999")
    assert "--crs 'nonsense' is no" in refused(pre, post, "--crs", "nonsense")
    assert "is no place in EPSG:4326" in refused(pre, post, "--crs", "EPSG:4326")
    assert "is no place in EPSG:4978" in refused(pre, post, "--crs", "EPSG:4978")
    assert assess(pre, post, "--crs", "EPSG:32637").code == DONE
    with rasterio.open(tmp_path / "run/damage.tif") as source:
        assert source.crs.to_epsg() == 32637
        assert source.transform == UTM


@NO_PLACE
def test_no_transform_is_refused_and_a_world_file_supplies_it(
    tmp_path: Path, refused: Callable[..., str], assess: Command
) -> None:
    pre, post = scene(tmp_path)
    with rasterio.open(post) as source:
        pixels = source.read()
    post.unlink()
    post = tmp_path / "post.png"
    with rasterio.open(
        post, "w", driver="PNG", width=400, height=300, count=3, dtype="uint8"
    ) as png:
        png.write(pixels)
    told = refused(pre, post)
    assert "no georeference" in told
    assert "world file" in told
    (tmp_path / "post.pgw").write_text("0.5\n0\n0\n-0.5\n300000.25\n4099999.75\n")
    assert "--crs" in refused(pre, post)
    assert assess(pre, post, "--crs", "EPSG:32637").code == DONE


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:4326", UTM),
        ("EPSG:32637", Affine(1e30, 0, 0, 0, -1e30, 0)),
        ('LOCAL_CS["site",UNIT["metre",1]]', UTM),
    ],
    ids=["metres-as-degrees", "off-the-earth", "local"],
)
def test_an_image_that_lies_nowhere_on_earth_is_refused(
    tmp_path: Path, refused: Callable[..., str], crs: str, transform: Affine
) -> None:
    pre, post = scene(tmp_path)
    write_raster(post, texture(300, 400), crs=crs, transform=transform)
    told = refused(pre, post)
    assert f"{post} cannot be placed on the earth" in told
    assert "--crs" in told


@NO_PLACE
def test_ground_control_points_place_an_image_when_asked(
    tmp_path: Path, refused: Callable[..., str], assess: Command
) -> None:
    pre, _ = scene(tmp_path)
    # The after image is stored turned by a right angle; only its points tell.
    turned = np.ascontiguousarray(np.rot90(texture(300, 400), axes=(1, 2)))
    points = [
        GroundControlPoint(row, col, *(UTM * (400 - row, col)))
        for row in (0, 200, 400)
        for col in (0, 150, 300)
    ]
    post = tmp_path / "gcps.tif"
    write_raster(post, turned, crs=None, transform=None)
    with rasterio.open(post, "r+") as target:
        target.gcps = points, rasterio.CRS.from_epsg(32637)
    told = refused(pre, post)
    assert "only 9 ground control points" in told
    assert "--gcps" in told
    assert assess(pre, post, "--gcps").code == DONE
    assert record(tmp_path / "run")["notes"] == [
        "pre.tif: no control points or RPCs, placed by its transform"
    ]
    assert (damage(tmp_path / "run") != 255).mean() > 0.98
    placed = open_tiles(post, gcps=True)
    values, valid = placed.read(placed.grid, 0, 0, *placed.grid.shape)
    col, row = ~placed.grid.affine * (UTM * (200.5, 150.5))
    assert values.shape[1:] == pytest.approx((300, 400), abs=2)
    shift = np.abs(values[:, int(row), int(col)].astype(int) - texture(300, 400)[:, 150, 200])
    assert shift.max() <= 12
    assert valid.mean() > 0.98
    coarse, seen = placed.overview(placed.grid)
    inner = valid & seen
    assert inner.mean() > 0.95
    assert np.corrcoef(coarse[0][inner], values[0][inner])[0, 1] > 0.95


@NO_PLACE
@pytest.mark.parametrize(
    ("points", "crs", "said"),
    [
        ([(0, 0)], "EPSG:32637", "Not enough points"),
        ([(0, 0), (9, 9), (20, 20)], "EPSG:32637", "not solvable"),
        ([(0, 0), (0, 400), (300, 0)], None, "without a coordinate system"),
        ([(0, 0), (0, 400), (300, 0)], "EPSG:4326", "no place in EPSG:4326"),
    ],
    ids=["one", "on-a-line", "no-crs", "off-the-earth"],
)
def test_control_points_that_place_nothing_are_refused(
    tmp_path: Path,
    refused: Callable[..., str],
    points: list[tuple[int, int]],
    crs: str | None,
    said: str,
) -> None:
    pre, post = scene(tmp_path)
    write_raster(post, texture(300, 400), crs=None, transform=None)
    with rasterio.open(post, "r+") as target:
        target.gcps = (
            [GroundControlPoint(row, col, *(UTM * (col, row))) for row, col in points],
            rasterio.CRS.from_user_input(crs) if crs else rasterio.CRS(),
        )
    told = refused(pre, post, "--gcps")
    assert said in told
    assert str(post) in told


@NO_PLACE
def test_rpcs_place_an_image_only_when_asked(
    tmp_path: Path, refused: Callable[..., str], assess: Command
) -> None:
    pre, _ = scene(tmp_path)
    post = write_raster(tmp_path / "rpc.tif", texture(300, 400), crs=None, transform=None)
    with rasterio.open(pre) as source:
        west, south, east, north = rasterio.warp.transform_bounds(
            source.crs, "EPSG:4326", *source.bounds
        )

    def polynomial(term: int, value: int) -> str:
        return " ".join(str(value if k == term else 0) for k in range(20))

    one, longitude, latitude = polynomial(0, 1), polynomial(1, 1), polynomial(2, -1)
    rpcs = {
        "LINE_OFF": 149.5,
        "LINE_SCALE": 150,
        "SAMP_OFF": 199.5,
        "SAMP_SCALE": 200,
        "LAT_OFF": (south + north) / 2,
        "LAT_SCALE": (north - south) / 2,
        "LONG_OFF": (west + east) / 2,
        "LONG_SCALE": (east - west) / 2,
        "HEIGHT_OFF": 0,
        "HEIGHT_SCALE": 100,
        "LINE_NUM_COEFF": latitude,
        "LINE_DEN_COEFF": one,
        "SAMP_NUM_COEFF": longitude,
        "SAMP_DEN_COEFF": one,
    }
    with rasterio.open(post, "r+") as target:
        target.update_tags(ns="RPC", **{name: str(value) for name, value in rpcs.items()})
    told = refused(pre, post)
    assert "0 ground control points and RPCs" in told
    assert "--gcps" in told
    assert assess(pre, post, "--gcps").code == DONE
    # The two images lie within the metres by which the bounds in degrees are wider.
    shift = record(tmp_path / "run")["shift"]
    assert shift["confidence"] > 0
    assert np.hypot(shift["x_m"], shift["y_m"]) < 4


@pytest.mark.parametrize("kind", ["rotated", "south-up", "degrees", "coarser", "sub-pixel"])
def test_images_on_other_grids_are_brought_together(
    tmp_path: Path, assess: Command, kind: str
) -> None:
    """The before image shows the same field through another grid: hardly anything has changed."""
    field = texture(600, 600)
    post = write_raster(
        tmp_path / "post.tif",
        field[:, 100:500, 100:500],
        transform=UTM * Affine.translation(100, 100),
    )
    crs = "EPSG:4326" if kind == "degrees" else "EPSG:32637"
    west, south, east, north = rasterio.warp.transform_bounds(
        "EPSG:32637", "EPSG:4326", 300_000, 4_099_700, 300_300, 4_100_000
    )
    grid = {
        "rotated": UTM * Affine.translation(300, -100) * Affine.rotation(30),
        "south-up": Affine(0.5, 0, 300_000, 0, 0.5, 4_099_700),
        "degrees": Affine((east - west) / 600, 0, west, 0, (south - north) / 600, north),
        "coarser": UTM * Affine.scale(1.3),
        "sub-pixel": UTM * Affine.translation(0.4, 0.3),
    }[kind]
    pixels = np.zeros((3, 700, 700), np.uint8)
    rasterio.warp.reproject(
        field,
        pixels,
        src_crs="EPSG:32637",
        src_transform=UTM,
        dst_crs=crs,
        dst_transform=grid,
        resampling=rasterio.warp.Resampling.cubic,
    )
    pre = write_raster(tmp_path / "pre.tif", pixels, crs, grid, nodata=0)
    told = assess(pre, post)
    assert told.code == DONE, told
    shift = record(tmp_path / "run")["shift"]
    assert np.hypot(shift["rows_px"], shift["cols_px"]) < 0.3
    with rasterio.open(tmp_path / "run/damage.tif") as source, rasterio.open(post) as image:
        assert (source.transform, source.shape) == (image.transform, image.shape)
    pair = make_pair(pre, post)
    seen = pair.read(0, 0, 400, 400)
    assert seen.valid.mean() > 0.9
    assert np.abs(seen.pre.astype(int) - seen.post)[:, seen.valid].mean() < 4


def test_a_misregistered_pair_is_told_of_and_corrected_when_asked(
    tmp_path: Path, assess: Command
) -> None:
    field = texture(620, 820)
    pre = write_raster(tmp_path / "pre.tif", field[:, 8:608, 6:806])
    post = write_raster(tmp_path / "post.tif", field[:, :600, :800])
    told = assess(pre, post)
    assert told.code == DONE
    found = record(tmp_path / "run")
    assert found["notes"] == ["before and after are 10.0 px apart; --coregister corrects that"]
    assert found["notes"][0] in told.out
    assert (found["shift"]["rows_px"], found["shift"]["cols_px"]) == pytest.approx((8, 6), abs=0.2)
    assert found["shift"]["y_m"] == pytest.approx(-4, abs=0.1)
    assert found["shift"]["confidence"] > 0.9
    changed = (damage(tmp_path / "run") == 5).mean()
    assert assess(pre, post, "--coregister", "--fresh").code == DONE
    found = record(tmp_path / "run")
    assert found["shift"]["corrected"] is True
    assert found["notes"] == []
    moved = dataclasses.replace(
        make_pair(pre, post), shift=(found["shift"]["rows_px"], found["shift"]["cols_px"])
    )
    assert measure_shift(moved).length_px < 1
    assert changed > 0.1


def test_no_overlap_is_refused_with_both_places(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    pre, post = scene(tmp_path)
    write_raster(pre, texture(300, 400), transform=UTM * Affine.translation(5000, 0))
    told = refused(pre, post)
    assert "do not overlap" in told
    assert told.count("37.02") >= 2


def test_an_after_image_alone_is_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    _, post = scene(tmp_path)
    told = refused(post)
    assert "only one image was given" in told
    assert "inception-window" in told


def test_degrees_are_read_as_x_then_y(tmp_path: Path, assess: Command) -> None:
    place = Affine(5e-6, 0, 36.75, 0, -4e-6, 37.02)
    pre, post = scene(tmp_path, crs="EPSG:4326", transform=place)
    box = [36.75, 37.02 - 150 * 4e-6, 36.75 + 400 * 5e-6, 37.02]  # the upper half
    assert assess(pre, post, "--bbox", *box).code == DONE
    found = gpd.read_file(tmp_path / "run/buildings.gpkg", layer="damage_areas")
    west, south, east, north = found.to_crs("EPSG:4326").total_bounds
    assert 36.75 <= west < east <= 36.752
    assert 37.0188 <= south < north <= 37.02
    written = damage(tmp_path / "run")
    assert (written[:149] != 255).all()
    assert (written[151:] == 255).all()


# What the bands and values mean, and which pixels count (rows 11-14)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_values_that_are_not_bytes_need_a_scale(
    tmp_path: Path, refused: Callable[..., str], assess: Command, dtype: str
) -> None:
    pre, post = scene(tmp_path)
    for path in (pre, post):
        with rasterio.open(path) as source:
            pixels = source.read()
        write_raster(path, pixels.astype(dtype) * 8)
    told = refused(pre, post)
    assert f"holds {dtype} values" in told
    assert "--scale LOW HIGH" in told
    assert "give LOW < HIGH" in refused(pre, post, "--scale", 9, 9)
    assert assess(pre, post, "--scale", 0, 2040).code == DONE
    assert (damage(tmp_path / "run") == 5).any()


def test_images_of_different_types_are_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    pre, post = scene(tmp_path)
    write_raster(post, texture(300, 400).astype(np.uint16))
    told = refused(pre, post)
    assert "uint8" in told
    assert "uint16" in told
    assert "--scale" in told
    write_raster(post, texture(300, 400).astype(np.complex64))
    assert "complex64" in refused(pre, post)


@pytest.mark.parametrize(
    ("count", "hint"), [(1, "--bands 1 1 1"), (2, "--bands"), (4, "--bands 1 2 3")]
)
def test_bands_that_are_not_declared_must_be_chosen(
    tmp_path: Path, refused: Callable[..., str], assess: Command, count: int, hint: str
) -> None:
    pre, post = scene(tmp_path)
    for path in (pre, post):
        with rasterio.open(path) as source:
            pixels = np.resize(source.read(), (count, 300, 400))
        write_raster(path, pixels, photometric="minisblack")
    told = refused(pre, post)
    assert f"has {count} band" in told
    assert hint in told
    assert f"has {count} band" in refused(pre, post, "--bands", 1, 2, 9)
    assert assess(pre, post, "--bands", 1, 1, 1).code == DONE


def test_an_alpha_band_says_which_pixels_count(tmp_path: Path, assess: Command) -> None:
    pre, post = scene(tmp_path)
    with rasterio.open(post) as source:
        pixels = source.read()
    alpha = np.full((1, 300, 400), 255, np.uint8)
    alpha[:, :50] = 0
    write_raster(post, np.concatenate([pixels, alpha]), photometric="rgb", alpha="yes")
    assert assess(pre, post).code == DONE
    np.testing.assert_array_equal(damage(tmp_path / "run") == 255, alpha[0] == 0)


def test_nodata_zero_inside_valid_data_masks_only_what_is_zero_in_every_band(
    tmp_path: Path, assess: Command
) -> None:
    pre, post = scene(tmp_path)
    with rasterio.open(post) as source:
        pixels = source.read()
    pixels[:, 20:30, 20:30] = 0
    pixels[0, 200:210, 200:210] = 0  # a deep blue roof, not a hole
    write_raster(post, pixels, nodata=0)
    assert assess(pre, post).code == DONE
    lost = damage(tmp_path / "run") == 255
    assert lost[20:30, 20:30].all()
    assert lost.sum() == 100
    summary = (tmp_path / "run/summary.csv").read_text()
    assert "not analysed" in summary


def test_nan_beside_a_numeric_nodata(tmp_path: Path, assess: Command) -> None:
    pre, post = scene(tmp_path)
    for path in (pre, post):
        with rasterio.open(path) as source:
            pixels = source.read().astype(np.float32)
        if path == post:
            pixels[:, 10:20, 10:20], pixels[:, 30:40, 30:40] = np.nan, -9999
        write_raster(path, pixels, nodata=-9999)
    assert assess(pre, post, "--scale", 0, 255).code == DONE
    lost = damage(tmp_path / "run") == 255
    assert lost[10:20, 10:20].all()
    assert lost[30:40, 30:40].all()
    assert lost.sum() == 200


def test_a_chunk_without_data_is_marked_and_a_scene_without_any_is_nothing(
    tmp_path: Path, assess: Command, refused: Callable[..., str]
) -> None:
    pre, post = scene(tmp_path, 520, 1100, nodata=0)
    with rasterio.open(post, "r+") as target:
        pixels = target.read()
        pixels[:, :, :512] = 0
        target.write(pixels)
    assert assess(pre, post, "--chunk", 512).code == DONE
    written = damage(tmp_path / "run")
    assert (written[:, :512] == 255).all()
    assert (written[:, 512:] != 255).all()
    assert record(tmp_path / "run")["plan"]["chunks"] == 6
    shutil.rmtree(tmp_path / "run")
    write_raster(post, np.zeros((3, 520, 1100), np.uint8), nodata=0)
    told = refused(pre, post, code=NOTHING)
    assert "No pixel can be analysed" in told
    assert "nodata" in told
    assert not (tmp_path / "run").exists()


def test_two_images_that_are_the_same_have_no_damage(tmp_path: Path, assess: Command) -> None:
    pre, _ = scene(tmp_path)
    assert assess(pre, pre).code == DONE
    assert (damage(tmp_path / "run") == 0).all()
    with rasterio.open(tmp_path / "run/damage_probability.tif") as source:
        assert (source.read(1) == 0).all()


def test_areas_that_make_no_sense_or_lie_elsewhere(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    pre, post = scene(tmp_path)
    told = refused(pre, post, "--bbox", 36.8, 37.0, 36.7, 37.1, code=USAGE)
    assert "west < east" in told
    told = refused(pre, post, "--bbox", "nan", 37.0, 36.7, 37.1, code=USAGE)
    assert "west south east north" in told
    told = refused(pre, post, "--bbox", 10, 10, 11, 11, code=NOTHING)
    assert "does not touch the image" in told
    assert "--bbox" in told
    area = tmp_path / "area.shp"
    here = shapely.box(300_050, 4_099_900, 300_100, 4_099_950)
    gpd.GeoDataFrame(geometry=[here]).to_file(area)
    area.with_suffix(".prj").unlink(missing_ok=True)
    assert "--aoi" in (told := refused(pre, post, "--aoi", area))
    assert "no coordinate system" in told
    points = tmp_path / "points.geojson"
    gpd.GeoDataFrame(geometry=[here.centroid], crs="EPSG:32637").to_file(points)
    assert "1 features, none of them a polygon" in refused(pre, post, "--aoi", points)
    assert "does not exist" in refused(pre, post, "--aoi", tmp_path / "gone.geojson")
    assert "cannot be read as vector data" in refused(pre, post, "--aoi", pre)
    pointer = tmp_path / "pointer.geojson"
    pointer.write_text(
        f'<OGRVRTDataSource><OGRVRTLayer name="area"><SrcDataSource>{area}</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>'
    )
    assert "points at other data" in refused(pre, post, "--aoi", pointer)


def test_an_area_in_another_crs_leaves_the_rest_out(tmp_path: Path, assess: Command) -> None:
    pre, post = scene(tmp_path)
    inner = shapely.box(300_050, 4_099_880, 300_150, 4_099_960)
    area = tmp_path / "area.geojson"
    gpd.GeoDataFrame(geometry=[inner], crs="EPSG:32637").to_crs("EPSG:3857").to_file(area)
    assert assess(pre, post, "--aoi", area).code == DONE
    seen = damage(tmp_path / "run") != 255
    assert seen[82:238, 102:298].all()
    assert not seen[:79].any()
    assert not seen[242:].any()
    assert not seen[:, :98].any()
    assert not seen[:, 302:].any()


# Plans (rows 17-20, resolution, memory)


@pytest.mark.parametrize(("height", "width"), [(5, 7), (300, 13), (513, 1030)])
def test_scenes_smaller_than_a_window_and_thin_remainders(
    tmp_path: Path, assess: Command, height: int, width: int
) -> None:
    """A remainder thinner than the halo (16 px) is a chunk of its own, and gives the same pixels."""
    pre, post = scene(tmp_path, height, width)
    assert assess(pre, post, "--chunk", 512).code == DONE
    small = damage(tmp_path / "run")
    assert small.shape == (height, width)
    assert (small != 255).all()
    assert assess(pre, post, "--chunk", 10**9, "--fresh").code == DONE
    assert record(tmp_path / "run")["plan"]["chunks"] == 1
    np.testing.assert_array_equal(damage(tmp_path / "run"), small)


def test_plans_that_make_no_sense_are_refused_with_figures(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    pre, post = scene(tmp_path)
    told = refused(pre, post, "--memory", "1MiB")
    assert re.search(r"would need \d\.\d\d GiB .* may use 0\.00 GiB", told)
    assert "--memory" in told
    assert "--memory 'plenty' is no amount" in refused(pre, post, "--memory", "plenty", code=USAGE)
    assert "--chunk 0 is no size" in refused(pre, post, "--chunk", 0)
    assert "--chunk -512 is no size" in refused(pre, post, "--chunk", -512)
    assert "--workers 0" in refused(pre, post, "--workers", 0, code=USAGE)
    assert "--workers -3" in refused(pre, post, "--workers", -3, code=USAGE)
    assert "--halo means nothing to difference" in refused(pre, post, "--halo", 32, code=USAGE)
    assert "Unknown cluster 'beowulf'" in refused(pre, post, "--cluster", "beowulf", code=USAGE)
    assert "gone.json" in refused(pre, post, "--cluster", "gone.json")
    assert "'best'" in (told := refused(pre, post, "--method", "best", code=USAGE))
    assert "fc-siam-diff" in told
    assert "--grid" in refused(pre, post, "--grid", "none")
    refused(pre, post, "--chunk", "many", code=USAGE)


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_refused(
    tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pre, post = scene(tmp_path)
    monkeypatch.undo()
    told = refused(pre, post, "--cluster", "tcp://127.0.0.1:9")
    assert "No Dask scheduler answers at tcp://127.0.0.1:9" in told


def test_a_resolution_out_of_range_names_the_flag(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    pre, post = scene(tmp_path, transform=UTM * Affine.scale(200))
    told = refused(pre, post)
    assert "0.01 to 30 m, and these are 100 m" in told
    assert "--resolution 30" in told
    assert "--resolution 0.0 is not a length" in refused(pre, post, "--resolution", 0)
    assert "--resolution nan is not a length" in refused(pre, post, "--resolution", "nan")


def test_a_run_that_does_not_fit_on_the_disk_is_refused(
    tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pre, post = scene(tmp_path)
    monkeypatch.setattr(budget, "_free", lambda _: 1 << 20)
    told = refused(pre, post)
    assert "needs up to 0.01 GiB" in told
    assert "has 0.00 GiB free" in told
    assert "-o" in told


# The run folder (rows 26-28)


def test_a_folder_that_cannot_be_made_or_written(
    tmp_path: Path, refused: Callable[..., str], mounted: Callable[..., Path]
) -> None:
    pre, post = scene(tmp_path)
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        assert "-o" in refused(pre, post, "-o", out)
    closed = mounted("ro,size=64m")
    told = refused(pre, post, "-o", closed / "run")
    assert "Read-only file system" in told


def test_a_folder_of_something_else_is_left_alone(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    pre, post = scene(tmp_path)
    told = refused(pre, post, "-o", tmp_path)
    assert "is not empty and holds no run" in told
    assert "-o" in told


def test_starting_over_leaves_other_peoples_files(tmp_path: Path, assess: Command) -> None:
    pre, post = scene(tmp_path)
    assert assess(pre, post).code == DONE
    mine = tmp_path / "run/mine.tif"
    shutil.copy(pre, mine)
    assert assess(pre, post, "--fresh").code == DONE
    assert mine.exists()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount a tmpfs with some options; the test is skipped where that is not permitted."""
    places: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"disk{len(places)}"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True
        )
        if done.returncode:
            pytest.skip(f"mounting a tmpfs is not permitted here: {done.stderr.decode().strip()}")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", str(place)], check=False)


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_keeps_what_is_done(
    tmp_path: Path,
    assess: Command,
    mounted: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Noise does not compress: each of the six chunks takes about 0.3 MB.
    pre, post = scene(tmp_path, 1024, 1536)
    rng = np.random.default_rng(0)
    write_raster(post, rng.integers(1, 256, (3, 1024, 1536), np.uint8))
    disk = mounted("size=1m")
    monkeypatch.setattr(budget, "_free", lambda _: 1 << 40)
    told = assess(pre, post, "-o", disk / "run", "--chunk", 512)
    assert told.code == UNEXPECTED, told
    assert "No space left on device" in told.err
    assert "run the same command again" in told.err
    shards = sorted((disk / "run/layers.zarr/damage/c").rglob("[0-9]"))
    done = [path for path in shards if path.is_file()]
    assert 0 < len(done) < 6
    stamps = {path: path.stat().st_mtime_ns for path in done}
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    told = assess(pre, post, "-o", disk / "run", "--chunk", 512)
    assert told.code == DONE, told
    assert record(disk / "run")["chunks_run"] == 6 - len(done)
    assert {path: path.stat().st_mtime_ns for path in done} == stamps
    assert assess(pre, post, "--chunk", 512).code == DONE
    np.testing.assert_array_equal(damage(disk / "run"), damage(tmp_path / "run"))


def test_a_disk_that_fills_while_results_are_written_is_told_of(
    tmp_path: Path,
    assess: Command,
    mounted: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pre, post = scene(tmp_path, 1024, 1536)
    rng = np.random.default_rng(0)
    write_raster(post, rng.integers(1, 256, (3, 1024, 1536), np.uint8))
    disk = mounted("size=3m")
    monkeypatch.setattr(budget, "_free", lambda _: 1 << 40)
    told = assess(pre, post, "-o", disk / "run", "--chunk", 512)
    assert told.code == UNEXPECTED, told
    assert "run the same command again" in told.err
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    assert assess(pre, post, "-o", disk / "run", "--chunk", 512).code == DONE
    assert record(disk / "run")["chunks_run"] == 0


def test_a_folder_removed_during_the_run_is_told_of(
    tmp_path: Path, assess: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pre, post = scene(tmp_path, 600, 1100)
    original = job.apply_chunk

    def remove(kernel: Any, pair: Any, plan: Any, chunk: Any) -> Any:
        if chunk.index == (0, 1):
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
        return original(kernel, pair, plan, chunk)

    monkeypatch.setattr(job, "apply_chunk", remove)
    told = assess(pre, post, "--chunk", 512)
    assert told.code == UNEXPECTED, told
    assert str(tmp_path / "run") in told.err
    assert "run the same command again" in told.err
    monkeypatch.undo()


def test_what_changed_is_refused_by_name(tmp_path: Path, assess: Command, command: Command) -> None:
    pre, post = scene(tmp_path)
    assert assess(pre, post).code == DONE
    run = tmp_path / "run"
    before = contents(run)
    narrower = ["--bbox", 36.7517, 37.0236, 36.7528, 37.0249]
    for words, said in (
        (["--coregister"], "options.coregister: was false, now true"),
        (["--method", "texture"], 'method.method: was "difference", now "texture"'),
        (["--resolution", 1], "grid.shape: was [300, 400], now [150, 200]"),
        (["--bands", 3, 2, 1], "placement.post 0.bands: was [1, 2, 3], now [3, 2, 1]"),
        (narrower, "area: was null"),
    ):
        told = assess(pre, post, *words)
        assert told.code == REFUSED, told
        assert said in told.err
        assert "--fresh" in told.err
        assert contents(run) == before
    with rasterio.open(post, "r+") as target:
        target.write(255 - target.read())
    told = assess(pre, post)
    assert told.code == REFUSED
    assert "inputs.post: was" in told.err
    assert contents(run) == before
    (run / "run.json").write_text('{"facts": ')
    told = assess(pre, post)
    assert told.code == REFUSED
    assert "run.json cannot be read" in told.err


def test_a_second_run_is_refused_while_the_first_lives(tmp_path: Path, assess: Command) -> None:
    pre, post = scene(tmp_path)
    with RunFolder(tmp_path / "run").locked():
        told = assess(pre, post)
        assert told.code == REFUSED
        assert f"in use by another run (process {os.getpid()}" in told.err
        assert "-o" in told.err
    assert assess(pre, post).code == DONE


# Weights (row 30, A4)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights and card of the smallest change network, untrained."""
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    card = Card(
        method="fc-ef",
        network="fc-ef",
        options={"size": "small", "classes": 1},
        classes=1,
        bands=3,
        mean=(0.4,) * 3,
        std=(0.2,) * 3,
        resolution=(0.3, 0.8),
        nominal_resolution=0.5,
        core=128,
        halo=16,
        stride=8,
    )
    save(path, build("fc-ef", size="small", classes=1), card)
    return path


@pytest.fixture
def weights(sound: Path, tmp_path: Path) -> Path:
    for path in (sound, sound.with_suffix(".json")):
        shutil.copy(path, tmp_path / path.name)
    return tmp_path / sound.name


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-100])
    return path


def altered(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return path


def not_a_number(path: Path) -> Path:
    card = read_card(path)
    tensors = safetensors.torch.load_file(path)
    next(v for v in tensors.values() if v.is_floating_point()).view(-1)[0] = float("nan")
    return reseal(path, safetensors.torch.save(tensors), card)


def reseal(path: Path, content: bytes, card: Card) -> Path:
    path.write_bytes(content)
    sealed = dataclasses.replace(card, sha256=hashlib.sha256(content).hexdigest())
    path.with_suffix(".json").write_text(sealed.to_json())
    return path


def of(network: str, **options: Any) -> Callable[[Path], Path]:
    """Weights of another network under the same card."""

    def change(path: Path) -> Path:
        state = build(network, **options).state_dict()
        return reseal(path, safetensors.torch.save(dict(state)), read_card(path))

    return change


def pickled(path: Path) -> Path:
    bad = path.with_name("net.pth")
    bad.write_bytes(pickle.dumps({"weights": [0.0] * 99}))
    return bad


def renamed_pickle(path: Path) -> Path:
    path.write_bytes(pickle.dumps({"weights": [0.0] * 99}))
    return path


def no_card(path: Path) -> Path:
    path.with_suffix(".json").unlink()
    return path


BAD_WEIGHTS: MappingProxyType[str, tuple[Callable[[Path], Path], str]] = MappingProxyType(
    {
        "missing": (lambda path: path.with_name("gone.safetensors"), "no weights file"),
        "no-card": (no_card, "has no card"),
        "truncated": (cut, "is truncated"),
        "altered": (altered, "was altered"),
        "nan": (not_a_number, "holds NaN or infinite"),
        "architecture": (of("fc-siam-conc", size="small", classes=1), "does not fit the network"),
        "size": (of("fc-ef", size="medium", classes=1), "does not fit the network"),
        "classes": (of("fc-ef", size="small", classes=5), "does not fit the network"),
        "bands": (of("fc-ef", size="small", classes=1, in_channels=4), "does not fit the network"),
        "pickle": (pickled, "is a pickle"),
        "renamed-pickle": (renamed_pickle, "is a pickle"),
    }
)


@pytest.mark.parametrize(
    "kind",
    list(BAD_WEIGHTS),
)
def test_weights_that_do_not_fit_are_refused(
    tmp_path: Path, refused: Callable[..., str], weights: Path, kind: str
) -> None:
    pre, post = scene(tmp_path)
    change, said = BAD_WEIGHTS[kind]
    told = refused(pre, post, "--method", "fc-ef", "--weights", change(weights))
    assert said in told
    assert "--weights" in told


def test_weights_of_another_method_or_for_one_that_has_none(
    tmp_path: Path, refused: Callable[..., str], weights: Path
) -> None:
    pre, post = scene(tmp_path)
    told = refused(pre, post, "--method", "fc-siam-diff", "--weights", weights)
    assert "method fc-siam-diff were asked for" in told
    assert "method fc-ef" in told
    assert "leave out --weights" in refused(pre, post, "--weights", weights, code=USAGE)


def test_weights_refuse_other_scales_and_odd_windows(
    tmp_path: Path, refused: Callable[..., str], weights: Path
) -> None:
    pre, post = scene(tmp_path, transform=UTM * Affine.scale(4))
    words = pre, post, "--method", "fc-ef", "--weights", weights
    told = refused(*words)
    assert "0.3 to 0.8 m, and these are 2 m" in told
    assert "--resolution 0.8" in told
    assert "--halo 13 is not a multiple of 8 px" in refused(*words, "--halo", 13)
    assert "--halo" in refused(*words, "--halo", 100_000, code=USAGE)
    assert "--halo" in refused(*words, "--halo", -8, code=USAGE)
    assert "--halo 1 is not a multiple of 8 px" in refused(*words, "--halo", 1)
    assert "--views 0 is none of 1, 4" in refused(*words, "--views", 0, code=USAGE)
    assert "--precision 'fp8'" in refused(*words, "--precision", "fp8")
    assert "--device" in refused(*words, "--device", "tpu", code=USAGE)


def test_a_run_goes_on_only_with_the_weights_that_it_was_begun_with(
    tmp_path: Path, assess: Command, weights: Path
) -> None:
    pre, post = scene(tmp_path, 150, 150)
    words = pre, post, "--method", "fc-ef", "--weights", weights
    assert assess(*words).code == DONE
    save(weights, build("fc-ef", size="small", classes=1), read_card(weights))
    told = assess(*words)
    assert told.code == REFUSED
    assert "method.weights_sha256: was" in told.err


# Footprints (row 31; the details are in tests/scenes/test_footprints.py)


def test_footprints_that_cannot_be_used_are_refused(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    pre, post = scene(tmp_path)
    here = shapely.box(300_050, 4_099_900, 300_060, 4_099_910)
    away = shapely.box(500_050, 4_099_900, 500_060, 4_099_910)
    path = tmp_path / "footprints.gpkg"

    def given(*shapes: Any, crs: str | None = "EPSG:32637") -> str:
        path.unlink(missing_ok=True)
        gpd.GeoDataFrame(geometry=list(shapes), crs=crs).to_file(path, layer="shapes")
        return refused(pre, post, "--footprints", path)

    assert "does not exist" in refused(pre, post, "--footprints", tmp_path / "gone.gpkg")
    assert "none is a usable polygon (1 x a Point" in given(here.centroid)
    assert "1 footprints" in (told := given(away))
    assert "overlaps the images" in told
    assert "which CRS" in given(here, crs=None)
    assert "could not be read as a vector file" in refused(pre, post, "--footprints", pre)
    assert "not a local file" in refused(pre, post, "--footprints", "/vsicurl/http://127.0.0.1:9/a")


def test_footprints_are_repaired_or_listed_and_the_rest_goes_on(
    tmp_path: Path, assess: Command
) -> None:
    pre, post = scene(tmp_path)
    x, y = 300_060, 4_099_900
    bow = shapely.Polygon([(x, y), (x + 20, y + 20), (x + 20, y), (x, y + 20)])
    solid = shapely.Polygon([(x + 40, y, 7), (x + 60, y, 7), (x + 60, y + 20, 7)])
    shapes = [bow, solid, None, shapely.Point(x, y), shapely.Polygon()]
    frame = gpd.GeoDataFrame({"id": ["a", "a", "c", "d", "e"]}, geometry=shapes, crs="EPSG:32637")
    frame.to_crs("EPSG:4326").to_file(tmp_path / "footprints.geojson")
    told = assess(pre, post, "--footprints", tmp_path / "footprints.geojson")
    assert told.code == DONE, told
    buildings = gpd.read_parquet(tmp_path / "run/buildings.parquet")
    assert list(buildings["source_id"]) == ["a", "a"]
    assert buildings["building_id"].is_unique
    counts = record(tmp_path / "run")["totals"]["footprints"]
    assert (counts["in_file"], counts["kept"], counts["left_out"]) == (5, 2, 3)
    assert (counts["repaired"], counts["duplicate_ids"]) == (1, 1)


# Real processes


COMMAND = (sys.executable, "-m", "aftermap", "assess", *QUICK)


def test_a_refusal_in_a_process_of_its_own(tmp_path: Path) -> None:
    pre, _ = scene(tmp_path)
    done = subprocess.run(
        [*COMMAND, pre, tmp_path / "gone.tif", "-o", tmp_path / "run"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == REFUSED
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("aftermap: ")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_go_on_and_does(tmp_path: Path) -> None:
    pre, post = scene(tmp_path, 2200, 2600)
    words = [*COMMAND, str(pre), str(post), "-o", str(tmp_path / "run"), "--chunk", "512"]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    shards = tmp_path / "run/layers.zarr/damage/c"
    deadline = time.monotonic() + 120
    while not any(shards.rglob("[0-9]")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == INTERRUPTED, told
    assert "Traceback" not in told
    assert "Run the same command again to go on" in told
    again = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert again.returncode == DONE, again.stderr
    found = record(tmp_path / "run")
    assert found["attempts"] == 2
    assert found["chunks_run"] < found["plan"]["chunks"]
