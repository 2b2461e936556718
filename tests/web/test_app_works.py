"""Runs on the Progress page: one that lives, and one that is done."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from aftermap.cluster.learn import jobs
from app_driven import IN_A_BROWSER
from playwright.sync_api import expect
from rasters import texture, write_raster
from slow_run import begin, wait_for_chunks
from web_made import Site

pytestmark = IN_A_BROWSER


@pytest.fixture
def live(site: Site) -> Iterator[Path]:
    """A run beside the catalog, in its third chunk or later."""
    files = [
        write_raster(site.folder / f"{name}.tif", texture(2560, 2560, seed))
        for seed, name in enumerate(("live_pre", "live_post"))
    ]
    process = begin((files[0], files[1]), site.folder / "out" / "live", 3.0)
    try:
        wait_for_chunks(site.folder / "out" / "live", 2)
        yield site.folder / "out" / "live"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_run_is_watched(visit: Callable[..., Any], site: Site, live: Path) -> None:
    page = visit("viewer", "#/progress")
    runs = page.locator(".works")
    line = runs.locator("li", has_text="out/live")
    expect(line).to_contain_text("run · running")
    assert runs.locator("li").first.inner_text().startswith("out/live")
    address = line.get_by_role("link", name="Dashboard of the cluster").get_attribute("href")
    with urlopen(address, timeout=30) as answer:
        assert answer.status == 200
    before = line.locator("progress").get_attribute("value")
    line.locator("summary").click()
    line.get_by_text("chunks/min").wait_for()
    page.wait_for_function(
        "before => document.querySelector('.works progress')?.getAttribute('value') !== before",
        arg=before,
    )
    assert line.get_by_text("chunks/min").is_visible(), "it stays unfolded"
    done = runs.locator("li", has_text=re.compile("^run · run"))
    assert "done" in done.inner_text()


def test_a_job_is_stopped(visit: Callable[..., Any], site: Site) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "aftermap"])
    try:
        job = jobs.begin(site.catalog, jobs.LEARN, "ana").id
        assert jobs.belongs(site.catalog, job, process.pid)
        page = visit("reviewer", "#/progress")
        page.get_by_role("button", name=f"Stop learn {job}").press("Enter")
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Close").click()
        assert process.poll() is None
        page.get_by_role("button", name=f"Stop learn {job}").press("Enter")
        dialog.get_by_role("button", name=f"Stop learn {job}").click()
        assert process.wait(10) == -signal.SIGTERM
        page.locator(".jobs").get_by_text("stopped by reviewer; it was at: begins").wait_for()
    finally:
        process.kill()
        process.wait()
