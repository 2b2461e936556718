"""Images in the catalog: what is kept of each, once, and whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from aftermap.cluster.catalog.catalog import Catalog, note
from aftermap.cluster.catalog.imagery import About, add_images, fetched
from aftermap.cluster.catalog.pixels import open_pixels
from aftermap.cluster.catalog.tables import Entry, Scene
from aftermap.scenes.errors import Refused
from loopback import served, unavailable
from photos_placed import jpeg
from PIL import Image
from pyproj import Transformer
from rasters import texture, write_raster
from sqlalchemy import func, select


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "1")
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.01")


def _count(catalog: Catalog) -> int:
    with catalog.reading() as session:
        return session.scalar(select(func.count()).select_from(Scene)) or 0


def test_a_raster_stays_where_it_lies(catalog: Catalog, raster: Path) -> None:
    scene = add_images(catalog, [str(raster)], About(town="Juchitán")).new[0]
    with rasterio.open(raster) as source:
        corners = Transformer.from_crs(source.crs, "EPSG:4326", always_xy=True).transform_bounds(
            *source.bounds
        )
    assert (scene.west, scene.south, scene.east, scene.north) == pytest.approx(corners, abs=1e-5)
    assert (scene.width, scene.height, scene.town) == (400, 300, "Juchitán")
    assert scene.taken_at == datetime(2017, 9, 8, tzinfo=UTC)
    assert list(catalog.files.names()) == []


def test_added_again_nothing_changes(catalog: Catalog, raster: Path) -> None:
    first = add_images(catalog, [str(raster)])
    again = add_images(catalog, [str(raster)])
    assert ([s.id for s in first.new], first.known) == ([again.known[0].id], [])
    assert again.new == []


def test_a_raster_that_moved_is_found_again(catalog: Catalog, raster: Path, tmp_path: Path) -> None:
    scene = add_images(catalog, [str(raster)]).new[0]
    moved = tmp_path / "elsewhere.tif"
    raster.rename(moved)
    assert [s.id for s in add_images(catalog, [str(moved)]).known] == [scene.id]
    with catalog.reading() as session:
        assert session.get_one(Scene, scene.id).path == str(moved)


def test_a_drone_photo_is_copied_with_its_position_and_time(
    catalog: Catalog, tmp_path: Path
) -> None:
    gps = {
        1: "N",
        2: (16.0, 26.0, 3.6),
        3: "W",
        4: (95.0, 1.0, 12.0),
        29: "2017:09:09",
        7: (15.0, 4.0, 5.0),
    }
    photo = jpeg(tmp_path / "DJI_0001.JPG", gps, {36867: "2017:09:09 10:04:07"})
    scene = add_images(catalog, [str(photo)], About(town="Unión Hidalgo")).new[0]
    assert (scene.kind, scene.town) == ("photo", "Unión Hidalgo")
    assert (scene.south, scene.west) == pytest.approx((16.434333, -95.02), abs=1e-5)
    assert scene.taken_at == datetime(2017, 9, 9, 15, 4, 5, tzinfo=UTC)
    photo.unlink()
    assert open_pixels(catalog.files, scene).shape == (60, 80)
    assert catalog.files.sound(str(scene.content))


@pytest.mark.parametrize(
    ("gps", "camera", "taken"),
    [
        (
            None,
            {36867: "2017:09:09 10:04:07", 36881: "-05:00"},
            datetime(2017, 9, 9, 15, 4, 7, tzinfo=UTC),
        ),
        (None, {36867: "2017:09:09 10:04:07"}, datetime(2017, 9, 9, 10, 4, 7, tzinfo=UTC)),
        (None, {36867: "yesterday"}, None),
        ({1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)}, None, None),
        ({1: "N", 2: (91.0, 0.0, 0.0), 3: "E", 4: (5.0, 0.0, 0.0)}, None, None),
        ({1: "N"}, None, None),
    ],
)
def test_what_cameras_note_is_read_as_far_as_it_makes_sense(
    catalog: Catalog, tmp_path: Path, gps: Any, camera: Any, taken: datetime | None
) -> None:
    scene = add_images(catalog, [str(jpeg(tmp_path / "p.jpg", gps, camera))]).new[0]
    assert (scene.taken_at, scene.west, scene.south) == (taken, None, None)


def test_photos_lie_as_their_camera_was_held(catalog: Catalog, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(texture(60, 80).transpose(1, 2, 0)).save(tmp_path / "turned.jpg", exif=exif)
    scene = add_images(catalog, [str(tmp_path / "turned.jpg")]).new[0]
    assert (scene.height, scene.width) == (80, 60)


def test_of_a_folder_what_is_no_image_is_told_and_the_rest_added(
    catalog: Catalog, tmp_path: Path
) -> None:
    folder = tmp_path / "flight"
    folder.mkdir()
    for number in range(40):
        Image.fromarray(texture(20, 20, number).transpose(1, 2, 0)).save(
            folder / f"{number:02}.png"
        )
    (folder / "17.png").write_bytes((folder / "17.png").read_bytes()[:50])
    (folder / "notes.txt").write_text("windy")
    told = []
    found = add_images(catalog, [str(folder)], tell=lambda done, of: told.append((done, of)))
    assert len(found.new) == 39
    assert "17.png" in found.unreadable[0]
    assert told[-1] == (39, 39)
    assert _count(catalog) == 39


def test_while_photos_are_copied_others_can_write(
    catalog: Catalog, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Catalog.open(catalog.folder, address if "://" in address else None)
    copy, held = shutil.copyfileobj, []

    def written_meanwhile(*arguments: Any) -> None:
        with other.writing() as session:  # an error after half a minute if the catalog were locked
            note(session, None, "tag", "meanwhile")
        copy(*arguments)
        held.append(_count(other))

    monkeypatch.setattr(shutil, "copyfileobj", written_meanwhile)
    paths = [str(jpeg(tmp_path / f"{n}.jpg", camera={37510: f"{n:03}".encode()})) for n in range(3)]
    assert len(add_images(catalog, [*paths, paths[0]]).new) == 3
    assert held == [0, 0, 0]
    assert (_count(catalog), len(list(catalog.files.names()))) == (3, 3)
    assert list(catalog.files.begun()) == []
    add_images(catalog, paths)
    assert len(held) == 3
    other.close()


def test_a_photo_that_changes_while_it_is_copied_is_not_added(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, copy = jpeg(tmp_path / "a.jpg"), shutil.copyfileobj

    def changed_meanwhile(stream: Any, *arguments: Any) -> None:
        photo.write_bytes(photo.read_bytes()[:-40])
        copy(stream, *arguments)

    monkeypatch.setattr(shutil, "copyfileobj", changed_meanwhile)
    with pytest.raises(Refused, match="changed while it was added"):
        add_images(catalog, [str(photo)])
    assert (_count(catalog), list(catalog.files.names()), list(catalog.files.begun())) == (
        0,
        [],
        [],
    )


def test_of_named_files_none_is_added_where_one_is_no_image(
    catalog: Catalog, raster: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.tif").write_bytes(b"II*\0nothing")
    with pytest.raises(Refused, match=r"bad\.tif"):
        add_images(catalog, [str(raster), str(tmp_path / "bad.tif")])
    assert _count(catalog) == 0
    assert list(catalog.files.names()) == []


def test_a_raster_that_reads_other_files_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    trap = tmp_path / "trap.tif"
    trap.write_text('<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>')
    with pytest.raises(Refused):
        add_images(catalog, [str(trap)])


def test_addresses_need_leave(catalog: Catalog) -> None:
    with pytest.raises(Refused, match="--allow-remote"):
        add_images(catalog, ["https://example.org/exportImage?bbox=1,2,3,4"])


def test_an_image_service_is_asked_when_somebody_looks(catalog: Catalog, tmp_path: Path) -> None:
    service = tmp_path / "service"
    service.mkdir()
    write_raster(service / "exportImage", texture(100, 120))
    with served(service) as server:
        scene = add_images(catalog, [server.url("exportImage", "token=x")], allow_remote=True).new[
            0
        ]
        assert (scene.kind, server.log) == ("service", [])
        server.fault = unavailable
        with pytest.raises(Refused, match="503"):
            fetched(catalog, scene)
        server.fault = lambda asked: asked.answer(200, asked.content, cut=100)
        with pytest.raises(Refused, match="cannot be read"):
            fetched(catalog, scene)
        assert list(catalog.files.names()) == []
        assert list(catalog.files.begun()) == []
        server.fault = lambda _: False
        scene = fetched(catalog, scene)
        asked = len(server.log)
        assert (scene.kind, scene.width) == ("raster", 120)
        fetched(catalog, scene)
        assert len(server.log) == asked
    pixels, _ = open_pixels(catalog.files, scene).square(0, 0, 100)
    np.testing.assert_array_equal(pixels, texture(100, 120)[:, :, :100])


def test_what_a_service_sends_instead_of_an_image_is_refused(
    catalog: Catalog, tmp_path: Path
) -> None:
    (tmp_path / "sorry").write_text("<html>later</html>")
    with served(tmp_path) as server:
        scene = add_images(catalog, [server.url("sorry")], allow_remote=True).new[0]
        with pytest.raises(Refused, match="sent no image"):
            fetched(catalog, scene)
    assert list(catalog.files.names()) == []


def test_before_and_after_belong_together(catalog: Catalog, tmp_path: Path) -> None:
    pre, post = texture(200, 200), texture(200, 200, 1)
    add_images(catalog, [str(write_raster(tmp_path / "pre.tif", pre))])
    scene = add_images(
        catalog, [str(write_raster(tmp_path / "post.tif", post))], About(before="pre.tif")
    ).new[0]
    with catalog.reading() as session:
        before = session.get_one(Scene, scene.before_id)
    after, earlier = open_pixels(catalog.files, scene, before).square(20, 30, 64)
    np.testing.assert_array_equal(after, post[:, 20:84, 30:94])
    np.testing.assert_array_equal(earlier, pre[:, 20:84, 30:94])


def test_an_image_before_that_nobody_knows_is_refused(catalog: Catalog, raster: Path) -> None:
    with pytest.raises(Refused, match=r"There is no image 'nowhere\.tif'"):
        add_images(catalog, [str(raster)], About(before="nowhere.tif"))
    assert _count(catalog) == 0


def test_the_same_photo_twice_is_kept_once(catalog: Catalog, tmp_path: Path) -> None:
    photo = jpeg(tmp_path / "a.jpg")
    shutil.copy(photo, tmp_path / "b.jpg")
    found = add_images(catalog, [str(photo), str(tmp_path / "b.jpg")])
    assert (len(found.new), len(found.known)) == (1, 1)
    assert list(catalog.files.names()) == [f"{hashlib.sha256(photo.read_bytes()).hexdigest()}.jpeg"]
    with catalog.reading() as session:
        assert session.scalar(select(func.count()).select_from(Entry)) == 1
