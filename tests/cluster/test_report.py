"""The report is one safe file that says what is known, what is not, and how it was made."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aftermap.cluster import report
from aftermap.cluster.report import write_report
from aftermap.cluster.report_pictures import photograph
from aftermap.cluster.report_places import find_places
from aftermap.scenes.errors import UsageError
from aftermap.scenes.legend import entry
from finished import GRID, NASTY, facts, pictures, places, write_run
from PIL import Image

import aftermap as am

CLASSES = {
    1: {"count": 1200, "area_m2": 240000.0},
    4: {"count": 34, "area_m2": 5000.0},
    255: {"count": 10, "area_m2": 900.0},
}
COUNTED = {"total": 1244, "area_m2": 245900.0, "by_class": CLASSES}
NONE = {"total": 0, "area_m2": 0.0, "by_class": {}}


def page(tmp_path: Path, given: dict[str, Any], *shown: Any) -> str:
    write_report(tmp_path / "report.html", given, *shown)
    return (tmp_path / "report.html").read_text()


def words(text: str) -> str:
    body = re.sub(r"<(style|script).*?</\1>|<!--.*?-->", " ", text, flags=re.S)
    return re.sub(r"[ \n]+", " ", re.sub(r"<[^>]+>", " ", body))


class Tags(HTMLParser):
    """Every element, and what stands between the tags of script, style and title."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {}
        self.open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        self.inside.setdefault(tag, []).append("")
        self.open = tag

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    def handle_data(self, data: str) -> None:
        if self.open:
            self.inside[self.open][-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.seen if name == tag]


def test_the_headline_says_what_is_known_and_what_is_not(tmp_path: Path) -> None:
    text = page(tmp_path, facts(buildings=None) | {"buildings": COUNTED})
    said = words(text)
    assert "Preliminary, not field-validated" in said
    assert "1\u202f244 buildings" in said
    assert "34 damaged or destroyed: 2.8 % of those analysed" in said
    assert "83.3 % of the area" in said
    assert "0.5 km² not analysed" in said
    assert "OSError: tile 0.1" in said
    assert entry(4).hex in text
    assert "aftermap convention, version" in said
    assert "By probability" not in said


def test_intervals_are_shown_where_there_are_any(tmp_path: Path) -> None:
    spans = {"1": {"count": 1200, "low": 1100.4, "high": 1290}, 4: {"low": 20, "high": 51}}
    given = facts() | {
        "buildings": COUNTED,
        "intervals": spans,
        "interval_basis": "19 of 20 times.",
    }
    said = words(page(tmp_path, given))
    assert "1\u202f200 1\u202f100 – 1\u202f290 96.5 %" in said
    assert "34 20 – 51 2.7 %" in said
    assert "By probability" in said
    assert "19 of 20 times." in said


def test_nothing_from_a_file_name_becomes_markup(tmp_path: Path) -> None:
    rows = places(30)
    rows["building_id"] = [f"{NASTY}{k}" for k in range(30)]
    rows["source_id"] = NASTY
    rows["flags"] = NASTY + "\u2028\u2029"
    shown = find_places(write_run(tmp_path / "run", rows), GRID, np.ones((4, 4), np.uint8))
    given = facts(
        rows, title=NASTY, method=NASTY, pre_image=NASTY, post_image=NASTY, post_date=NASTY,
        notes=[NASTY], provenance=[(NASTY, NASTY)], not_analysed={NASTY: 0.5}, left_out=[NASTY],
        intervals={1: {"low": 1, "high": 2}}, interval_basis=NASTY,
    )  # fmt: skip
    text = page(tmp_path, given, pictures(), shown)
    tags = Tags(text)
    assert [a.get("type") for a in tags.named("script")] == ["application/json", None]
    assert not {"iframe", "object", "link", "base", "form"} & {name for name, _ in tags.seen}
    images = tags.named("img")
    assert len(images) == 3
    assert all(str(image["src"]).startswith("data:image/") for image in images)
    assert not [a for _, attributes in tags.seen for a in attributes if a.startswith("on")]
    held = tags.inside["script"][0]
    assert not set(held) & set("<>&\u2028\u2029")
    assert "http://x.invalid" not in re.sub(r"&[^;]+;", "", "".join(re.findall(r"<[^>]*>", text)))


