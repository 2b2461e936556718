"""One server for all tests that leave it as good as they found it, and one of its own for each other file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aftermap.cluster.catalog.catalog import Catalog
from web_made import Site, made, serving


@contextmanager
def _site(folder: Path) -> Iterator[Site]:
    numbers = made(folder)
    catalog = Catalog.open(folder / "catalog")
    with serving(folder / "catalog") as address:
        found = Site(address, catalog, folder, **numbers)
        yield found
        for person in found.people.values():
            person.close()
    catalog.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with _site(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with _site(tmp_path_factory.mktemp("site")) as found:
        yield found
