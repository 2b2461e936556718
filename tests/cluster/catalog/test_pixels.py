"""Pixels of catalogued images: of those that were catalogued, and of no others."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import numpy as np
import pytest
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.imagery import About, add_images
from aftermap.cluster.catalog.pixels import PhotoPixels, open_pixels
from aftermap.cluster.catalog.tables import LabelSet, Scene, User
from aftermap.cluster.catalog.tag_batches import add_tags
from aftermap.cluster.catalog.tagging import Said, add_tag
from aftermap.scenes.errors import Refused
from PIL import Image
from pyproj import Transformer
from rasters import UTM, texture, write_raster


def _said(labels: LabelSet, scene: Scene, row: int = 0) -> Said:
    return Said(labels.id, "damage", str(uuid.uuid4()), scene.id, (row, 0, 64))


def test_another_image_in_its_place_is_not_tagged(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet, raster: Path
) -> None:
    add_tag(catalog, ana, _said(labels, scene))
    write_raster(raster, texture(300, 400, 7))
    with pytest.raises(Refused, match="another image now"):
        add_tag(catalog, ana, _said(labels, scene, 1))
    with pytest.raises(Refused, match="another image now"):
        add_tags(catalog, ana, [_said(labels, scene, 2)])
    raster.unlink()
    with pytest.raises(Refused, match="not where it was"):
        add_tag(catalog, ana, _said(labels, scene, 1))
    write_raster(raster, texture(300, 400))
    add_tag(catalog, ana, _said(labels, scene, 1))


def test_nor_is_another_image_before(catalog: Catalog, tmp_path: Path) -> None:
    pre = write_raster(tmp_path / "pre.tif", texture(200, 200))
    post = write_raster(tmp_path / "post.tif", texture(200, 200, 1))
    before = add_images(catalog, [str(pre)]).new[0]
    scene = add_images(catalog, [str(post)], About(before="pre.tif")).new[0]
    write_raster(pre, texture(200, 200, 2))
    with pytest.raises(Refused, match=r"pre\.tif is another image now"):
        open_pixels(catalog.files, scene, before)


def test_an_image_that_was_not_fetched_is_told(catalog: Catalog) -> None:
    scene = add_images(catalog, ["https://example.org/exportImage"], allow_remote=True).new[0]
    with pytest.raises(Refused, match="not fetched yet"):
        open_pixels(catalog.files, scene)


def test_where_pixels_lie(catalog: Catalog, scene: Scene) -> None:
    found = open_pixels(catalog.files, scene).lonlat(30, 50.5)
    degrees = Transformer.from_crs("EPSG:32637", "EPSG:4326", always_xy=True)
    assert found == pytest.approx(degrees.transform(*(UTM * (50.5, 30))), abs=1e-9)


def test_a_photo_that_many_look_at_is_decoded_once(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.tile(texture(300, 400), (1, 5, 5)).transpose(1, 2, 0)).save(path)
    photo = add_images(catalog, [str(path)]).new[0]
    found, start = [], threading.Barrier(6)

    def look() -> None:
        start.wait()
        found.append(open_pixels(catalog.files, photo))

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    images = [one.image for one in found if isinstance(one, PhotoPixels)]
    assert len(images) == 6
    assert all(image is images[0] for image in images)
