"""A catalog in each kind of database, and images to put into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.imagery import add_images
from aftermap.cluster.catalog.labels import latest
from aftermap.cluster.catalog.tables import LabelSet, Scene, User
from catalog_made import KINDS, database_address, new_catalog, password_hash
from rasters import texture, write_raster


@pytest.fixture(params=KINDS)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database_address(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def catalog(address: str, tmp_path: Path) -> Iterator[Catalog]:
    with new_catalog(tmp_path / "catalog", address) as opened:
        yield opened


@pytest.fixture
def raster(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "town_20170908.tif", texture(300, 400))


@pytest.fixture
def scene(catalog: Catalog, raster: Path) -> Scene:
    return add_images(catalog, [str(raster)]).new[0]


@pytest.fixture
def ana(catalog: Catalog) -> User:
    with catalog.writing() as session:
        user = User(name="ana", role="tagger", password=password_hash("a long password"))
        session.add(user)
        return user


@pytest.fixture
def labels(catalog: Catalog) -> LabelSet:
    with catalog.reading() as session:
        return latest(session, "damage")
