"""One server for all tests that leave it as good as they found it, and one of its own for each other file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aftermap.cluster.catalog.catalog import Catalog
from app_driven import log_in
from watched import watched
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


@pytest.fixture
def expected() -> set[int]:
    """Codes that the browser may complain about: the first is the question who is logged in."""
    return {401, 409}


@pytest.fixture
def visit(browser: Any, site: Site, expected: set[int]) -> Iterator[Callable[..., Any]]:
    """Logs somebody in; in the end nothing was asked of another host, and nothing complained about."""
    with watched(browser, patience_s=30) as seen:

        def visit(name: str, path: str = "", **options: Any) -> Any:
            page = seen.open(**options)
            page.goto(f"{site.address}/{path}")
            log_in(page, name)
            return page

        yield visit
    # The browser itself notes what is not 2xx.
    codes = "|".join(map(str, expected))
    noted = re.compile(f"the server responded with a status of ({codes})|net::ERR_FAILED")
    assert [text for text in seen.complaints if not noted.search(text)] == []
    assert {url.split("/api/")[0] for url in seen.requests if "/api/" in url} == {site.address}
    assert all(url.startswith((f"{site.address}/", "data:", "blob:")) for url in seen.requests)
