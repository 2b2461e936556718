"""The report is one safe file that says what is known, what is not, and how it was made."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aftermap.cluster import report
from aftermap.cluster.report import damage_picture, write_report
from aftermap.scenes.errors import UsageError
from aftermap.scenes.legend import entry
from PIL import Image

NASTY = "<script>alert(1)</script>\"'><img src=http://x onerror=1>.tif"


def facts(**more: Any) -> dict[str, Any]:
    classes = {
        1: {"count": 1200, "area_m2": 240000.0},
        4: {"count": 34, "area_m2": 5000.0},
        255: {"count": 10, "area_m2": 900.0},
    }
    return {
        "title": "Antakya",
        "method": "dual-hrnet",
        "buildings": {"total": 1244, "area_m2": 245900.0, "by_class": classes},
        "damage_areas": {"total": 0, "area_m2": 0.0, "by_class": {}},
        "analysed_km2": 2.5,
        "not_analysed_km2": 0.5,
        "not_analysed": {"no data": 0.4, "OSError: tile": 0.1},
        "footprints": None,
        "provenance": [("run", "abc"), ("weights", None)],
        "pre_date": "2023-01-01",
    } | more


def pictures(side: int = 64) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 255, (side, side, 3), dtype=np.uint8)
    return {
        "before": photo,
        "after": photo,
        "damage": damage_picture(photo, np.ones((4, 4), np.uint8)),
    }


def page(tmp_path: Path, given: dict[str, Any], shown: dict[str, np.ndarray] | None = None) -> str:
    write_report(tmp_path / "report.html", given, pictures() if shown is None else shown)
    return (tmp_path / "report.html").read_text()


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_the_headline_says_what_is_known_and_what_is_not(tmp_path: Path) -> None:
    text = page(tmp_path, facts())
    words = re.sub(r"[ \n]+", " ", re.sub(r"<[^>]+>", " ", text.split("</style>")[1]))
    assert "Preliminary, not field-validated" in words
    assert "1\u202f244 buildings" in words
    assert "34 damaged or destroyed: 2.8 % of those analysed" in words
    assert "83.3 % of the area" in words
    assert "0.5 km² not analysed" in words
    assert "OSError: tile 0.1" in words
    assert entry(4).hex in text
    assert "aftermap convention, version" in words


def test_nothing_from_a_file_name_becomes_markup(tmp_path: Path) -> None:
    given = facts(
        title=NASTY, method=NASTY, pre_image=NASTY, post_image=NASTY, post_date=NASTY,
        notes=[NASTY], provenance=[(NASTY, NASTY)], not_analysed={NASTY: 0.5}, left_out=NASTY,
    )  # fmt: skip
    tags = Tags()
    tags.feed(page(tmp_path, given))
    assert not [tag for tag, _ in tags.seen if tag in ("script", "iframe", "object", "link")]
    images = [attributes for tag, attributes in tags.seen if tag == "img"]
    assert len(images) == 3
    assert all(str(image["src"]).startswith("data:image/") for image in images)
    assert not [a for _, attributes in tags.seen for a in attributes if a.startswith("on")]


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    text = page(tmp_path, facts())
    assert "default-src 'none'; img-src data:" in text
    assert not re.search(r"""(src|href)=["']?(https?:|//)|url\(|@import""", text)


def test_a_binary_run_reports_areas_and_no_share(tmp_path: Path) -> None:
    areas = {"total": 3, "area_m2": 1234.0, "by_class": {5: {"count": 3, "area_m2": 1234.0}}}
    none = {"total": 0, "area_m2": 0.0, "by_class": {}}
    text = page(tmp_path, facts(buildings=none, damage_areas=areas))
    assert "there is no damaged share" in text
    assert "of those analysed" not in text
    assert "Buildings by damage class" not in text


def test_json_keys_and_missing_facts_do(tmp_path: Path) -> None:
    given = facts()
    given["buildings"]["by_class"] = {str(k): v for k, v in given["buildings"]["by_class"].items()}
    for optional in ("title", "method", "footprints", "provenance", "pre_date"):
        del given[optional]
    assert "Damage assessment" in page(tmp_path, given, {})


def test_pictures_are_reduced_and_embedded(tmp_path: Path) -> None:
    text = page(tmp_path, facts(), pictures(2000))
    assert len(text) < report.LIMIT_BYTES
    found = re.findall(r"data:image/(\w+);base64,([^\"]+)", text)
    assert [kind for kind, _ in found] == ["jpeg", "jpeg", "png"]
    for _, content in found:
        assert max(Image.open(io.BytesIO(base64.b64decode(content))).size) == 1600


def test_the_damage_picture_wears_the_legend_s_colours() -> None:
    after = np.full((40, 60, 3), 200, np.uint8)
    codes = np.array([[0, 4], [255, 5]], np.uint8)
    seen = damage_picture(after, codes)
    assert seen.shape == (40, 60, 3)
    assert (seen[0, 0] == seen[0, 0, 0]).all()
    assert tuple(seen[10, 50]) == entry(4).rgb
    assert tuple(seen[30, 50]) == entry(5).rgb
    assert {tuple(pixel) for pixel in seen[25:35, 5:25].reshape(-1, 3)} == {
        entry(255).rgb, (225, 225, 225),
    }  # fmt: skip


def test_a_report_beyond_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "LIMIT_BYTES", 1000)
    with pytest.raises(UsageError, match="MiB"):
        page(tmp_path, facts())
    assert not list(tmp_path.iterdir())
