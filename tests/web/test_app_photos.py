"""Photos as points: where their cameras stood in a raster, and how one comes from there to the photo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aftermap.cluster.catalog.imagery import About, add_images
from aftermap.cluster.catalog.tables import Scene
from app_driven import IN_A_BROWSER
from photos_placed import jpeg, standing_at
from playwright.sync_api import expect
from pyproj import Transformer
from runs import CORNER, CRS, GSD
from web_made import Site

ROW, COL = 300.0, 450.0
"""Where the photo's camera stood in the pair, px."""


@pytest.fixture(scope="module")
def standing(site: Site) -> dict[str, Scene]:
    """A photo within the pair, and one a kilometre west of it."""
    to_degrees = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    y = CORNER[1] - ROW * GSD
    found = {}
    for name, x in (("within", CORNER[0] + COL * GSD), ("outside", CORNER[0] - 1000)):
        gps = standing_at(*to_degrees.transform(x, y))
        photo: Path = jpeg(site.folder / f"{name}.jpg", gps)
        found[name] = add_images(site.catalog, [str(photo)]).new[0]
    return found


def test_points_lie_where_the_cameras_stood(site: Site, standing: dict[str, Scene]) -> None:
    viewer = site.as_("viewer")
    (point,) = viewer.get(f"/scenes/{site.pair}/photos").json()
    assert (point["id"], point["name"]) == (standing["within"].id, "within.jpg")
    assert (point["x"], point["y"]) == pytest.approx((COL, ROW), abs=1)
    assert viewer.get(f"/scenes/{site.photo}/photos").json() == []
    assert viewer.get("/scenes/999/photos").status_code == 404


class TestInABrowser:
    pytestmark = IN_A_BROWSER

    def test_a_point_leads_to_its_photo(
        self, visit: Callable[..., Any], site: Site, standing: dict[str, Scene]
    ) -> None:
        for path in (f"#/tag?scene={site.pair}", "#/map"):
            page = visit("viewer", path)
            with page.expect_response(f"**/scenes/{site.pair}/photos"):
                page.reload()
            page.wait_for_load_state("networkidle")
            page.wait_for_timeout(500)  # the map draws when the browser finds the time
            page.evaluate(
                """() => {
                  window.said = 0;
                  const count = (found) => (window.said += found.length);
                  const about = document.querySelector(".about");
                  if (about) new MutationObserver(count).observe(about, { childList: true });
                }"""
            )
            box = page.locator("canvas").first.bounding_box()
            # The whole pair, 900 x 700 px, lies in the middle, 12 px from the nearer edges.
            scale = min((box["width"] - 24) / 900, (box["height"] - 24) / 700)
            page.mouse.click(
                box["x"] + box["width"] / 2 + (COL - 450) * scale,
                box["y"] + box["height"] / 2 + (ROW - 350) * scale,
            )
            current = page.locator(".scenes [aria-current=true]")
            expect(current).to_contain_text("within.jpg")
            expect(current).to_contain_text("lat 37.")
            assert page.evaluate("window.said") == 0, "the square moved"

    def test_photos_have_a_map_of_their_own_across_the_antimeridian_too(
        self, visit: Callable[..., Any], site: Site, standing: dict[str, Scene]
    ) -> None:
        for name, half in (("west", "E"), ("east", "W")):
            gps = standing_at(179.99, 17.0) | {3: half}
            photo = jpeg(site.folder / f"{name}.jpg", gps)
            add_images(site.catalog, [str(photo)], About(town="Taveuni"))
        page = visit("viewer", "#/map")
        page.get_by_role("button", name="Photos").click()
        links = page.locator(".photo-map a.scene")
        expect(links).to_have_count(4)
        page.get_by_label("Town").select_option(label="Taveuni")
        expect(links).to_have_count(2)
        page.get_by_text("2 photos without tags").wait_for()
        about = page.locator(".photo-map .when")
        page.get_by_label("Town").blur()
        page.keyboard.press("ArrowDown")
        expect(about).to_have_text("west.jpg · time unknown · Taveuni")
        page.keyboard.press("ArrowDown")
        expect(about).to_have_text("east.jpg · time unknown · Taveuni")
        # They stand 2.1 km apart, and the view reaches 60 px beyond both.
        expect(page.locator(".ol-scale-line-inner")).to_have_text("500 m")
        box = page.locator("canvas").first.bounding_box()
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + 60, middle)
        expect(about).to_have_text("west.jpg · time unknown · Taveuni")
        page.mouse.click(box["x"] + box["width"] - 60, middle)
        expect(page.locator(".scenes [aria-current=true]")).to_contain_text("east.jpg")
