"""Reading: any window of any grid gives the same pixels, and validity follows the file's masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from aftermap.scenes.errors import Refused
from aftermap.scenes.pair import Pair, make_pair
from aftermap.scenes.scene import ReadError, open_tiles
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from rasterio.warp import Resampling, reproject
from rasters import texture, write_raster

Alpha, Undefined = ColorInterp.alpha, ColorInterp.undefined
UTM = Affine(0.5, 0, 300_000, 0, -0.5, 4_100_000)
LEAST = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def warped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, tuple[np.ndarray, ...]]:
    """A before image in degrees with nodata in a corner under an after image in UTM."""
    folder = tmp_path_factory.mktemp("warped")
    post = write_raster(folder / "post.tif", texture(700, 800, 1))
    pre = texture(760, 900, 2)
    pre[:, :200, :300] = 0
    with rasterio.open(post) as source:
        west, _, _, north = rasterio.warp.transform_bounds(source.crs, "EPSG:4326", *source.bounds)
    place = Affine(6e-6, 0, west - 3e-5, 0, -5e-6, north + 2e-5)
    pair = make_pair(write_raster(folder / "pre.tif", pre, "EPSG:4326", place, nodata=0), post)
    return pair, pair.read(-40, -40, 740, 840)


@LEAST
@given(
    row=st.integers(-40, 690),
    col=st.integers(-40, 790),
    h=st.integers(1, 300),
    w=st.integers(1, 300),
)
def test_a_warped_window_is_a_slice_of_the_whole(
    warped, row: int, col: int, h: int, w: int
) -> None:
    pair, whole = warped
    h, w = min(h, 740 - row), min(w, 840 - col)
    for part, full in zip(pair.read(row, col, row + h, col + w), whole, strict=True):
        np.testing.assert_array_equal(
            part, full[..., row + 40 : row + 40 + h, col + 40 : col + 40 + w]
        )


def test_warped_pixels_agree_with_a_plain_reprojection(warped) -> None:
    pair, whole = warped
    expected = np.zeros((3, 700, 800), np.uint8)
    with rasterio.open(pair.pre.rasters[0].path) as source:
        reproject(
            rasterio.band(source, [1, 2, 3]),
            expected,
            dst_crs="EPSG:32637",
            dst_transform=UTM,
            resampling=Resampling.bilinear,
        )
    inner = whole.valid[40:740, 40:840]
    difference = np.abs(whole.pre[:, 40:740, 40:840].astype(int) - expected)[:, inner]
    assert np.percentile(difference, 99) <= 2
    assert 0.5 < inner.mean() < 0.99


def test_a_file_on_the_grid_is_copied_and_past_its_edge_nothing_is_valid(tmp_path: Path) -> None:
    pixels = texture(150, 200)
    scene = open_tiles(write_raster(tmp_path / "a.tif", pixels))
    values, valid = scene.read(scene.grid, -10, -10, 160, 210)
    np.testing.assert_array_equal(values[:, 10:160, 10:210], pixels)
    assert valid.sum() == 150 * 200
    assert not values[:, :10].any()


def test_tiles_make_one_mosaic_and_gaps_are_not_valid(tmp_path: Path) -> None:
    pixels = texture(256, 384)
    for n, (row, col) in enumerate([(0, 0), (0, 256), (128, 128)]):
        write_raster(
            tmp_path / f"{n}.tif",
            pixels[:, row : row + 128, col : col + 128],
            transform=UTM * Affine.translation(col, row),
        )
    scene = open_tiles(tmp_path)
    assert scene.grid.shape == (256, 384)
    values, valid = scene.read(scene.grid, 0, 0, 256, 384)
    assert valid.sum() == 3 * 128 * 128
    np.testing.assert_array_equal(values[:, valid], pixels[:, valid])
    listed = open_tiles(sorted(tmp_path.glob("*.tif")))
    np.testing.assert_array_equal(listed.read(listed.grid, 0, 0, 256, 384)[0], values)


@pytest.mark.parametrize("kind", ["nodata", "alpha", "mask"])
def test_a_files_own_mask_counts(tmp_path: Path, kind: str) -> None:
    pixels = texture(200, 200)
    hole = np.zeros((200, 200), bool)
    hole[50:90, 60:100] = True
    path = tmp_path / "a.tif"
    if kind == "nodata":
        pixels[:, hole] = 0
        write_raster(path, pixels, nodata=0)
    elif kind == "alpha":
        alpha = np.where(hole, 0, 255).astype(np.uint8)
        write_raster(path, np.concatenate([pixels, alpha[None]]), photometric="rgb", alpha="yes")
    else:
        write_raster(path, pixels)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as target:
            target.write_mask(~hole)
    scene = open_tiles(path)
    np.testing.assert_array_equal(scene.read(scene.grid, 0, 0, 200, 200)[1], ~hole)


def test_a_black_collar_is_masked_and_black_roofs_are_not(tmp_path: Path) -> None:
    pixels = texture(400, 400)
    collar = np.add.outer(np.arange(400), np.arange(400)) < 200
    pixels[:, collar] = 0
    pixels[:, 300:320, 300:320] = 0
    scene = open_tiles(write_raster(tmp_path / "a.tif", pixels))
    _, valid = scene.read(scene.grid, 0, 0, 400, 400)
    np.testing.assert_array_equal(valid, ~collar)


def test_nan_and_nodata_are_both_masked_and_the_scale_is_applied(tmp_path: Path) -> None:
    pixels = texture(100, 100).astype(np.float32) * 10
    pixels[:, 10, 10], pixels[:, 20, 20] = np.nan, -9999
    path = write_raster(tmp_path / "a.tif", pixels, nodata=-9999)
    scene = open_tiles(path, scale=(0, 2550))
    values, valid = scene.read(scene.grid, 0, 0, 100, 100)
    assert (~valid).sum() == 2
    assert values.dtype == np.uint8
    np.testing.assert_array_equal(values[:, valid], np.rint(pixels[:, valid] / 10))


@pytest.mark.parametrize(
    "turn", [Affine(0.5, 0, 300_000, 0, 0.5, 4_100_000), UTM * Affine.rotation(30)]
)
def test_south_up_and_rotated_images_are_warped_north_up(tmp_path: Path, turn: Affine) -> None:
    pixels = texture(200, 300)
    scene = open_tiles(write_raster(tmp_path / "a.tif", pixels, transform=turn))
    assert scene.grid.affine.e < 0 < scene.grid.affine.a
    assert scene.grid.affine.b == scene.grid.affine.d == 0
    values, valid = scene.read(scene.grid, 0, 0, *scene.grid.shape)
    assert valid.sum() == pytest.approx(200 * 300, rel=0.03)
    # The image's centre is where it was, and looks as it did.
    x, y = turn * (150.5, 100.5)
    col, row = ~scene.grid.affine * (x, y)
    assert np.abs(values[:, int(row), int(col)].astype(int) - pixels[:, 100, 150]).max() < 20


def test_a_truncated_file_names_itself_and_the_window(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", texture(600, 600), compress="deflate")
    path.write_bytes(path.read_bytes()[:-40_000])
    scene = open_tiles(path)
    with pytest.raises(ReadError, match=r"a\.tif: rows .* cannot be read"):
        scene.read(scene.grid, 0, 0, 600, 600)


def test_a_sub_pixel_origin_is_resampled_and_a_whole_pixel_one_is_not(tmp_path: Path) -> None:
    pixels = texture(300, 300)
    post = write_raster(tmp_path / "post.tif", pixels)
    near = write_raster(tmp_path / "near.tif", pixels, transform=UTM * Affine.translation(7, -3))
    off = write_raster(tmp_path / "off.tif", pixels, transform=UTM * Affine.translation(0.5, 0))
    whole = make_pair(near, post).read(0, 0, 300, 300)
    np.testing.assert_array_equal(whole.pre[:, 0:200, 7:300], pixels[:, 3:203, 0:293])
    half = make_pair(off, post).read(0, 0, 300, 300)
    expected = (pixels[:, 100, 99].astype(float) + pixels[:, 100, 100]) / 2
    assert np.abs(half.pre[:, 100, 100] - expected).max() <= 1


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("warped", [True, False])
def test_an_alpha_band_counts_wherever_it_stands(tmp_path: Path, last: bool, warped: bool) -> None:
    pixels = texture(200, 200)
    hole = np.zeros((200, 200), bool)
    hole[50:90, 60:100] = True
    infrared, alpha = pixels[:1], np.where(hole, 0, 255).astype(np.uint8)[None]
    path = write_raster(
        tmp_path / "a.tif",
        np.concatenate([pixels, *([infrared, alpha] if last else [alpha, infrared])]),
        photometric="rgb",
    )
    with rasterio.open(path, "r+") as target:
        kinds = list(target.colorinterp)
        kinds[3], kinds[4] = (Undefined, Alpha) if last else (Alpha, Undefined)
        target.colorinterp = kinds
    scene = open_tiles(path)
    grid = scene.grid.translate_pix(0.5, 0) if warped else scene.grid
    values, valid = scene.read(grid, 5, 5, 195, 195)
    assert (~valid).sum() == pytest.approx(hole.sum(), rel=0.05)
    assert not valid[60:80, 70:90].any()
    assert np.abs(values[:, 5, 5].astype(int) - pixels[:, 10, 10]).max() < 20


def test_one_damaged_block_does_not_turn_the_collar_mask_off(tmp_path: Path) -> None:
    pixels = texture(600, 600)
    pixels[:, :, :60] = 0
    path = write_raster(tmp_path / "a.tif", pixels, compress="deflate")
    path.write_bytes(path.read_bytes()[:-40_000])
    scene = open_tiles(path)
    _, valid = scene.read(scene.grid, 0, 0, 300, 600)
    assert not valid[:, :60].any()
    assert valid[:, 64:].all()


@LEAST
@given(
    row=st.integers(0, 2900), col=st.integers(0, 900), h=st.integers(1, 170), w=st.integers(1, 120)
)
def test_collars_do_not_depend_on_the_window(ragged, row: int, col: int, h: int, w: int) -> None:
    scene, whole = ragged
    valid = scene.read(scene.grid, row, col, row + h, col + w)[1]
    np.testing.assert_array_equal(valid, whole[row : row + h, col : col + w])


@pytest.fixture(scope="module")
def ragged(tmp_path_factory: pytest.TempPathFactory):
    """An image with a ragged black border whose overview cells are one and a half pixels wide."""
    pixels = texture(128, 128).repeat(24, axis=1)[:, :3072].repeat(8, axis=2)
    rng = np.random.default_rng(0)
    edge = rng.integers(5, 60, 3072)
    pixels[:, np.arange(1024)[None] < edge[:, None]] = 0
    place = Affine(0.15, 0, 512345.67, 0, -0.15, 4_100_000.11)
    path = write_raster(tmp_path_factory.mktemp("ragged") / "a.tif", pixels, transform=place)
    scene = open_tiles(path)
    return scene, scene.read(scene.grid, 0, 0, 3072, 1024)[1]


def test_a_replaced_file_is_read_anew(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", texture(100, 100, 1))
    old = open_tiles(path)
    old.read(old.grid, 0, 0, 100, 100)
    other = texture(100, 100, 2)
    write_raster(tmp_path / "b.tif", other).replace(path)
    new = open_tiles(path)
    np.testing.assert_array_equal(new.read(new.grid, 0, 0, 100, 100)[0], other)


def test_values_that_stand_for_others_are_refused_without_a_scale(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", texture(100, 100))
    with rasterio.open(path, "r+") as target:
        target.scales, target.offsets = (0.5,) * 3, (10.0,) * 3
    with pytest.raises(Refused, match="--scale"):
        open_tiles(path)
    assert open_tiles(path, scale=(0, 255)).dtype == np.uint8
