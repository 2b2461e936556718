"""The report's page in a real browser: what is dragged, typed and clicked does what it says."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aftermap.cluster.report import write_report
from aftermap.cluster.report_places import find_places
from aftermap.scenes.synth import Synth, write
from finished import AFTER, BEFORE, GRID, NASTY, facts, pictures, places, write_run
from PIL import Image
from watched import watched

import aftermap as am

pytestmark = pytest.mark.slow

ROWS = "#rows tbody tr[data-row]"
CODES = np.zeros((4, 5), np.uint8)
CODES[0, 0] = 4


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a report and, at the end, demands that nothing was loaded or complained about."""
    with watched(browser, patience_s=60) as seen:

        def visit(path: Path, **options: Any) -> Any:
            page = seen.open(**options)
            page.goto(path.as_uri())
            if options.get("java_script_enabled", True):
                page.wait_for_selector("html.ready")
            return page

        yield visit
    assert not seen.complaints
    assert all(url.startswith(("file://", "data:")) for url in seen.requests)
    assert len([url for url in seen.requests if url.startswith("file://")]) == len(seen.windows)


def report(folder: Path, buildings: Any = None, before: bool = True, **given: Any) -> Path:
    shown = find_places(write_run(folder / "run", buildings, **given), GRID, CODES)
    path = folder / "report.html"
    write_report(path, facts(buildings), pictures(before), shown)
    return path


def colour(page: Any, x: float, y: float = 0.35) -> np.ndarray:
    """What stands on the map at shares of its width and height."""
    box = page.locator("#map").bounding_box()
    image = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    at = int(box["x"] + x * box["width"]), int(box["y"] + y * box["height"])
    return np.array(image.getpixel(at), float)


def close(seen: np.ndarray, wanted: tuple[int, int, int]) -> bool:
    return bool(np.abs(seen - wanted).max() < 30)


def soon(page: Any, check: Callable[[], bool]) -> bool:
    """Whether something becomes so: a map is drawn when the browser finds the time."""
    for _ in range(100):
        if check():
            return True
        page.wait_for_timeout(100)
    return False


def shows(page: Any, wanted: tuple[int, int, int], x: float = 0.5, y: float = 0.5) -> bool:
    return soon(page, lambda: close(colour(page, x, y), wanted))


def painted(page: Any) -> bool:
    """Whether something lies over the after image in the middle of the map."""
    return soon(page, lambda: not shows(page, AFTER, 0.5, 0.5))


def zoom_to_first(page: Any) -> None:
    """Click the first row, and let go of it again."""
    page.locator(ROWS).first.click()
    assert page.locator("#card").is_visible()
    page.keyboard.press("Escape")
    page.wait_for_timeout(300)


