"""Small scenes that the tests share; made here, never downloaded."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import default_client
from rasters import texture, write_raster

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

# As of every cluster that aftermap starts: the clusters of tests, too, would stop for ever now and then.
dask.config.set({"distributed.worker.profile.enabled": False})

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests come first, so that none of them ends a parallel run alone."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True, scope="module")
def _own_scheduler() -> Iterator[None]:
    """A module's clients, however they ended, are no other module's default scheduler."""
    yield
    try:
        default_client()
    except ValueError:
        dask.config.config.pop("scheduler", None)


@pytest.fixture(autouse=True)
def _room(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """While a test marked `alone` runs, no other process of the same test run tests anything."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    alone = request.node.get_closest_marker("alone") is not None
    folder = tmp_path_factory.getbasetemp().parent
    with (folder / "door").open("w") as door, (folder / "room").open("w") as room:
        # Whoever wants the room alone keeps the door shut until all others have left.
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield


@pytest.fixture
def pair_files(tmp_path: Path) -> tuple[Path, Path]:
    """A before and an after image on one grid, 700 x 900 px, a changed square in the middle."""
    pre = texture(700, 900)
    post = pre.copy()
    post[:, 300:360, 400:480] = 255 - post[:, 300:360, 400:480]
    return write_raster(tmp_path / "pre.tif", pre), write_raster(tmp_path / "post.tif", post)


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real imagery; the test is skipped where it is absent."""
    if not (REAL / "imagery").is_dir():
        pytest.skip(f"real imagery is not at {REAL}")
    return REAL / "imagery"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium that is on the machine already; the test is skipped where there is none."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the path")
    with driver.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=found, args=list(QUIET))
        yield opened
        opened.close()
