"""The app in a browser, as tests drive it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aftermap.web.pages import BUILT
from web_made import PASSWORD, Site

IN_A_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BUILT / "index.html").is_file(), reason="the app is not built"),
]

SENT = "header button:text-is('All sent')"


def log_in(page: Any, name: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector(SENT)


def tags(site: Site, **query: object) -> list[dict[str, Any]]:
    return list(site.as_("viewer").get("/tags", params=query).json()["tags"])


def clear(site: Site) -> None:
    """A scene without tags."""
    for tag in tags(site):
        answer = site.tag("admin", None, None, replaces=tag["id"], label_set=tag["label_set"])  # type: ignore[arg-type]
        assert answer.status_code == 201, answer.text


def settled(page: Any) -> None:
    """Whatever was said has reached the server."""
    page.wait_for_selector(SENT)
    page.wait_for_timeout(100)
    page.wait_for_selector(SENT)


def tag_page(visit: Callable[..., Any], site: Site, name: str = "ana", **options: Any) -> Any:
    page = visit(name, f"#/tag?scene={site.pair}&row=200&col=100&side=96", **options)
    page.get_by_text("Row 200, column 100").wait_for()
    return page
