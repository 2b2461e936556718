"""Tiles: the pixels that a tag keeps at full zoom, the same picture further out, and nothing elsewhere."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.imagery import About, add_images
from aftermap.cluster.catalog.pixels import open_pixels
from aftermap.cluster.catalog.tables import Scene
from aftermap.scenes.errors import Refused
from aftermap.scenes.handles import close_handles
from aftermap.scenes.scene import ReadError
from aftermap.web import overviews
from aftermap.web.tiles import SIDE, Place, Tiles, levels, place
from PIL import Image
from rasters import UTM, texture, write_raster
from web_made import Site


def _seen(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (3, h, w) and what is opaque."""
    image = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA")).transpose(2, 0, 1)
    return image[:3], image[3] > 0


def _rows(server: Site, number: int) -> tuple[Scene, Scene | None]:
    with server.catalog.reading() as session:
        scene = session.get_one(Scene, number)
        before = None if scene.before_id is None else session.get(Scene, scene.before_id)
    return scene, before


@pytest.mark.parametrize("layer", ["post", "pre"])
@pytest.mark.parametrize(("x", "y"), [(0, 0), (1, 1), (3, 2)])
def test_full_zoom_shows_what_a_tag_keeps(server: Site, layer: str, x: int, y: int) -> None:
    answer = server.as_("viewer").get(
        f"/scenes/{server.pair}/tiles/2/{x}/{y}", params={"layer": layer}
    )
    assert answer.headers["content-type"] == "image/png"
    seen, opaque = _seen(answer.content)
    pixels = open_pixels(server.catalog.files, *_rows(server, server.pair))
    kept = pixels.square(y * 256, x * 256, 256)[0 if layer == "post" else 1]
    assert kept is not None
    np.testing.assert_array_equal(seen, np.where(opaque, kept, seen))
    inside = np.zeros((256, 256), bool)
    inside[: max(0, 700 - y * 256), : max(0, 900 - x * 256)] = True
    if layer == "post" and x == 0:
        inside[:, :40] = False  # no data
    np.testing.assert_array_equal(opaque, inside)


def test_a_photo_has_tiles_too(server: Site) -> None:
    photo, _ = _rows(server, server.photo)
    pixels = open_pixels(server.catalog.files, photo)
    seen, opaque = _seen(server.as_("viewer").get(f"/scenes/{server.photo}/tiles/2/2/1").content)
    np.testing.assert_array_equal(np.where(opaque, seen, 0), pixels.square(256, 512, 256)[0])
    assert opaque[:244, :88].all()
    assert opaque.sum() == 244 * 88
    _, opaque = _seen(
        server.as_("viewer").get(f"/scenes/{server.photo}/tiles/1/0/0?layer=pre").content
    )
    assert not opaque.any()


