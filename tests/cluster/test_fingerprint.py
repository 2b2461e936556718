"""What a source consists of: no file that is read may be left out of the fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from aftermap.cluster.client import connected
from aftermap.cluster.fingerprint import fingerprint_input, parts_of
from aftermap.scenes.errors import Refused
from distributed import Client
from rasters import texture, write_raster

import aftermap as am


@pytest.fixture(scope="module")
def threads() -> Iterator[Client]:
    with connected("threads", workers=2) as client:
        yield client


@pytest.mark.parametrize("stem", ["houses", "houses[2]", "what?", "a*b"])
def test_a_shapefile_is_all_files_of_its_name_and_no_others(tmp_path: Path, stem: str) -> None:
    own = [tmp_path / f"{stem}{suffix}" for suffix in (".cpg", ".dbf", ".prj", ".shp", ".shx")]
    for path in (*own, tmp_path / "houses2.shp", tmp_path / "what1.shp", tmp_path / "axb.dbf"):
        path.write_bytes(b"x")
    assert parts_of(tmp_path / f"{stem}.shp") == own


def test_a_source_is_never_no_file(tmp_path: Path) -> None:
    """A missing one is asked for by its name, which tells; nothing at all would equal nothing."""
    assert parts_of(tmp_path / "gone.shp") == [tmp_path / "gone.shp"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refused, match=r"empty' is empty"):
        parts_of(tmp_path / "empty")


def test_masks_and_overviews_beside_an_image_are_part_of_it(tmp_path: Path) -> None:
    image, mask = tmp_path / "a[1].tif", tmp_path / "a[1].tif.msk"
    image.write_bytes(b"pixels")
    (tmp_path / "a[1].msk").write_bytes(b"another's")
    alone = fingerprint_input(image)
    assert parts_of(image) == [image]
    mask.write_bytes(b"valid")
    assert parts_of(image) == [image, mask]
    first = fingerprint_input(image)
    mask.write_bytes(b"other")
    second = fingerprint_input(image)
    assert first != alone
    assert second != first
    assert second["sampled_sha256"] == alone["sampled_sha256"]


def test_a_mask_that_is_laid_beside_an_image_makes_another_run(
    threads: Client, tmp_path: Path
) -> None:
    """In the same process, which has read the image without it."""
    asked: Any = {"method": "difference", "client": threads}
    pixels = texture(300, 400)
    files = (
        write_raster(tmp_path / "pre.tif", pixels),
        write_raster(tmp_path / "post.tif", 255 - pixels),
    )
    before = am.assess(*files, out=tmp_path / "run", **asked)
    assert (before.layers["damage"].values != 255).all()
    mask = np.full((1, 300, 400), 255, np.uint8)
    mask[:, :, :100] = 0
    shape = {"tiled": False, "blockxsize": None, "blockysize": None}
    made = write_raster(tmp_path / "mask.tif", mask, **shape)
    with rasterio.open(made, "r+") as target:
        target.update_tags(INTERNAL_MASK_FLAGS_1="2")
    made.rename(tmp_path / "post.tif.msk")
    with pytest.raises(Refused, match=r"inputs\.post: was"):
        am.assess(*files, out=tmp_path / "run", **asked)
    with pytest.raises(Refused, match="overviews beside it"):
        before.pair()
    after = am.assess(*files, out=tmp_path / "other", **asked, hash_inputs=True)
    seen = after.layers["damage"].values != 255
    np.testing.assert_array_equal(seen, mask[0] > 0)
    (post,) = after.record["facts"]["inputs"]["post"]
    assert [file["path"] for file in post["beside"]] == [str(tmp_path / "post.tif.msk")]
    digest = hashlib.sha256((tmp_path / "post.tif.msk").read_bytes()).hexdigest()
    assert after.record["sha256"][str(tmp_path / "post.tif.msk")] == digest
    assert (after.pair().read(0, 0, 300, 400).valid == seen).all()
    assert after.record["facts"]["inputs"]["pre"] == before.record["facts"]["inputs"]["pre"]


def test_footprints_with_brackets_in_their_name_that_change_make_another_run(
    pair_files: tuple[Path, Path], threads: Client, tmp_path: Path
) -> None:
    def draw(count: int) -> Path:
        squares = [
            shapely.box(300_050 + 20 * k, 4_099_800, 300_060 + 20 * k, 4_099_810)
            for k in range(count)
        ]
        gpd.GeoDataFrame({"n": range(count)}, geometry=squares, crs="EPSG:32637").to_file(named)
        return named

    named = tmp_path / "houses[2].shp"
    asked: Any = {"method": "difference", "client": threads}
    first = am.assess(*pair_files, out=tmp_path / "run", **asked, footprints=draw(3))
    assert len(first.buildings) == 3
    listed = [Path(file["path"]).suffix for file in first.record["facts"]["inputs"]["footprints"]]
    assert {".shp", ".shx", ".dbf", ".prj"} <= set(listed)
    with pytest.raises(Refused, match=r"inputs\.footprints: was"):
        am.assess(*pair_files, out=tmp_path / "run", **asked, footprints=draw(7))
