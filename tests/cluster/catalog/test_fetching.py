"""Images of services: fetched once, from where they may be, and nobody waits for them who need not."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.imagery import About, add_images, before_of, fetched
from aftermap.cluster.catalog.pixels import open_pixels
from aftermap.cluster.catalog.showing import show
from aftermap.cluster.catalog.tables import Chip, LabelSet, Scene, User
from aftermap.cluster.catalog.tag_batches import add_tags
from aftermap.cluster.catalog.tagging import Said, add_tag
from aftermap.scenes.errors import Refused
from loopback import Asked, Server, served
from PIL import Image
from rasters import texture, write_raster
from sqlalchemy import select


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    folder = tmp_path / "service"
    folder.mkdir()
    write_raster(folder / "exportImage", texture(300, 400, 3))
    with served(folder) as found:
        yield found


@pytest.fixture
def service(catalog: Catalog, server: Server) -> Scene:
    address = server.url("exportImage", "token=geheim")
    return add_images(catalog, [address], allow_remote=True).new[0]


def test_many_who_look_at_once_fetch_it_once(
    catalog: Catalog, server: Server, service: Scene
) -> None:
    def slowly(_: Asked) -> bool:
        time.sleep(0.3)
        return False

    server.fault = slowly
    found: list[Scene] = []
    threads = [
        threading.Thread(target=lambda: found.append(fetched(catalog, service))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.log) == 1
    assert [(one.kind, one.width) for one in found] == [("raster", 400)] * 5
    assert catalog.files.sound(str(found[0].content))
    assert list(catalog.files.begun()) == []


def test_where_it_may_not_nothing_inside_the_own_network_is_asked(
    catalog: Catalog, address: str, server: Server, service: Scene
) -> None:
    place = address if "://" in address else None
    careful = Catalog.open(catalog.folder, place, private_services=False)
    with pytest.raises(Refused, match=r"own network \(127\.0\.0\.1\).*--allow-private-services"):
        fetched(careful, service)
    careful.close()
    assert server.log == []
    assert fetched(catalog, service).kind == "raster"


def test_the_signature_of_an_address_is_not_shown(
    catalog: Catalog, server: Server, service: Scene
) -> None:
    with catalog.reading() as session:
        told = show(session, "scene", str(service.id))
    assert told["source"] == server.url("exportImage")
    assert "geheim" not in str(told)


def test_an_image_before_is_seen_once_it_is_fetched(
    catalog: Catalog, service: Scene, raster: Path
) -> None:
    scene = add_images(catalog, [str(raster)], About(before=str(service.id))).new[0]
    place = (10, 20, 64)
    assert open_pixels(catalog.files, scene, service).square(*place)[1] is None
    before = before_of(catalog, scene)
    seen = open_pixels(catalog.files, scene, before).square(*place)[1]
    np.testing.assert_array_equal(seen, texture(300, 400, 3)[:, 10:74, 20:84])


@pytest.mark.parametrize("together", [False, True])
def test_a_tag_keeps_the_image_before_of_a_service(
    catalog: Catalog, service: Scene, raster: Path, ana: User, labels: LabelSet, together: bool
) -> None:
    scene = add_images(catalog, [str(raster)], About(before=str(service.id))).new[0]
    said = Said(labels.id, "damage", str(uuid.uuid4()), scene.id, (10, 20, 64))
    if together:
        add_tags(catalog, ana, [said])
    else:
        add_tag(catalog, ana, said)
    with catalog.reading() as session:
        chip = session.scalars(select(Chip)).one()
    pixels = np.asarray(Image.open(catalog.files.path(str(chip.before))))
    np.testing.assert_array_equal(pixels.transpose(2, 0, 1), texture(300, 400, 3)[:, 10:74, 20:84])