@pytest.mark.parametrize("which", ["pair", "photo"])
@pytest.mark.parametrize("z", [0, 1])
def test_further_out_it_is_the_same_picture(server: Site, which: str, z: int) -> None:
    number = getattr(server, which)
    scene, before = _rows(server, number)
    step = 2 ** (2 - z)
    image = Tiles(server.catalog.files).read(scene, before, Place(0, 0, 256 * step, False), "post")
    whole = (
        open_pixels(server.catalog.files, scene, before).square(0, 0, 256 * step)[0].astype(float)
    )
    means = whole.reshape(3, 256, step, 256, step).mean((2, 4))
    # Away from edges, where part of a pixel has no data.
    good = np.zeros((256, 256), bool)
    good[2 : 450 // step, 80 // step : 550 // step] = True
    assert np.ma.getmaskarray(image.array)[:, good].sum() == 0
    error = np.abs(image.array.data[:, good].astype(float) - means[:, good])
    assert error.mean() < 2
    answer = server.as_("viewer").get(f"/scenes/{number}/tiles/{z}/0/0")
    assert answer.headers["content-type"] == "image/webp"
    seen, opaque = _seen(answer.content)
    np.testing.assert_array_equal(opaque, ~np.ma.getmaskarray(image.array)[0])
    assert np.abs(seen[:, good].astype(float) - means[:, good]).mean() < 12


@pytest.mark.parametrize(
    ("tile", "code"),
    [
        ("3/0/0", 404),
        ("2/4/0", 404),
        ("2/0/3", 404),
        ("0/1/0", 404),
        ("2147483647/0/0", 404),
        ("2/2147483647/2147483647", 404),
        ("2/99999999999999999999/0", 400),
        ("-1/0/0", 400),
        ("0/0/0.5", 400),
        ("a/b/c", 400),
    ],
)
def test_tiles_that_do_not_exist(server: Site, tile: str, code: int) -> None:
    answer = server.as_("viewer").get(f"/scenes/{server.pair}/tiles/{tile}")
    assert (answer.status_code, answer.json()["code"]) == (code, code)


@pytest.mark.parametrize(
    ("number", "code"), [("999", 404), ("0", 400), ("9" * 30, 400), ("x", 400)]
)
def test_scenes_that_do_not_exist(server: Site, number: str, code: int) -> None:
    assert server.as_("viewer").get(f"/scenes/{number}/tiles/0/0/0").status_code == code
    assert server.as_("viewer").get(f"/scenes/{number}").status_code == code


def test_an_unknown_layer_is_told_in_words(server: Site) -> None:
    answer = server.as_("viewer").get(f"/scenes/{server.pair}/tiles/0/0/0?layer=/etc/passwd")
    assert answer.status_code == 400
    assert "layer" in answer.json()["error"]


def test_where_a_pixel_lies(server: Site) -> None:
    person = server.as_("viewer")
    there = person.get(f"/scenes/{server.pair}/lonlat?x=450&y=350").json()
    with rasterio.open(server.folder / "post_20230208.tif") as source:
        x, y = source.transform * (450, 350)
        lon, lat = (v[0] for v in rasterio.warp.transform(source.crs, "EPSG:4326", [x], [y]))
    assert there == pytest.approx({"lon": lon, "lat": lat}, abs=1e-9)
    assert person.get(f"/scenes/{server.photo}/lonlat?x=4&y=3").json() is None
    assert person.get(f"/scenes/{server.photo}/lonlat?x=nan&y=3").status_code == 400


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ((1, 1), 1),
        ((256, 256), 1),
        ((257, 1), 2),
        ((512, 512), 2),
        ((513, 9), 3),
        ((100_000, 1), 10),
    ],
)
def test_levels(shape: tuple[int, int], count: int) -> None:
    assert levels(*shape) == count
    first = place(shape, 0, 0, 0)
    assert first is not None
    assert first.side >= max(shape)
    last = place(shape, count - 1, 0, 0)
    assert last == Place(0, 0, SIDE, True)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog.open(tmp_path / "catalog", create=True)


def test_a_before_image_on_another_grid_is_warped(catalog: Catalog, tmp_path: Path) -> None:
    """At full zoom as it is kept; further out too, where it comes from another reading."""
    coarse = Affine(0.7, 0, 300_010.3, 0, -0.7, 4_099_990.7)
    pre = write_raster(tmp_path / "pre.tif", texture(400, 400, 1), transform=coarse)
    post = write_raster(tmp_path / "post.tif", texture(600, 600, 2), transform=UTM)
    before = add_images(catalog, [str(pre)]).new[0]
    scene = add_images(catalog, [str(post)], About(before="pre.tif")).new[0]
    tiles = Tiles(catalog.files)
    kept = open_pixels(catalog.files, scene, before).square(0, 0, 1024)[1]
    assert kept is not None
    fine = tiles.read(scene, before, Place(256, 256, 256, True), "pre").array
    np.testing.assert_array_equal(fine.filled(0), kept[:, 256:512, 256:512])
    half = tiles.read(scene, before, Place(0, 0, 512, False), "pre").array
    means = kept[:, :512, :512].reshape(3, 256, 2, 256, 2).astype(float).mean((2, 4))
    good = np.s_[:, 20:250, 20:250]
    assert not np.ma.getmaskarray(half)[good].any()
    assert np.ma.getmaskarray(half)[:, :8, :8].all()
    assert np.abs(half.data[good].astype(float) - means[good]).mean() < 3


