"""The app in a real browser on a real server: what is typed, tapped and clicked is what the catalog holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aftermap.cluster.catalog.imagery import add_images
from aftermap.cluster.catalog.tables import Scene, Suggestion
from app_driven import IN_A_BROWSER, SENT, clear, settled, tag_page, tags
from playwright.sync_api import expect
from rasters import texture, write_raster
from sqlalchemy import delete
from web_made import MARKUP, Site

pytestmark = IN_A_BROWSER


def test_five_squares_are_tagged_by_keyboard_alone_and_one_is_taken_back(
    visit: Callable[..., Any], site: Site
) -> None:
    clear(site)
    page = tag_page(visit, site)
    for key in "12123":
        page.keyboard.press(key)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+ArrowRight")
    settled(page)
    page.get_by_text("Row 248, column 581").wait_for()
    kept = tags(site, user="ana")[::-1]
    assert [tag["square"] for tag in kept] == [[200, 100 + 96 * k, 96] for k in range(5)]
    assert [tag["label"] for tag in kept] == [
        "damage", "no-damage", "damage", "no-damage", "cannot-tell",
    ]  # fmt: skip
    page.keyboard.press("u")
    settled(page)
    assert [tag["id"] for tag in tags(site, user="ana")[::-1]] == [tag["id"] for tag in kept[:4]]


def test_another_label_corrects_one_s_own_tag_and_undo_brings_the_first_back(
    visit: Callable[..., Any], site: Site
) -> None:
    clear(site)
    page = tag_page(visit, site)
    for key in ("1", "ArrowLeft", "ArrowLeft", "2"):
        page.keyboard.press(key)
    settled(page)
    assert [(tag["label"], tag["square"]) for tag in tags(site)] == [("no-damage", [200, 100, 96])]
    page.keyboard.press("Control+z")
    settled(page)
    assert [(tag["label"], tag["square"]) for tag in tags(site)] == [("damage", [200, 100, 96])]

    held: list[Any] = []  # so are the scene's tags, and with them what is said meanwhile
    page.route("**/api/tags?*", lambda request: held.append(request))
    page.reload()
    page.get_by_text("Row 200, column 100").wait_for()
    for key in ("2", "ArrowDown", "1", "3", "u"):
        page.keyboard.press(key)
    page.get_by_text("Row 248, column 388").wait_for()
    assert [tag["label"] for tag in tags(site)] == ["damage"]
    for request in held:
        request.continue_()
    page.get_by_text("Undone").wait_for()
    settled(page)
    assert [(tag["label"], tag["square"]) for tag in tags(site)] == [
        ("damage", [248, 196, 96]), ("no-damage", [200, 100, 96]),
    ]  # fmt: skip


def test_a_polygon_is_drawn_with_keys(visit: Callable[..., Any], site: Site) -> None:
    clear(site)
    page = tag_page(visit, site)
    page.keyboard.press("p")
    for moves in ("", "ArrowRight", "ArrowDown"):
        for _ in range(4):
            if moves:
                page.keyboard.press(moves)
        page.keyboard.press("Space")
    page.keyboard.press("Enter")
    page.get_by_text("Now give the polygon its label").wait_for()
    page.keyboard.press("1")
    settled(page)
    (tag,) = tags(site)
    ring = tag["polygon"]["coordinates"][0]
    (x0, y0), (x1, y1), (x2, y2), last = ring
    assert last == [x0, y0]
    assert y1 == pytest.approx(y0, abs=0.01)
    assert x2 == pytest.approx(x1, abs=0.01)
    assert x1 - x0 == pytest.approx(y2 - y1, abs=0.01)
    assert 0 < x0 < x1 < 900
    assert 0 < y0 < y2 < 700


def test_as_many_suggestions_are_asked_for_as_the_server_gives(
    visit: Callable[..., Any], site: Site, tmp_path: Path
) -> None:
    """Of a scene that the page does not know yet, so that a thousand are passed over quickly."""
    page = tag_page(visit, site)
    image = write_raster(tmp_path / "later.tif", texture(128, 128, 9), nodata=0)
    scene = add_images(site.catalog, [str(image)]).new[0].id
    with site.catalog.writing() as session:
        session.add_all(
            Suggestion(scene_id=scene, row=k, col=0, side=16, score=0.5, reason="uncertain")
            for k in range(1_010)
        )
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    skip = page.get_by_role("button", name="Next suggestion")
    skip.evaluate(
        """async (button) => {
          const { fetch } = window;
          let waiting = 0;
          window.fetch = (...asked) => {
            waiting += 1;
            return fetch(...asked).finally(() => (waiting -= 1));
          };
          for (let k = 0; k < 1_005; k++) {
            button.click();
            do await new Promise((done) => setTimeout(done, 1));
            while (waiting);
          }
        }"""
    )
    page.wait_for_timeout(300)
    with site.catalog.writing() as session:
        session.execute(delete(Suggestion))
        session.delete(session.get_one(Scene, scene))
    limits = [int(url.rpartition("=")[2]) for url in asked if "/suggestions" in url]
    assert max(limits) == 1_000
    assert page.locator("#warned .message").count() == 0


def test_suggestions_follow_each_other(visit: Callable[..., Any], site: Site) -> None:
    clear(site)
    squares = [(300, 400, 64), (10, 500, 64), (500, 100, 64)]
    with site.catalog.writing() as session:
        for row, col, side in squares:
            session.add(
                Suggestion(
                    scene_id=site.pair, row=row, col=col, side=side, score=0.5, reason="uncertain"
                )
            )
    page = tag_page(visit, site)
    page.keyboard.press("s")
    for row, col, _ in squares[:2]:
        page.get_by_text(f"Row {row}, column {col}").wait_for()
        page.keyboard.press("2")
    page.get_by_text("Row 500, column 100").wait_for()
    page.get_by_text("Suggested: uncertain, score 0.50").wait_for()
    settled(page)
    assert [tuple(tag["square"]) for tag in tags(site)[::-1]] == squares[:2]
    with site.catalog.writing() as session:
        session.execute(delete(Suggestion))


def test_before_and_after_are_compared_with_keys(visit: Callable[..., Any], site: Site) -> None:
    page = tag_page(visit, site)
    before, after = (page.locator(".when", has_text=name) for name in ("Before", "After"))
    assert after.is_visible()
    assert before.is_hidden()
    with page.expect_request(lambda request: "layer=pre" in request.url):
        page.keyboard.press("b")
    assert before.is_visible()
    assert after.is_hidden()
    page.keyboard.press(".")
    line = page.get_by_role("slider", name="Line between before and after")
    assert line.get_attribute("aria-valuenow") == "50"
    page.keyboard.press(".")
    page.keyboard.press(".")
    page.keyboard.press(",")
    assert line.get_attribute("aria-valuenow") == "54"


def test_who_was_first_is_told(visit: Callable[..., Any], site: Site) -> None:
    clear(site)
    page = tag_page(visit, site)
    page.keyboard.press("1")
    settled(page)
    (tag,) = tags(site)
    assert site.tag("reviewer", None, "cannot-tell", replaces=tag["id"]).status_code == 201  # type: ignore[arg-type]
    for key in ("ArrowLeft", "ArrowLeft", "2"):
        page.keyboard.press(key)
    page.get_by_role("alert").get_by_text("reviewer").wait_for()
    settled(page)
    assert [(tag["user"], tag["label"]) for tag in tags(site)] == [("reviewer", "cannot-tell")]


def test_a_tap_holds_the_square_and_buttons_tag_it(visit: Callable[..., Any], site: Site) -> None:
    clear(site)
    page = tag_page(visit, site, width=768, height=1024, has_touch=True)
    box = page.locator(".picture").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2 + 60, box["y"] + box["height"] / 2)
    page.wait_for_timeout(400)
    page.get_by_role("button", name="Damage", exact=False).first.tap()
    settled(page)
    (tag,) = tags(site)
    row, col, side = tag["square"]
    assert side == 96
    assert row == 200
    assert col > 100


def test_tags_are_mended_among_the_latest(visit: Callable[..., Any], site: Site) -> None:
    clear(site)
    for k in range(3):
        assert site.tag("ana", (100, 100 + 100 * k, 96)).status_code == 201
    page = visit("ana", "#/browse")
    cards = page.locator(".card")
    expect(cards).to_have_count(3)
    cards.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("2")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Delete")
    settled(page)
    expect(cards).to_have_count(2)
    assert [(tag["label"], tag["square"][1]) for tag in tags(site)] == [
        ("no-damage", 200), ("damage", 300),
    ]  # fmt: skip
    widths = page.locator("img.chip").evaluate_all("images => images.map(i => i.naturalWidth)")
    assert widths == [96, 96]


def test_a_disagreement_is_settled_with_one_click(visit: Callable[..., Any], site: Site) -> None:
    clear(site)
    for name, label in (("ana", "damage"), ("ben", "no-damage")):
        assert site.tag(name, (300, 300, 96), label).status_code == 201
        assert site.tag(name, (100, 100, 96), "damage").status_code == 201
    page = visit("reviewer", "#/browse?part=agreement")
    pair = page.get_by_role("row", name=re.compile("^ana ben"))
    assert pair.inner_text().split() == ["ana", "ben", "2", "1", "50", "%", "0.00"]
    page.get_by_role("button", name="Settle as No damage").click()
    settled(page)
    assert [tag["label"] for tag in tags(site, scene=site.pair) if tag["square"][0] == 300] == [
        "no-damage", "no-damage",
    ]  # fmt: skip


def test_three_buildings_are_reviewed_with_keys_and_counted(
    visit: Callable[..., Any], site: Site
) -> None:
    page = visit("reviewer", "#/map")
    card = page.get_by_role("region", name="Building", exact=True)
    seen = []
    page.get_by_text("0 of 6 reviewed").wait_for()
    page.keyboard.press("n")
    for key in ("a", "3", "r"):
        card.wait_for()
        seen.append(card.locator(".id").inner_text())
        page.keyboard.press(key)
        page.wait_for_function(
            "id => document.querySelector('.building-card .id').textContent !== id", arg=seen[-1]
        )
    settled(page)
    page.get_by_text("3 of 6 reviewed").wait_for()
    reviewed = site.as_("viewer").get(f"/runs/{site.run}/counts").json()["reviewed"]
    assert sum(reviewed.values()) == 3
    assert reviewed["rejected"] == 1
    assert len(set(seen)) == 3
    page.keyboard.press("u")
    settled(page)
    page.get_by_text("2 of 6 reviewed").wait_for()
    assert site.as_("viewer").get(f"/runs/{site.run}/counts").json()["reviewed"]["rejected"] == 0
    with page.expect_download() as got:
        page.get_by_role("link", name="CSV").click()
    lines = got.value.path().read_text().splitlines()
    assert len(lines) == 1 + 2


def test_a_building_whose_verdict_was_taken_back_is_reviewed_again(
    visit: Callable[..., Any], site: Site
) -> None:
    page = visit("reviewer", "#/map")
    card = page.get_by_role("region", name="Building", exact=True)
    page.get_by_text(re.compile("^[0-9] of 6 reviewed")).wait_for()
    page.get_by_label("Go on by itself").uncheck()
    page.keyboard.press("n")
    card.get_by_text("Not reviewed yet").wait_for()
    name = card.locator(".id").inner_text()
    page.keyboard.press("a")
    card.get_by_text("accepted").wait_for()
    page.keyboard.press("u")
    card.get_by_text("Not reviewed yet").wait_for()
    settled(page)
    page.reload()
    page.wait_for_selector(SENT)
    page.get_by_role("button", name="Next unreviewed").click()
    card.wait_for()
    assert card.locator(".id").inner_text() == name
    page.keyboard.press("4")
    page.wait_for_timeout(300)
    settled(page)
    features = site.as_("viewer").get(f"/runs/{site.run}/buildings").json()["features"]
    (kept,) = (one["properties"]["review"] for one in features if one["id"] == name)
    assert kept is not None
    assert kept["damage_class"] == 4


def test_names_with_markup_are_text(visit: Callable[..., Any], site: Site) -> None:
    page = visit("viewer", "#/tag")
    expect(page.locator(".scenes")).to_contain_text(MARKUP)
    assert page.locator("main script").count() == 0


def test_who_may_only_look_changes_nothing(visit: Callable[..., Any], site: Site) -> None:
    clear(site)
    page = tag_page(visit, site, "viewer")
    page.keyboard.press("1")
    assert page.get_by_role("button", name="Damage", exact=False).first.is_disabled()
    page.goto(f"{site.address}/#/progress")
    assert page.get_by_role("button", name="Learn from the tags").is_disabled()
    assert tags(site) == []
