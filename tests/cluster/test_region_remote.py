"""A region from a catalog whose images lie on a server: read by range, and gone on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from aftermap.cluster.client import connected
from aftermap.cluster.regions.looks import AT_ONCE, Looks
from aftermap.cluster.regions.region import RegionRun, run_region
from aftermap.scenes.errors import Refused
from catalogs import stac_item, write_features
from loopback import FAULTS, Asked, served
from rasterio.shutil import copy
from rasterio.warp import transform_bounds
from regions import write_pair

pytestmark = pytest.mark.slow

NAMES = {"west": 0, "east": 2}
"""Scene to its column in the row of images; they do not overlap."""


@pytest.fixture(scope="module")
def threads() -> Any:
    with connected("threads", workers=2) as client:
        yield client


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A before and an after image of each scene as cloud-optimised GeoTIFFs."""
    folder = tmp_path_factory.mktemp("images")
    plain = tmp_path_factory.mktemp("plain")
    for name, column in NAMES.items():
        for file in write_pair(plain, name, 36, column):
            copy(file, folder / file.name, driver="COG", blocksize=128, compress="deflate")
    return folder


def region(folder: Path, images: Path, host: str, remote: bool) -> Path:
    """A region file over a STAC catalog; the images are on the host or in their folder."""
    folder.mkdir()
    items = []
    for file in sorted(images.iterdir()):
        with rasterio.open(file) as source:
            box = transform_bounds(source.crs, "EPSG:4326", *source.bounds)
        day = "2023-02-08" if file.stem.endswith("post") else "2022-07-01"
        asset = {"href": f"{host}/{file.name}?sig=topsecret", "type": "image/tiff"}
        items.append(stac_item(file.stem, day, box, assets={"visual": asset}))
    write_features(folder / "items.json", items)
    where = "allow_remote = true" if remote else f'root = "{images}"'
    text = f"""
[region]
name = "town"
out = "out"
[images]
kind = "stac"
path = "items.json"
event_date = 2023-02-06
{where}
[assess]
method = "difference"
chunk = 256
[cluster]
kind = "threads"
"""
    path = folder / "region.toml"
    path.write_text(text)
    return path


def damage(out: Path) -> dict[str, np.ndarray]:
    """The damage raster of each scene."""
    found = {}
    for file in sorted(out.glob("scenes/*/damage.tif")):
        with rasterio.open(file) as source:
            found[file.parent.name] = source.read(1)
    return found


def test_catalog_images_are_read_from_their_server_and_a_dead_one_is_survived(
    images: Path, threads: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("TIMEOUT", "1"), ("MAX_RETRY", "1"), ("RETRY_DELAY", "0.05")):
        monkeypatch.setenv(f"GDAL_HTTP_{name}", value)
    with served(images) as server:
        host = server.url("").rstrip("/")
        local = run_region(region(tmp_path / "local", images, host, False), client=threads)
        assert server.log == []
        wanted = damage(local.path)
        assert len(wanted) == 2
        file = region(tmp_path / "far", images, host, True)

        def east_is_down(asked: Asked) -> bool:
            return "/east" in asked.handler.path and FAULTS["unavailable"](asked)

        server.fault = east_is_down
        run = run_region(file, client=threads)
        assert run.exit_code == 4
        states = {name: scene["state"] for name, scene in run.record["scenes"].items()}
        assert sorted(states.values()) == ["done", "failed"]
        (reason,) = (s["reason"] for s in run.record["scenes"].values() if s["reason"])
        assert "east-p" in reason
        assert "503" in reason
        server.fault = lambda _: False
        server.log.clear()
        run = run_region(file, client=threads)
        assert run.exit_code == 0
    found = damage(run.path)
    assert set(found) == set(wanted)
    for name, codes in wanted.items():
        np.testing.assert_array_equal(found[name], codes)
        assert (codes == 5).any()
    facts = json.loads((run.path / "scenes" / sorted(found)[0] / "run.json").read_text())["facts"]
    assert facts["inputs"]["post"][0]["path"].startswith(host)
    assert len(run.damage_areas) == len(local.damage_areas) > 0


def attempts(run: RegionRun) -> dict[str, int]:
    """How often each scene was begun, by the name of its after image."""
    found = {}
    for scene in run.record["scenes"].values():
        found[Path(scene["images"]["post"][0]["path"]).stem] = scene["attempts"]
    return found


@pytest.mark.parametrize("how_far", ["done", "running"])
def test_an_image_that_was_replaced_on_its_server_is_noticed_and_begun_anew(
    images: Path, threads: Any, tmp_path: Path, how_far: str
) -> None:
    mine = tmp_path / "images"
    shutil.copytree(images, mine)
    with served(mine) as server:
        file = region(tmp_path / "far", mine, server.url("").rstrip("/"), True)
        run = run_region(file, client=threads)
        assert run.exit_code == 0
        assert len({*run.damage_areas["scene_id"]}) == 2
        (east,) = (name for name in run.record["scenes"] if "east" in name)
        state = run.path / "scenes" / f"{east}.json"
        state.write_text(state.read_text().replace('"state": "done"', f'"state": "{how_far}"'))
        # Nothing changed any more: the after image is the one from before.
        copy(mine / "east-pre.tif", tmp_path / "new.tif", driver="COG", blocksize=128)
        shutil.move(tmp_path / "new.tif", mine / "east-post.tif")
        server.log.clear()
        with pytest.raises(
            Refused, match=rf"1 scenes .*differently:\n  {east}: images\.post\.bytes"
        ):
            run_region(file, client=threads)
        assert len(server.log) <= 2 * len(list(mine.iterdir()))  # two small requests an image
        run = run_region(file, client=threads, fresh=True)
    assert run.exit_code == 0
    assert {*run.damage_areas["scene_id"]} == {*run.record["scenes"]} - {east}
    assert attempts(run) == {"west-post": 1, "east-post": 2}


def test_finished_scenes_outlive_their_server(
    images: Path, threads: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with served(images) as server:
        file = region(tmp_path / "far", images, server.url("").rstrip("/"), True)
        assert run_region(file, client=threads).exit_code == 0
        server.fault = lambda asked: asked.answer(404)
        run = run_region(file, client=threads, quiet=False)
    assert run.exit_code == 0
    assert attempts(run) == {"west-post": 1, "east-post": 1}
    said = capfd.readouterr().err
    assert "4 remote images could not be looked at and are taken as unchanged" in said
    assert "404" in said


def test_a_server_that_is_gone_is_given_up_after_a_few_images(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("MAX_RETRY", "1"), ("RETRY_DELAY", "0.01")):
        monkeypatch.setenv(f"GDAL_HTTP_{name}", value)
    with served(images) as server:
        looks = Looks()
        looks.take(server.url(f"gone-{number}.tif") for number in range(500))
        assert len(server.log) < 2 * AT_ONCE
        assert looks.told().startswith("500 remote images could not be looked at")
        server.log.clear()
        looks = Looks()
        some = [server.url(f"gone-{number}.tif") for number in range(60)]
        for last in range(0, 60, 10):  # those that are gone do not hide those that are there
            looks.take([*some[last : last + 10], server.url(f"west-pre.tif?{last}")])
        assert looks.told().startswith("60 ")


def test_without_permission_nothing_is_asked_for(
    images: Path, threads: Any, tmp_path: Path
) -> None:
    with served(images) as server:
        host = server.url("").rstrip("/")
        file = region(tmp_path / "far", images, host, True)
        file.write_text(file.read_text().replace("allow_remote = true", ""))
        with pytest.raises(Refused, match="--allow-remote"):
            run_region(file, client=threads)
        assert server.log == []