def test_values_are_scaled_as_the_scene_says(catalog: Catalog, tmp_path: Path) -> None:
    deep = texture(600, 300).astype(np.uint16) * 16
    path = write_raster(tmp_path / "deep.tif", deep)
    scene = add_images(catalog, [str(path)], About(scale=(0, 4080))).new[0]
    image = Tiles(catalog.files).read(scene, None, Place(0, 0, 1024, False), "post").array
    means = texture(600, 300)[:, :600, :300].reshape(3, 150, 4, 75, 4).astype(float).mean((2, 4))
    assert np.abs(image.data[:, :150, :75] - means).mean() < 2


def test_another_image_in_its_place_is_not_shown(catalog: Catalog, tmp_path: Path) -> None:
    path = write_raster(tmp_path / "town.tif", texture(300, 300, 1))
    scene = add_images(catalog, [str(path)]).new[0]
    write_raster(path, texture(300, 300, 2))
    with pytest.raises(Refused, match="another image now"):
        Tiles(catalog.files).read(scene, None, Place(0, 0, 256, True), "post")
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(Refused, match="another image now"):
        Tiles(catalog.files).read(scene, None, Place(0, 0, 256, True), "post")
    path.unlink()
    with pytest.raises(Refused, match="not where it was"):
        Tiles(catalog.files).read(scene, None, Place(0, 0, 256, True), "post")


