"""What an image does to its decoder: the request for it is told so, and all others go on."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.imagery import add_images
from aftermap.cluster.catalog.tables import Scene
from aftermap.scenes.scene import ReadError
from aftermap.web.decoding import WORKERS, Bounds, Decoder
from aftermap.web.limits import Busy
from aftermap.web.tiles import SIDE, Place
from PIL import Image
from rasters import texture, write_raster
from web_made import Site, free_port, start

WHOLE = Place(0, 0, SIDE, True)


def _pid(*_: Any) -> int:
    return os.getpid()


def _die(_files: Any, _scene: Any, number: int) -> None:
    os.kill(os.getpid(), number)


def _crash(*_: Any) -> None:
    ctypes.string_at(0)


def _hang(*_: Any) -> None:
    time.sleep(60)


def _swell(*_: Any) -> int:
    return int(np.ones(1 << 30, np.uint8).sum())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Scene]:
    folder = tmp_path_factory.mktemp("decoding")
    catalog = Catalog.open(folder / "catalog", create=True)
    path = write_raster(folder / "town.tif", texture(300, 300))
    return catalog, add_images(catalog, [str(path)]).new[0]


@pytest.fixture(scope="module")
def decoder(scene: tuple[Catalog, Scene]) -> Iterator[Decoder]:
    found = Decoder(scene[0].files, Bounds(seconds=2, memory=512 << 20))
    yield found
    found.close()


@pytest.mark.parametrize(
    ("function", "given", "told"),
    [
        (_die, (signal.SIGKILL,), "ended by itself"),
        (_crash, (), "ended by itself"),
        (_swell, (), "more memory than one image is given"),
        (_hang, (), "too long to decode"),
    ],
)
def test_what_its_decoder_cannot_stand_is_told_and_harms_nobody_else(
    decoder: Decoder, scene: tuple[Catalog, Scene], function: Any, given: Any, told: str
) -> None:
    catalog, town = scene
    bad = Scene(id=hash(told), name="town that is bad")
    before = decoder.tile(town, None, WHOLE, "post")
    with ThreadPoolExecutor(4) as threads:
        failing = threads.submit(decoder._read, bad, function, catalog.files, bad, *given)
        others = [threads.submit(decoder.tile, town, None, WHOLE, "post") for _ in range(12)]
        assert [other.result() for other in others] == [before] * 12
        with pytest.raises(ReadError, match=rf"town.*cannot be read.*{told}"):
            failing.result()
    assert decoder.tile(town, None, WHOLE, "post") == before


def test_an_image_that_hangs_takes_every_process_for_a_moment_only(
    scene: tuple[Catalog, Scene],
) -> None:
    """However many of its parts are asked for: of those that wait none is begun, nor for a while after."""
    catalog, town = scene
    bad = Scene(id=78, name="endless")
    decoder = Decoder(catalog.files, Bounds(seconds=1))
    try:
        decoder.tile(town, None, WHOLE, "post")
        with ThreadPoolExecutor(WORKERS + 4) as threads:
            began = time.monotonic()
            hanging = [
                threads.submit(decoder._read, bad, _hang, catalog.files, bad)
                for _ in range(WORKERS + 3)
            ]
            time.sleep(0.1)
            while time.monotonic() < began + 10:
                with suppress(Busy):
                    assert decoder.tile(town, None, WHOLE, "post")
                    break
            else:
                raise AssertionError("nobody else had a turn")
            for one in hanging:
                with pytest.raises((ReadError, Busy)):
                    one.result()
        assert time.monotonic() - began < 10
        began = time.monotonic()
        with pytest.raises(ReadError, match="endless cannot be read: it takes too long"):
            decoder._read(bad, _hang, catalog.files, bad)
        assert time.monotonic() - began < 0.5
    finally:
        decoder.close()


def test_a_small_file_of_a_huge_photo_is_refused_and_forgotten(
    scene: tuple[Catalog, Scene], tmp_path: Path
) -> None:
    """Some hundred kilobytes, which decoded take 190 MB."""
    catalog, town = scene
    Image.new("RGB", (8_000, 8_000)).save(tmp_path / "huge.png")
    huge = add_images(catalog, [str(tmp_path / "huge.png")]).new[0]
    decoder = Decoder(catalog.files, Bounds(memory=150 << 20))
    try:
        with pytest.raises(ReadError, match=r"huge.* more memory than one image is given"):
            decoder.tile(huge, None, WHOLE, "post")
        assert decoder.tile(town, None, WHOLE, "post")
    finally:
        decoder.close()


def test_processes_that_are_killed_while_idle_are_replaced(
    decoder: Decoder, scene: tuple[Catalog, Scene]
) -> None:
    catalog, town = scene
    expected = decoder.tile(town, None, WHOLE, "post")
    os.kill(decoder._read(town, _pid, catalog.files, town), signal.SIGKILL)
    time.sleep(0.5)
    assert decoder.tile(town, None, WHOLE, "post") == expected


def test_those_who_look_at_once_have_one_set_of_overviews(tmp_path: Path) -> None:
    """Who is told to come again, as all may be while they are made, does so until there they are."""
    catalog = Catalog.open(tmp_path / "catalog", create=True)
    path = write_raster(tmp_path / "wide.tif", texture(304, 2208))
    wide = add_images(catalog, [str(path)]).new[0]
    mine = Decoder(catalog.files)

    def look(_: int) -> bytes:
        until = time.monotonic() + 20
        while True:
            try:
                return mine.tile(wide, None, Place(0, 0, 4096, False), "post")
            except Busy:
                assert time.monotonic() < until
                time.sleep(0.05)

    with ThreadPoolExecutor(6) as threads:
        assert len(set(threads.map(look, range(12)))) == 1
    mine.close()
    assert len(list((catalog.folder / "cache/overviews").iterdir())) == 2


def _family(pid: int) -> set[int]:
    """The processes that a process has started, and those that they have."""
    found, parents = set(), {pid}
    while parents:
        children = {
            int(child)
            for parent in parents
            for file in Path(f"/proc/{parent}/task").glob("*/children")
            for child in file.read_text().split()
        }
        found |= children
        parents = children
    return found


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_server(site: Site, how: signal.Signals) -> None:
    port = free_port()
    process = start(site.folder / "catalog", port)
    try:
        person = site.as_("viewer")
        url = f"http://127.0.0.1:{port}/api/scenes/{site.pair}/tiles/2/1/1"
        assert person.get(url).status_code == 200
        family = _family(process.pid)
        assert len(family) >= 2
    finally:
        process.send_signal(how)
        process.wait(20)
    until = time.monotonic() + 10
    while any(_alive(pid) for pid in family):
        assert time.monotonic() < until, "a process was left behind"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
