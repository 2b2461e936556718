"""Images given as files: headers, dates in names, lists of pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from aftermap.scenes.catalog_files import Placing, date_in_name, image_of, read_folder, read_list
from aftermap.scenes.errors import Refused
from aftermap.scenes.reading import Reading
from rasterio.warp import transform_bounds
from rasters import UTM, write_raster

PLACING = Placing()


def raster(path: Path, east: float = 0.0, bands: int = 3, **profile: object) -> Path:
    """An image of 100 x 80 m, so many metres east of the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shifted = Affine(UTM.a, 0, UTM.c + east, 0, UTM.e, UTM.f)
    return write_raster(path, np.zeros((bands, 160, 200), np.uint8), transform=shifted, **profile)


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("10300100E19A4400_2023-02-11.tif", "2023-02-11"),
        ("town_20230211_rgb.tif", "2023-02-11"),
        ("2023_02_11.tif", "2023-02-11"),
        ("20230211T081022Z.tif", "2023-02-11"),
        ("2023-02-30.tif", None),
        ("2023-0211.tif", None),
        ("scene_120230211.tif", None),
        ("1675646255.tif", None),
        ("town.tif", None),
    ],
)
def test_dates_in_names(name: str, day: str | None) -> None:
    found = date_in_name(Path("/data/images") / name)
    assert (found and f"{found:%Y-%m-%d}") == day
    assert date_in_name(Path("/data/2021-05-01/town.tif")) is not None


def test_a_header_says_where_an_image_lies(tmp_path: Path) -> None:
    file = raster(tmp_path / "town_20230211.tif")
    image = image_of(file, PLACING)
    with rasterio.open(file) as source:
        expected = transform_bounds(source.crs, "EPSG:4326", *source.bounds)
    assert image.outline.bounds == pytest.approx(expected, abs=1e-7)
    assert (image.href, image.name, image.place) == (str(file), "town_20230211", None)
    assert (image.epsg, image.shape, image.cell) == (32637, (160, 200), None)


def test_bands_and_types_do_not_matter_yet(tmp_path: Path) -> None:
    pixels = np.zeros((4, 20, 30), np.uint16)
    assert image_of(write_raster(tmp_path / "a.tif", pixels), PLACING).shape == (20, 30)


def test_files_that_name_no_coordinate_system_are_placed_when_told(tmp_path: Path) -> None:
    file = raster(tmp_path / "a.tif", crs=None)
    with pytest.raises(Refused, match="no coordinate system"):
        image_of(file, PLACING)
    assert image_of(file, Placing(crs="EPSG:32637")).epsg == 32637


def test_a_folder_is_read_with_its_subfolders(tmp_path: Path) -> None:
    raster(tmp_path / "b" / "2.tif")
    raster(tmp_path / "a" / "1.TIF")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "broken.tif").write_bytes(b"II*\0 and no more")
    (tmp_path / "text.tif").write_text("hello")
    (tmp_path / "nowhere.tif").symlink_to(tmp_path / "gone.tif")
    reading = Reading()
    read_folder(tmp_path, reading, PLACING)
    assert [image.name for image in reading.images] == ["1", "2"]
    assert reading.found == 4
    told = list(reading.lines())
    assert len(told) == 2
    assert any("cannot be opened" in line and "(broken.tif)" in line for line in told)
    assert any("is not an image that aftermap reads" in line for line in told)


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="holds no image"):
        read_folder(tmp_path, Reading(), PLACING)
    with pytest.raises(Refused, match="is not a folder"):
        read_folder(tmp_path / "none", Reading(), PLACING)


def test_a_list_names_pairs(tmp_path: Path) -> None:
    raster(tmp_path / "images" / "pre.tif")
    raster(tmp_path / "images" / "post.tif", east=50)
    (tmp_path / "pairs.csv").write_text(
        "\ufeffscene_id, Post, pre, note\n"
        'market,images/post.tif,images/pre.tif,"a, b"\n'
        f",{tmp_path}/images/post.tif,images/pre.tif\n"
        "gone,images/none.tif,images/pre.tif,\n"
        "alone,images/post.tif,,\n"
        "far,https://a.org/x.tif,images/pre.tif,\n"
        "empty,,images/pre.tif,\n"
    )
    reading = Reading()
    pairs = read_list(tmp_path / "pairs.csv", reading, PLACING)
    assert [scene for scene, _, _ in pairs] == ["market", ""]
    assert [(pre.name, post.name) for _, pre, post in pairs if pre] == [("pre", "post")] * 2
    assert reading.found == 6
    told = "\n".join(reading.lines())
    for reason in ("none.tif does not exist", "no before image, and the method needs one (line 5)",
                   "a list names local files", "no after image (line 7)"):  # fmt: skip
        assert reason in told
    alone = read_list(tmp_path / "pairs.csv", Reading(), PLACING, needs_before=False)
    assert [scene for scene, _, _ in alone] == ["market", "", "alone"]
    assert all(pre is None for _, pre, _ in alone)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "its first line has nothing"),
        (b"before,after\na,b\n", "its first line has before, after, and columns pre and post"),
        (b"\xff\xfe\x00", "not text in UTF-8"),
        (b"pre,post\n" + b'"' + b"x" * 200_000, "field larger than field limit"),
    ],
)
def test_files_that_are_no_list_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "pairs.csv").write_bytes(content)
    with pytest.raises(Refused, match=message):
        read_list(tmp_path / "pairs.csv", Reading(), PLACING)