def test_only_what_this_package_built_may_run(tmp_path: Path) -> None:
    rows = places(5)
    shown = find_places(write_run(tmp_path / "run", rows), GRID, np.ones((4, 4), np.uint8))
    tags = Tags(page(tmp_path, facts(rows), pictures(), shown))
    policy = next(str(a["content"]) for a in tags.named("meta") if a.get("http-equiv"))

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert rules["script-src"] == digest(tags.inside["script"][1])
    assert rules["style-src"] == digest(tags.inside["style"][0])
    assert not [a for _, attributes in tags.seen for a in attributes if a == "style"]


def test_the_page_names_no_address(tmp_path: Path) -> None:
    rows = places(5)
    shown = find_places(write_run(tmp_path / "run", rows), GRID, np.ones((4, 4), np.uint8))
    text = page(tmp_path, facts(rows), pictures(), shown)
    assert not re.search(r"""(src|href)=["']?(https?:|//)|url\((?!data:)|@import""", text)
    assert "OpenLayers Contributors" in text


def test_a_binary_run_reports_areas_and_no_share(tmp_path: Path) -> None:
    areas = {"total": 3, "area_m2": 1234.0, "by_class": {5: {"count": 3, "area_m2": 1234.0}}}
    said = words(page(tmp_path, facts(damage_areas=areas)))
    assert "there is no damaged share" in said
    assert "of those analysed" not in said
    assert "Buildings by damage class" not in said


def test_json_keys_and_missing_facts_do(tmp_path: Path) -> None:
    given = facts() | {"buildings": COUNTED | {"by_class": {str(k): v for k, v in CLASSES.items()}}}
    for optional in ("title", "method", "footprints", "provenance", "pre_date", "post_date"):
        del given[optional]
    text = page(tmp_path, given)
    assert "Damage assessment" in text
    assert "1\u202f244 buildings" in words(text)
    assert not Tags(text).named("script")


def test_the_page_says_what_it_leaves_out(tmp_path: Path) -> None:
    rows = places(120)
    shown = find_places(write_run(tmp_path / "run", rows), GRID, np.ones((4, 4), np.uint8), 50)
    said = words(page(tmp_path, facts(rows), pictures(), shown))
    assert "70 of 120 buildings" in said
    assert "buildings.gpkg" in said
    assert "The 40 buildings with the worst damage" in said
    assert "80 more are in buildings.gpkg" in said


def test_the_page_says_how_much_smaller_its_pictures_are(tmp_path: Path) -> None:
    rows = places(3)
    shown = find_places(write_run(tmp_path / "run", rows), GRID, np.ones((4, 4), np.uint8))
    noise = np.random.default_rng(0).integers(0, 255, (800, 1000, 3), dtype=np.uint8)
    small = [photograph("after", "After", Image.fromarray(noise), 60_000)]
    said = words(page(tmp_path, facts(rows), small, shown))
    assert f"they are {small[0].width:,} x {small[0].height:,} px for 1,000 x 800" in said
    assert "Detail of the pictures" not in words(page(tmp_path, facts(rows), pictures(), shown))


def test_a_report_beyond_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "LIMIT_BYTES", 1000)
    with pytest.raises(UsageError, match="MiB"):
        page(tmp_path, facts())
    assert not list(tmp_path.iterdir())


def test_the_fullest_page_stays_within_the_limit(tmp_path: Path) -> None:
    """5,000 buildings with ragged outlines and long names, noise for photographs."""
    rng = np.random.default_rng(0)
    rows = places(6000)
    rows["building_id"] = [f"{k}" + "\u4f60" * 500 for k in range(6000)]
    rows["source_id"] = rows["flags"] = "\U0001f3da" * 500
    noise = rng.integers(0, 255, (2048, 2048, 3), dtype=np.uint8)
    shots = [photograph(name, name, Image.fromarray(noise)) for name in ("before", "after")]
    codes = rng.integers(0, 6, (768, 768), dtype=np.uint8)
    shown = find_places(write_run(tmp_path / "run", rows), GRID, codes)
    text = page(tmp_path, facts(rows), shots, shown)
    assert len(text.encode()) <= 20 << 20
    assert len(shown.page["shapes"]) == 5000


@pytest.mark.slow
def test_the_same_run_again_gives_the_same_page_but_for_its_times(
    pair_files: tuple[Path, Path], tmp_path: Path
) -> None:
    found = []
    for name in ("one", "two"):
        run = am.assess(*pair_files, out=tmp_path / name, method="difference")
        found.append(run.report.read_text().replace(run.record["started"], "then"))
    assert found[0] == found[1]
    assert "then" in found[0]
