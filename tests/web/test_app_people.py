"""The page of admins in a browser: a tagger is added and tags, labels change, and an old tag follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aftermap.cluster.catalog.catalog import note
from app_driven import IN_A_BROWSER, clear, log_in, settled, tag_page, tags
from playwright.sync_api import expect
from web_made import PASSWORD, Site

pytestmark = IN_A_BROWSER


def _role(page: Any, name: str) -> Any:
    row = page.locator("tbody tr", has=page.get_by_role("cell", name=name, exact=True))
    return row.locator("td").nth(1)


def test_a_tagger_is_added_and_labels_get_a_version_that_old_tags_follow(
    visit: Callable[..., Any], site: Site
) -> None:
    clear(site)
    with site.catalog.writing() as session:
        for k in range(60):
            note(session, None, "login refused", f"mallory-{k}")

    admin = visit("admin", "#/people")
    admin.get_by_role("button", name="Change ana").wait_for()
    admin.keyboard.press("n")
    admin.keyboard.type("gil")
    admin.keyboard.press("Tab")
    admin.keyboard.press("Tab")
    admin.keyboard.type(PASSWORD)
    assert admin.locator("[type=password]").get_attribute("autocomplete") == "new-password"
    admin.keyboard.press("Enter")
    change = admin.get_by_role("button", name="Change gil")
    expect(_role(admin, "gil")).to_have_text("tagger")
    expect(change).to_be_focused()

    gil = tag_page(visit, site, "gil")
    gil.keyboard.press("1")
    settled(gil)
    assert [(tag["user"], tag["label"]) for tag in tags(site)] == [("gil", "damage")]
    assert gil.get_by_role("link", name="People").count() == 0
    gil.goto(f"{site.address}/#/people")
    gil.get_by_text("People is for those who have the role admin").wait_for()

    admin.keyboard.press("Enter")
    admin.get_by_label("Role").select_option("viewer")
    admin.get_by_role("button", name="Save").press("Enter")
    expect(_role(admin, "gil")).to_have_text("viewer")
    expect(change).to_be_focused()
    admin.keyboard.press("Enter")
    admin.get_by_label("Role").select_option("tagger")
    admin.keyboard.press("Tab")
    admin.keyboard.press("Enter")  # in the password's field, which stays empty
    expect(_role(admin, "gil")).to_have_text("tagger")

    admin.get_by_role("button", name="Label sets").click()
    admin.get_by_role("button", name="New version of damage").press("Enter")
    admin.get_by_label("Title").first.fill("Collapsed")
    admin.get_by_role("button", name="Add a label").press("Enter")
    admin.keyboard.type("Partly gone")
    admin.keyboard.press("Enter")
    newest = admin.locator("article", has_text="damage, version 2")
    expect(newest.locator("table").first.locator("tbody tr")).to_have_count(4)
    admin.get_by_role("button", name="Audit trail").click()
    rows = admin.locator("tbody tr")
    expect(rows).to_have_count(50)
    told = [row.locator("td").all_inner_texts()[1:] for row in rows.all()[:3]]
    assert told == [
        ["admin", "labels", "damage", "version 2"],
        ["admin", "user", "gil", "role tagger"],
        ["admin", "user", "gil", "role viewer"],
    ]
    admin.get_by_role("button", name="More").click()
    admin.get_by_text("mallory-0", exact=True).wait_for()
    assert PASSWORD not in admin.content()

    gil.goto(f"{site.address}/#/browse")
    gil.reload()  # the session ended with the role
    log_in(gil, "gil")
    card = gil.locator(".card")
    expect(card.locator("b")).to_have_text("Damage")
    gil.get_by_text("Damage is of version 1 of damage; version 2 has:").wait_for()
    card.focus()
    gil.keyboard.press("4")
    expect(card.locator("b")).to_have_text("Partly gone")
    settled(gil)
    (tag,) = tags(site)
    sets = {one["id"]: one for one in site.as_("viewer").get("/label-sets").json()}
    assert (sets[tag["label_set"]]["version"], tag["label"]) == (2, "partly-gone")
    gil.keyboard.press("o")
    gil.get_by_text("Row 200, column 100").wait_for()
    gil.reload(wait_until="networkidle")
    gil.get_by_role("button", name="Collapsed").wait_for()
    gil.keyboard.press("1")
    settled(gil)
    assert [(tag["label_set"] in sets, tag["label"]) for tag in tags(site)] == [(True, "damage")]