def _far(height: int = 304, width: int = 2208) -> tuple[Place, np.ndarray]:
    """The tile of a whole raster that is too large to be read for it each time, and where it has data."""
    where = place((height, width), 0, 0, 0)
    assert where is not None
    good = np.zeros((SIDE, SIDE), bool)
    good[2 : height // 16 - 2, 2 : width // 16 - 2] = True
    return where, good


def _means(pixels: np.ndarray) -> np.ndarray:
    """The values of a tile of 16 px a pixel, computed from all of them."""
    whole = np.zeros((3, 4096, 4096), np.float32)
    whole[:, : pixels.shape[1], : pixels.shape[2]] = pixels
    return whole.reshape(3, SIDE, 16, SIDE, 16).mean((2, 4))


@pytest.mark.parametrize("masked", ["nodata", "alpha", "mask", "scaled"])
def test_of_a_raster_without_overviews_some_are_made_once_in_the_cache(
    catalog: Catalog, tmp_path: Path, masked: str
) -> None:
    pixels = texture(304, 2208)
    there = np.ones((304, 2208), bool)
    there[:, 1600:] = False
    holed, about = np.where(there, pixels, 0).astype(np.uint8), About()
    folder = tmp_path / "of the user"
    folder.mkdir()
    path = folder / "town.tif"
    if masked == "alpha":
        alpha = np.where(there, 255, 0).astype(np.uint8)[None]
        write_raster(path, np.concatenate([holed, alpha]), photometric="rgb", alpha="yes")
    elif masked == "scaled":
        write_raster(path, holed.astype(np.uint16) * 16, nodata=0)
        about = About(scale=(0, 4080))
    else:
        write_raster(path, holed, nodata=0 if masked == "nodata" else None)
    if masked == "mask":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as target:
            target.write_mask(there)
    scene = add_images(catalog, [str(path)], about).new[0]
    where, good = _far()
    image = Tiles(catalog.files).read(scene, None, where, "post").array
    inside = good.copy()
    inside[:, 1600 // 16 - 1 :] = False
    assert not np.ma.getmaskarray(image)[:, inside].any()
    assert np.ma.getmaskarray(image)[:, :, 1600 // 16 + 1 :].all()
    assert np.abs(image.data[:, inside].astype(float) - _means(pixels)[:, inside]).mean() < 2
    assert [file.name for file in folder.iterdir()] == ["town.tif"]
    cache = catalog.folder / "cache/overviews"
    made = {file.name: file.stat().st_mtime_ns for file in cache.iterdir()}
    assert sorted(name.split(".", 1)[1] for name in made) == ["vrt", "vrt.ovr"]
    close_handles()
    again = Tiles(catalog.files).read(scene, None, where, "post").array
    np.testing.assert_array_equal(again.filled(0), image.filled(0))
    assert {file.name: file.stat().st_mtime_ns for file in cache.iterdir()} == made


def test_overviews_of_the_file_itself_are_used(catalog: Catalog, tmp_path: Path) -> None:
    path = write_raster(tmp_path / "town.tif", texture(304, 2208))
    with rasterio.open(path, "r+") as target:
        target.build_overviews([8, 16], rasterio.enums.Resampling.average)
    scene = add_images(catalog, [str(path)]).new[0]
    where, good = _far()
    image = Tiles(catalog.files).read(scene, None, where, "post").array
    difference = image.data[:, good].astype(float) - _means(texture(304, 2208))[:, good]
    assert np.abs(difference).mean() < 2
    assert not (catalog.folder / "cache").exists()


def test_a_large_image_before_on_another_grid_is_warped_from_its_overviews(
    catalog: Catalog, tmp_path: Path
) -> None:
    pixels = texture(304, 2208, 1)
    moved = UTM * Affine.translation(-48, -32)
    pre = write_raster(
        tmp_path / "pre.tif", np.pad(pixels, ((0, 0), (32, 0), (48, 0))), transform=moved
    )
    post = write_raster(tmp_path / "post.tif", texture(304, 2208, 2))
    add_images(catalog, [str(pre)])
    scene = add_images(catalog, [str(post)], About(before="pre.tif")).new[0]
    with catalog.reading() as session:
        before = session.get_one(Scene, scene.before_id)
    where, good = _far()
    image = Tiles(catalog.files).read(scene, before, where, "pre").array
    assert np.abs(image.data[:, good].astype(float) - _means(pixels)[:, good]).mean() < 3


def test_the_oldest_overviews_make_room(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, (where, _) = catalog.folder / "cache/overviews", _far()
    seen = []
    for number in range(4):
        path = write_raster(tmp_path / f"{number}.tif", texture(304, 2208, number))
        scene = add_images(catalog, [str(path)]).new[0]
        Tiles(catalog.files).read(scene, None, where, "post")
        seen.append({file.name for file in cache.glob("*.ovr")})
        (newest,) = seen[-1] - set().union(*seen[:-1])
        monkeypatch.setattr(overviews, "_MOST_BYTES", 2.5 * (cache / newest).stat().st_size)
    assert [len(names) for names in seen] == [1, 2, 2, 2]
    assert len(seen[2] & seen[3]) == 1
    assert {file.name for file in cache.glob("*.vrt")} == {name[:-4] for name in seen[3]}


@pytest.mark.parametrize("width", [608, 2208])
def test_a_raster_that_cannot_be_decoded_is_told_far_out_too(
    catalog: Catalog, tmp_path: Path, width: int
) -> None:
    path = write_raster(tmp_path / "town.tif", texture(304, width))
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 2])
    scene = add_images(catalog, [str(path)]).new[0]
    whole = place((304, width), 0, 0, 0)
    assert whole is not None
    with pytest.raises(ReadError, match=r"town\.tif cannot be read"):
        Tiles(catalog.files).read(scene, None, whole, "post")
    assert list(catalog.folder.glob("cache/overviews/*")) == []