def drag(page: Any, to: float) -> None:
    handle = page.locator("#swipe span").bounding_box()
    stage = page.locator("#map").bounding_box()
    y = handle["y"] + handle["height"] / 2
    page.mouse.move(handle["x"] + handle["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(stage["x"] + to * stage["width"], y, steps=5)
    page.mouse.up()


def click_map(page: Any, x: float = 0.5, y: float = 0.5) -> None:
    box = page.locator("#map").bounding_box()
    at = box["x"] + x * box["width"], box["y"] + y * box["height"]
    # A hand hovers before it clicks; without that the click may be taken for the start of a drag.
    page.mouse.move(*at)
    page.wait_for_timeout(100)
    page.mouse.click(*at)


def view(page: Any, name: str) -> None:
    page.locator("#views label", has_text=name).click()


def test_the_swipe_parts_before_and_after(tmp_path: Path, visit: Callable[..., Any]) -> None:
    page = visit(report(tmp_path, places(0)))
    assert shows(page, BEFORE, 0.4, 0.35)
    assert shows(page, AFTER, 0.6, 0.35)
    drag(page, 0.75)
    assert shows(page, BEFORE, 0.6, 0.35)
    assert shows(page, AFTER, 0.78, 0.35)
    slider = page.locator("#swipe")
    assert abs(int(slider.get_attribute("aria-valuenow")) - 75) <= 1
    slider.press("Home")
    assert slider.get_attribute("aria-valuenow") == "0"
    assert shows(page, AFTER, 0.4, 0.35)
    for _ in range(3):
        slider.press("Shift+ArrowRight")
    slider.press("ArrowRight")
    slider.press("ArrowLeft")
    assert slider.get_attribute("aria-valuenow") == "30"
    view(page, "Before")
    assert shows(page, BEFORE, 0.6, 0.35)
    assert not slider.is_visible()
    view(page, "After")
    assert shows(page, AFTER, 0.4, 0.35)


def test_a_row_and_its_building_find_each_other(tmp_path: Path, visit: Callable[..., Any]) -> None:
    page = visit(report(tmp_path, places(60)))
    view(page, "After")
    for number in (0, 2, 9):
        row = page.locator(ROWS).nth(number)
        name = row.locator("td").nth(3).inner_text()
        row.click()
        assert page.locator("#card .id").inner_text() == name
        assert page.locator("tr.picked td").nth(3).inner_text() == name
        page.keyboard.press("Escape")
        assert page.locator("tr.picked").count() == 0
        assert not page.locator("#card").is_visible()
        page.wait_for_timeout(300)
        click_map(page)
        page.wait_for_selector("tr.picked")
        assert page.locator("tr.picked td").nth(3).inner_text() == name
        assert page.locator("#card .id").inner_text() == name
    page.locator("tr.picked").press("ArrowDown")
    assert page.locator("#card .id").inner_text() != name


def test_a_building_far_down_is_scrolled_to(tmp_path: Path, visit: Callable[..., Any]) -> None:
    rows = places(900)
    page = visit(report(tmp_path, rows))
    last = page.evaluate(
        "JSON.parse(document.getElementById('data').textContent).columns.id.at(-1)"
    )
    page.fill("#text", last)
    zoom_to_first(page)
    page.click("#reset")
    assert page.locator("#rows").evaluate("e => e.scrollTop") == 0
    view(page, "After")
    click_map(page)
    page.wait_for_selector("tr.picked")
    assert page.locator("tr.picked td").nth(3).inner_text() == last
    assert page.locator("#rows").evaluate("e => e.scrollTop") > 10_000
    assert page.locator("tr.picked").is_visible()


def test_what_is_filtered_goes_from_table_and_map(
    tmp_path: Path, visit: Callable[..., Any]
) -> None:
    rows = places(60)
    rows["flags"] = np.where(np.arange(60) % 7 == 0, "edge", "")
    page = visit(report(tmp_path, rows))
    view(page, "After")
    zoom_to_first(page)
    assert painted(page)
    page.locator(".chip", has_text="Destroyed").click()
    assert shows(page, AFTER, 0.5, 0.5)
    assert page.locator("#rows").inner_text().count("Destroyed") == 0
    count = page.locator("#count")
    kept = int((rows["damage_class"] != 4).sum())
    assert count.inner_text() == f"{kept} of 60 buildings"
    page.click("#reset")
    assert count.inner_text() == "60 buildings"
    assert painted(page)
    page.fill("#text", "EDGE")
    assert count.inner_text() == "9 of 60 buildings"
    page.click("#reset")
    page.locator("#low").fill("50")
    page.locator("#high").fill("80")
    kept = int(rows["damage_score"].between(0.5, 0.8).sum())
    assert count.inner_text() == f"{kept} of 60 buildings"
    page.click("#reset")
    page.locator("#overlay").uncheck()
    assert shows(page, AFTER, 0.5, 0.5)


def test_the_opacity_fades_the_overlay(tmp_path: Path, visit: Callable[..., Any]) -> None:
    page = visit(report(tmp_path, places(60)))
    view(page, "After")
    zoom_to_first(page)
    page.locator("#opacity").fill("100")
    assert painted(page)
    strong = np.abs(colour(page, 0.5, 0.5) - AFTER).sum()
    page.locator("#opacity").fill("10")
    assert soon(page, lambda: np.abs(colour(page, 0.5, 0.5) - AFTER).sum() < strong / 3)


def test_not_analysed_areas_are_hatched(tmp_path: Path, visit: Callable[..., Any]) -> None:
    """The lower right 100 x 80 m of 500 x 400 m; the map shows all of them at the start."""
    page = visit(report(tmp_path, places(0)))
    view(page, "After")
    box = page.locator("#map").bounding_box()
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    per_metre = min((box["width"] - 16) / 500, (box["height"] - 16) / 400)
    x = box["x"] + box["width"] / 2 + 200 * per_metre
    y = box["y"] + box["height"] / 2 + 160 * per_metre
    crop = image.crop((int(x) - 15, int(y) - 15, int(x) + 15, int(y) + 15))
    spread = np.asarray(crop, float).reshape(-1, 3)
    assert spread.std(axis=0).max() > 15
    assert not close(spread.mean(axis=0), AFTER)
    click_map(page, (x - box["x"]) / box["width"], (y - box["y"]) / box["height"])
    page.wait_for_selector("#card")
    assert "no data" in page.locator("#card").inner_text()
    assert "8\u202f000 m²" in page.locator("#card").inner_text()
    page.keyboard.press("Escape")
    assert not page.locator("#card").is_visible()
    page.locator("#gaps").uncheck()
    at = (x - box["x"]) / box["width"], (y - box["y"]) / box["height"]
    assert shows(page, AFTER, *at)


def test_columns_sort_both_ways_and_the_unknown_comes_last(
    tmp_path: Path, visit: Callable[..., Any]
) -> None:
    rows = places(60)
    page = visit(report(tmp_path, rows), height=2600)
    scores = rows["damage_score"].dropna().sort_values()
    for wanted in (scores[::-1], scores):
        page.locator("#rows th button", has_text="Score").click()
        cells = page.locator(f"{ROWS} td:nth-child(2)").all_inner_texts()
        assert len(cells) == 60
        assert cells == [f"{s:.2f}" for s in wanted] + ["–"] * int(
            rows["damage_score"].isna().sum()
        )
    head = page.locator("#rows th", has_text="Score")
    assert head.get_attribute("aria-sort") == "ascending"


def test_five_thousand_rows_stay_quick(tmp_path: Path, visit: Callable[..., Any]) -> None:
    page = visit(report(tmp_path, places(5600)))
    assert page.locator("#count").inner_text() == "5\u202f000 buildings"
    assert page.locator(ROWS).count() < 60
    spent = page.evaluate(
        """() => {
          const start = performance.now();
          for (const head of document.querySelectorAll('#rows th button')) head.click();
          const rows = document.getElementById('rows');
          rows.scrollTop = rows.scrollHeight;
          return performance.now() - start;
        }"""
    )
    assert spent < 4000
    last = page.locator(ROWS).last
    assert soon(page, lambda: last.get_attribute("aria-rowindex") == "5001")
    assert "600 of 5,600 buildings" in page.locator("main").inner_text()


def test_hostile_names_are_only_text(tmp_path: Path, visit: Callable[..., Any]) -> None:
    rows = places(20)
    rows["building_id"] = [f"{NASTY}{k}" for k in range(20)]
    rows["source_id"] = rows["flags"] = NASTY
    shown = find_places(write_run(tmp_path / "run", rows), GRID, CODES)
    given = facts(rows, title=NASTY, notes=[NASTY], pre_date=NASTY, provenance=[(NASTY, NASTY)])
    write_report(tmp_path / "report.html", given, pictures(), shown)
    page = visit(tmp_path / "report.html")
    assert page.locator("h1").inner_text().startswith("<script>alert(1)</script>")
    page.locator(ROWS).first.click()
    assert page.locator("#card .id").inner_text().startswith("<script>alert(1)</script>")
    assert page.locator("img").count() == 3
    assert page.locator("script").count() == 2


def test_a_phone_holds_it_all(tmp_path: Path, visit: Callable[..., Any]) -> None:
    page = visit(
        report(tmp_path, places(60)), width=360, height=740, is_mobile=True, has_touch=True
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    stage = page.locator("#map").bounding_box()
    assert stage["width"] == 360
    assert stage["height"] >= 360
    assert page.locator("#text").bounding_box()["y"] > stage["y"] + stage["height"]
    page.locator(ROWS).first.tap()
    assert page.locator("#card").is_visible()
    small = page.evaluate(
        """() => [...document.querySelectorAll('main p, main td, main li, .chip, label')]
          .filter(e => e.offsetParent && parseFloat(getComputedStyle(e).fontSize) < 12).length"""
    )
    assert small == 0


def test_paper_gets_still_pictures(tmp_path: Path, visit: Callable[..., Any]) -> None:
    page = visit(report(tmp_path, places(60)))
    assert not page.locator("#picture-damage").is_visible()
    page.emulate_media(media="print")
    assert not page.locator("#map").is_visible()
    for name in ("before", "after", "damage"):
        assert page.locator(f"#picture-{name}").is_visible()
    assert page.locator(".static tbody tr").count() == 40
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_without_scripts_the_page_still_tells(tmp_path: Path, visit: Callable[..., Any]) -> None:
    page = visit(report(tmp_path, places(60)), java_script_enabled=False)
    assert not page.locator("#map").is_visible()
    assert page.locator("#picture-damage").is_visible()
    assert page.locator(".static tbody tr").first.is_visible()


def test_without_a_before_image_there_is_no_swipe(
    tmp_path: Path, visit: Callable[..., Any]
) -> None:
    page = visit(report(tmp_path, places(9), before=False))
    assert not page.locator("#swipe").is_visible()
    assert not page.locator("#views").is_visible()
    assert not page.locator("#tag-before").is_visible()
    assert shows(page, AFTER, 0.4, 0.8)


def test_damage_areas_without_levels(tmp_path: Path, visit: Callable[..., Any]) -> None:
    page = visit(report(tmp_path, areas=places(30, name="area_id")))
    assert page.locator("#count").inner_text() == "30 damage areas"
    heads = page.locator("#rows th").all_inner_texts()
    assert "None" not in heads
    page.locator(ROWS).first.click()
    assert "Damaged, level not graded" in page.locator("#card").inner_text()


def test_an_empty_run_opens(tmp_path: Path, visit: Callable[..., Any]) -> None:
    page = visit(report(tmp_path, before=False))
    assert page.locator("#count").inner_text() == "0 buildings"
    assert page.locator(ROWS).count() == 0


def test_a_real_run_s_report_works(tmp_path: Path, browser: Any, visit: Any) -> None:
    scene = write(tmp_path / "scene", Synth(size=1024, seed=6))
    run = am.assess(scene.pre, scene.post, out=tmp_path / "run", method="fc-siam-diff")
    page = visit(run.report)
    total = len(run.buildings)
    assert total > 20
    assert page.locator("#count").inner_text() == f"{total} buildings"
    before = colour(page, 0.3)
    view(page, "After")
    assert soon(page, lambda: np.abs(colour(page, 0.3) - before).max() > 3)
    page.locator(ROWS).first.click()
    name = page.locator("#card .id").inner_text()
    worst = run.buildings.set_index("building_id").loc[name]
    assert worst["damage_class"] == run.buildings["damage_class"].replace(255, 0).max()
    assert f"{worst['damage_score']:.2f}" in page.locator("#card").inner_text()
