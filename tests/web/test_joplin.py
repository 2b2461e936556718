"""A day of a response team on real imagery: tag, review, learn, export, in a real browser and with keys alone."""

from __future__ import annotations

import csv
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.features
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.imagery import About, add_images
from aftermap.cluster.catalog.labels import latest
from aftermap.cluster.catalog.runs import add_run
from aftermap.cluster.catalog.verify import verify
from aftermap.web.pages import BUILT
from playwright.sync_api import expect
from web_made import PASSWORD, Site, add_people, serving

import aftermap as am

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(not (BUILT / "index.html").is_file(), reason="the app is not built"),
]

SIDE = 96
PICTURES = os.environ.get("AFTERMAP_PICTURES")
"""A folder for pictures of the pages, where somebody wants to look."""


@pytest.fixture(scope="module")
def joplin(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The tornado's western part in a catalog, with a run over it."""
    folder = tmp_path_factory.mktemp("joplin")
    pre, post = real / "joplin_west_pre.tif", real / "joplin_west_post.tif"
    run = am.assess(
        pre, post, folder / "run", footprints=real / "joplin_west_damage_predicted.geojson",
        cluster="threads", workers=1, device="cpu",
    )  # fmt: skip
    catalog = Catalog.open(folder / "catalog", create=True)
    before = add_images(catalog, [str(pre)]).new[0]
    about = About(town="Joplin", event="Joplin 2011", before=before.name)
    scene = add_images(catalog, [str(post)], about).new[0]
    number = add_run(catalog, run.path)[0].id
    add_people(catalog)
    with catalog.reading() as session:
        labels = latest(session, "damage").id
    with serving(folder / "catalog") as address:
        found = Site(address, catalog, folder, scene.id, 0, number, labels)
        yield found
        for person in found.people.values():
            person.close()
    catalog.close()


@pytest.fixture(scope="module")
def squares(real: Path) -> list[tuple[int, int, str]]:
    """Squares of the image after, and what another network saw there, in an order by chance."""
    with rasterio.open(real / "joplin_west_post.tif") as source:
        shapes = gpd.read_file(real / "joplin_west_damage_predicted.geojson").to_crs(source.crs)
        burnt = rasterio.features.rasterize(
            [(shape, 1) for shape in shapes[shapes.dmg >= 3].geometry],
            source.shape, transform=source.transform, dtype="uint8",
        )  # fmt: skip
    found = []
    for row in range(0, burnt.shape[0] - SIDE + 1, SIDE):
        for col in range(0, burnt.shape[1] - SIDE + 1, SIDE):
            share = burnt[row : row + SIDE, col : col + SIDE].mean()
            found.append((row, col, "damage" if share > 0.05 else "no-damage"))
    order = np.random.default_rng(0).permutation(len(found))
    return [found[k] for k in order.tolist()]


@pytest.fixture
def page(browser: Any, joplin: Site) -> Iterator[Any]:
    """A page that asks nothing of anybody else, and complains about nothing."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    context.set_default_timeout(60_000)
    made = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    made.on("request", lambda request: asked.append(request.url))
    made.on("pageerror", lambda error: errors.append(str(error)))
    yield made
    context.close()
    assert errors == []
    assert all(url.startswith((f"{joplin.address}/", "data:", "blob:")) for url in asked)


def _picture(page: Any, name: str) -> None:
    if PICTURES:
        page.wait_for_timeout(1500)
        page.screenshot(path=str(Path(PICTURES) / f"{name}.png"))


def _sent(page: Any) -> None:
    page.wait_for_timeout(200)
    page.wait_for_selector("header button:text-is('All sent')")


def _learn(page: Any, joplin: Site, models: int) -> dict[str, Any]:
    """Press the button with a key, and wait until the job has ended; the newest model."""
    start = page.get_by_role("button", name="Learn from the tags")
    start.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".models tbody tr")).to_have_count(models, timeout=240_000)
    found = joplin.as_("viewer").get("/models").json()
    assert len(found) == models
    return dict(found[0])


def test_tag_review_learn_and_export(
    page: Any, joplin: Site, squares: list[tuple[int, int, str]], tmp_path: Path
) -> None:
    page.goto(joplin.address)
    page.get_by_label("Name").wait_for()
    page.keyboard.type("reviewer")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector("header button:text-is('All sent')")

    for row, col, label in squares[:20]:
        page.goto(f"{joplin.address}/#/tag?scene={joplin.pair}&row={row}&col={col}&side={SIDE}")
        page.get_by_text(f"Row {row}, column {col}").wait_for()
        page.keyboard.press("1" if label == "damage" else "2")
        _sent(page)
    _picture(page, "tag")
    kept = joplin.as_("viewer").get("/tags", params={"user": "reviewer"}).json()["tags"]
    assert {(*tag["square"][:2], tag["label"]) for tag in kept} == set(squares[:20])

    page.goto(f"{joplin.address}/#/map")
    page.get_by_text("0 of ").wait_for()
    card = page.get_by_role("region", name="Building", exact=True)
    page.keyboard.press("n")
    for number in range(30):
        card.wait_for()
        name = card.locator(".id").inner_text()
        page.keyboard.press("ar4"[number % 3])
        page.wait_for_function(
            "id => document.querySelector('.building-card .id')?.textContent !== id", arg=name
        )
    _sent(page)
    page.get_by_text("30 of ").wait_for()
    _picture(page, "map")
    counts = joplin.as_("viewer").get(f"/runs/{joplin.run}/counts").json()
    assert counts["reviewed"]["rejected"] == 10
    # Correcting a destroyed building to destroyed is to accept it.
    assert counts["reviewed"]["accepted"] + counts["reviewed"]["corrected"] == 20
    with page.expect_download() as got:
        page.get_by_role("link", name="GeoPackage").click()
    accepted = gpd.read_file(got.value.path())
    assert len(accepted) == 20
    assert (accepted.loc[accepted["verdict"] == "corrected", "reviewed_class"] == 4).all()

    for row, col, label in squares[20:80]:
        said = {"id": str(uuid.uuid4()), "scene": joplin.pair, "square": (row, col, SIDE)}
        answer = joplin.as_("tagger").post(
            "/tags", json=said | {"label_set": joplin.labels, "label": label}
        )
        assert answer.status_code == 201, answer.text
    page.goto(f"{joplin.address}/#/progress")
    first = _learn(page, joplin, 1)
    for row, col, label in squares[80:120]:
        joplin.tag("tagger", (row, col, SIDE), label)
    second = _learn(page, joplin, 2)
    _picture(page, "progress")
    assert second["metrics"]["tags"] > first["metrics"]["tags"]
    assert second["id"] != first["id"]
    assert joplin.as_("viewer").get("/suggestions").json()

    page.goto(f"{joplin.address}/#/browse")
    expect(page.locator(".card").first).to_be_visible()
    _picture(page, "browse")
    page.set_viewport_size({"width": 768, "height": 1024})
    _picture(page, "browse-tablet")
    page.locator(".export select").last.select_option("csv")
    with page.expect_download() as got:
        page.get_by_role("link", name="Download").click()
    with Path(got.value.path()).open(newline="", encoding="utf-8") as stream:
        assert len(list(csv.DictReader(stream))) == 120
    assert verify(joplin.catalog).problems == []
