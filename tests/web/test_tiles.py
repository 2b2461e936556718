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
