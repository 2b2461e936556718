"""What is tagged reaches the server once, whatever comes between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aftermap.cluster.catalog.people import log_out_everywhere
from aftermap.cluster.catalog.tables import User
from app_driven import IN_A_BROWSER, clear, log_in, settled, tag_page, tags
from playwright.sync_api import expect
from sqlalchemy import select
from web_made import Site

pytestmark = IN_A_BROWSER


def test_what_is_tagged_while_the_network_is_away_is_kept_and_sent_once(
    visit: Callable[..., Any], site: Site
) -> None:
    clear(site)
    page = tag_page(visit, site)
    page.route("**/api/tags", lambda route: route.abort())
    for key in "112":
        page.keyboard.press(key)
    page.get_by_role("button", name="3 unsent").wait_for()
    page.reload()
    page.get_by_role("button", name="3 unsent").wait_for()
    assert tags(site) == []
    page.unroute("**/api/tags")

    def lost(route: Any) -> None:
        """The server hears, but its answer is lost: what is sent again must not count twice."""
        if len(tags(site)) == 0:
            route.fetch()
            route.abort()
        else:
            route.continue_()

    page.route("**/api/tags", lost)
    settled(page)
    assert [tag["label"] for tag in tags(site)[::-1]] == ["damage", "damage", "no-damage"]


def test_what_is_tagged_after_the_session_ended_is_sent_when_one_is_back(
    visit: Callable[..., Any], site: Site
) -> None:
    clear(site)
    page = tag_page(visit, site)
    with site.catalog.writing() as session:
        log_out_everywhere(session, session.scalars(select(User).where(User.name == "ana")).one())
    page.keyboard.press("1")
    page.get_by_role("button", name="Log in").wait_for()
    assert tags(site) == []
    log_in(page, "ana")
    assert [tag["user"] for tag in tags(site)] == ["ana"]


def test_what_the_server_fails_over_holds_up_nothing_else(
    visit: Callable[..., Any], site: Site, expected: set[int]
) -> None:
    """It is stepped over, with what builds on it, tried again, and can be discarded."""
    expected.add(500)
    clear(site)
    page = tag_page(visit, site)

    def fail(route: Any) -> None:
        if route.request.post_data_json.get("square") == [200, 100, 96]:
            route.fulfill(status=500, json={"error": "The disk is full.", "code": 500})
        else:
            route.continue_()

    page.route("**/api/tags", fail)
    page.keyboard.press("1")
    page.get_by_role("button", name="1 unsent").wait_for()
    for key in ("2", *4 * ["ArrowLeft"], "3"):  # the last corrects the one that fails
        page.keyboard.press(key)
    page.get_by_role("button", name="2 unsent").wait_for()
    page.wait_for_timeout(200)
    assert [tag["label"] for tag in tags(site)] == ["no-damage"]
    page.get_by_role("button", name="2 unsent").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("The disk is full.").wait_for()
    expect(dialog.get_by_role("button", name="Discard")).to_have_count(1)
    expect(dialog.get_by_role("button", name="Send again")).to_have_count(0)
    page.unroute("**/api/tags")
    dialog.get_by_role("button", name="Send now").click()
    settled(page)
    assert sorted(tag["label"] for tag in tags(site)) == ["cannot-tell", "no-damage"]


def test_what_is_stuck_is_discarded_with_what_builds_on_it(
    visit: Callable[..., Any], site: Site, expected: set[int]
) -> None:
    expected.add(500)
    clear(site)
    page = tag_page(visit, site)
    broken = {"status": 500, "json": {"error": "The disk is full.", "code": 500}}
    page.route("**/api/tags", lambda route: route.fulfill(**broken))
    for key in ("1", "ArrowLeft", "ArrowLeft", "2"):
        page.keyboard.press(key)
    page.get_by_role("button", name="2 unsent").click()
    page.get_by_role("dialog").get_by_role("button", name="Discard").click()
    page.get_by_text("Everything has reached the server.").wait_for()
    page.unroute("**/api/tags")
    page.keyboard.press("Escape")
    settled(page)
    assert tags(site) == []


def test_what_was_refused_is_sent_again_once_the_image_is_back(
    visit: Callable[..., Any], site: Site, expected: set[int]
) -> None:
    expected.add(400)
    clear(site)
    page = tag_page(visit, site)
    image, away = site.folder / "post_20230208.tif", site.folder / "unmounted.tif"
    image.rename(away)
    try:
        page.route("**/api/tags", lambda route: route.abort())  # so that two wait at once
        for key in ("1", "ArrowLeft", "ArrowLeft", "2"):
            page.keyboard.press(key)
        page.get_by_role("button", name="2 unsent").click()
        page.unroute("**/api/tags")
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Send now").click()
        dialog.get_by_text("is not where it was").wait_for()
        dialog.get_by_text("What it changes was refused.").wait_for()
    finally:
        away.rename(image)
    assert tags(site) == []
    dialog.get_by_role("button", name="Send again").first.click()
    settled(page)
    assert [tag["label"] for tag in tags(site)] == ["no-damage"]


def test_a_tile_that_failed_is_asked_for_again(
    visit: Callable[..., Any], site: Site, expected: set[int]
) -> None:
    expected.add(500)
    page = visit("viewer", "#/progress")
    failed: list[str] = []

    def once(route: Any) -> None:
        if "/tiles/" in route.request.url and route.request.url not in failed:
            failed.append(route.request.url)
            route.fulfill(status=500)
        else:
            route.continue_()

    page.route("**/tiles/**", once)
    with page.expect_response(lambda answer: "/tiles/" in answer.url and answer.ok) as answer:
        page.goto(f"{site.address}/#/tag?scene={site.pair}&row=200&col=100&side=96")
    assert answer.value.url in failed
