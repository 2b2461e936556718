"""Mosaics: the pixels of the scenes, each where its core is, and a reduced picture of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from aftermap.cluster.client import connected
from aftermap.cluster.regions.mosaic import SIDE
from aftermap.cluster.regions.region import RegionRun, run_region
from aftermap.scenes.legend import colour_table
from rasterio.enums import Resampling
from regions import STEP, write_pair, write_region


@pytest.fixture(scope="module")
def threads() -> Any:
    with connected("threads", workers=2) as client:
        yield client


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory, threads: Any) -> RegionRun:
    """Three overlapping scenes in one zone, one in another."""
    folder = tmp_path_factory.mktemp("mosaic")
    places = (("a", 36, 0), ("b", 36, 1), ("c", 36, 2), ("d", 37, 0))
    pairs = [(name, *write_pair(folder, name, zone, col)) for name, zone, col in places]
    return run_region(write_region(folder, pairs), client=threads)


def codes(region: RegionRun, scene: str) -> np.ndarray:
    with rasterio.open(region.path / "scenes" / scene / "damage.tif") as source:
        return source.read(1)


def test_a_mosaic_shows_every_scene_over_its_core(region: RegionRun) -> None:
    assert region.record["mosaics"] == [
        "damage-32636.vrt",
        "damage-32636-overview.tif",
        "damage-32637.vrt",
        "damage-32637-overview.tif",
    ]
    with rasterio.open(region.path / "damage-32636.vrt") as mosaic:
        assert mosaic.crs.to_epsg() == 32636
        assert mosaic.nodata == 255
        assert mosaic.shape == (640, 2 * STEP + 640)
        assert mosaic.colormap(1)[5] == colour_table()[5]
        shown = mosaic.read(1)
        corner = mosaic.transform * (0, 0)
    with rasterio.open(region.path / "scenes/a/damage.tif") as first:
        assert corner == pytest.approx(first.transform * (0, 0))
    # Earlier scenes have the first right to ground that two of them show.
    expected = np.hstack(
        [codes(region, "a"), codes(region, "b")[:, 128:], codes(region, "c")[:, 128:]]
    )
    np.testing.assert_array_equal(shown, expected)


def test_the_mosaic_moves_with_its_folder(region: RegionRun, tmp_path: Path) -> None:
    shutil.copytree(region.path, tmp_path / "moved")
    with rasterio.open(tmp_path / "moved" / "damage-32637.vrt") as mosaic:
        np.testing.assert_array_equal(mosaic.read(1), codes(region, "d"))
        assert all(Path(name).is_relative_to(tmp_path) for name in mosaic.files)


def test_the_overview_is_the_commonest_code(region: RegionRun) -> None:
    with (
        rasterio.open(region.path / "damage-32636-overview.tif") as overview,
        rasterio.open(region.path / "damage-32636.vrt") as mosaic,
    ):
        assert overview.nodata == 255
        assert overview.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert max(overview.shape) <= SIDE
        assert overview.colormap(1)[5] == colour_table()[5]
        np.testing.assert_array_equal(overview.read(1), mosaic.read(1))


def test_a_large_mosaic_is_reduced(
    region: RegionRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, threads: Any
) -> None:
    from aftermap.cluster.regions import mosaic

    monkeypatch.setattr(mosaic, "SIDE", 300)
    file = next(region.path.parent.glob("*.toml"))
    copied = tmp_path / "out"
    shutil.copytree(region.path, copied)
    text = file.read_text().replace('out = "out"', f'out = "{copied}"')
    again = file.with_name("again.toml")
    again.write_text(text)
    run = run_region(again, client=threads)
    with (
        rasterio.open(run.path / "damage-32636-overview.tif") as overview,
        rasterio.open(run.path / "damage-32636.vrt") as mosaic,
    ):
        factor = 6
        assert overview.tags()["pixels_per_cell"] == str(factor)
        assert overview.shape == (107, 278)
        expected = mosaic.read(1, out_shape=overview.shape, resampling=Resampling.mode)
        # The same but where cells lie across two scenes, or across the edge of an overview's cell.
        assert (overview.read(1) == expected).mean() > 0.97


def test_a_hostile_name_stays_text(region: RegionRun) -> None:
    root = ElementTree.parse(region.path / "damage-32636.vrt").getroot()
    files = [element.text for element in root.iter("SourceFilename")]
    assert files == [f"scenes/{name}/damage.tif" for name in "abc"]
    assert {element.get("relativeToVRT") for element in root.iter("SourceFilename")} == {"1"}


def test_cores_that_are_no_boxes_hide_nothing(tmp_path: Path, threads: Any) -> None:
    pairs = [(name, *write_pair(tmp_path, name, 36, col)) for name, col in (("a", 0), ("b", 1))]
    from affine import Affine
    from rasters import texture, write_raster
    from regions import GSD, ZONES

    # A third image lies across both, half a scene lower, so that its core is what they leave.
    x, y = ZONES[36]
    place = Affine(GSD, 0, x + 100, 0, -GSD, y - 160)
    ground = texture(640, 640, 9)
    after = ground.copy()
    after[:, 400:440, 300:340] = 255 - ground[:, 400:440, 300:340]
    files = [
        write_raster(tmp_path / f"c-{when}.tif", pixels, "EPSG:32636", place)
        for when, pixels in (("pre", ground), ("post", after))
    ]
    run = run_region(write_region(tmp_path, [*pairs, ("c", *files)]), client=threads)
    with rasterio.open(run.path / "damage-32636.vrt") as mosaic:
        shown = mosaic.read(1)
    own = codes(run, "c")
    np.testing.assert_array_equal(shown[640:960, 200:840], own[320:])
    assert (shown[640:960, :200] == 255).all()
