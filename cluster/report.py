"""The report: one HTML file that needs no network, for a desk, a phone, a printer and a meeting.

The page's script and style come built (`make web`) and are put inside it. They may run because
their digests stand in the page's security policy; nothing else may, and nothing is loaded.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from ..scenes.errors import UsageError
from ..scenes.layer import NOT_ANALYSED
from ..scenes.legend import LEGEND, TITLE, VERSION, Entry, entry
from ..scenes.vectors import replacing
from .report_pictures import Picture, damage_picture
from .report_places import AREA_EDGES, SCORE_EDGES, Places, printed_rows, to_json

__all__ = ["LIMIT_BYTES", "damage_picture", "write_report"]

LIMIT_BYTES = 20 << 20
"""Largest size of a report."""

_TEMPLATES = Path(__file__).parent / "templates"
_CHART_HEIGHT = 100


@dataclass(frozen=True)
class _Bar:
    """One class in the headline."""

    entry: Entry
    count: int
    area_m2: float
    percent: float
    low: float | None
    """Lower end of the number's interval, where there is one."""
    high: float | None
    """Upper end."""
    left: float
    """Percent of all that stand before this class."""


@dataclass(frozen=True)
class _Column:
    """One bin of a histogram."""

    label: str
    total: int
    parts: tuple[tuple[int, float, float], ...]
    """Code, top and height of each class in the column, of 100."""


def write_report(
    path: Path,
    facts: Mapping[str, Any],
    pictures: Sequence[Picture] = (),
    places: Places | None = None,
) -> None:
    """Write the report of a run.

    `facts` holds what `finish` returned, and `title`, `method`, `provenance` (pairs of label and
    value), and if known `pre_image`, `post_image`, `pre_date`, `post_date`, `notes` (warnings to
    show first), `intervals` (code to `low` and `high` number), `interval_basis` (what they mean),
    `left_out` (sentences on what the report does not show). Without `places` or without pictures
    there is no map. Raises UsageError where the page would be larger than LIMIT_BYTES.
    """
    intervals = facts.get("intervals") or {}
    buildings = class_bars(facts.get("buildings"), intervals)
    areas = class_bars(facts.get("damage_areas"), intervals if not buildings else {})
    interactive = places is not None and any(shot.name == "after" for shot in pictures)
    script = asset("report.js") if interactive else ""
    style = asset("report.css") + legend_style()
    html = template("report.html.j2").render(
        facts=facts,
        bars=buildings,
        areas=areas,
        intervals=any(bar.low is not None for bar in (*buildings, *areas)),
        damaged=sum(bar.count for bar in buildings if 2 <= bar.entry.code <= 5),
        graded=sum(bar.count for bar in buildings if bar.entry.code != NOT_ANALYSED),
        coverage=coverage(facts),
        legend=[row for row in LEGEND if row.code],
        legend_name=f"{TITLE}, version {VERSION}",
        pictures=pictures,
        places=places,
        rows=printed_rows(places.choice) if places else [],
        charts=_charts(places) if places else [],
        left_out=_left_out(facts, pictures, places),
        page=to_json(places.page) if places and interactive else None,
        style=style,
        style_digest=content_digest(style),
        script=script,
        script_digest=content_digest(script) if script else None,
        licenses=asset("report.licenses.txt").replace("--", "- -"),
    )
    content = html.encode()
    if len(content) > LIMIT_BYTES:
        raise UsageError(
            f"The report would take {len(content) / 2**20:.1f} MiB, more than "
            f"{LIMIT_BYTES >> 20}; give fewer provenance rows or notes."
        )
    with replacing(path) as part:
        part.write_bytes(content)


def class_bars(table: Mapping[str, Any] | None, intervals: Mapping[Any, Any]) -> list[_Bar]:
    """The classes of a table that occur, from intact to not analysed, with their share."""
    if not table or not table["total"]:
        return []
    found: list[_Bar] = []
    left = 0.0
    for key, row in sorted(table["by_class"].items(), key=lambda item: int(item[0])):
        span = intervals.get(int(key)) or intervals.get(str(key)) or {}
        percent = 100 * row["count"] / table["total"]
        low, high = span.get("low"), span.get("high")
        found.append(_Bar(entry(int(key)), row["count"], row["area_m2"], percent, low, high, left))
        left += percent
    return found


def _left_out(
    facts: Mapping[str, Any], pictures: Sequence[Picture], places: Places | None
) -> list[str]:
    """What the page does not show, in sentences."""
    said = list(facts.get("left_out") or ())
    if places is None:
        return said
    said += places.left_out
    width, height = places.page["pixels"]
    shots = [shot for shot in pictures if shot.name in ("before", "after")]
    if any(shot.width < width or shot.height < height for shot in shots):
        sizes = {f"{shot.width:,} x {shot.height:,}": None for shot in shots}
        said.append(
            f"Detail of the pictures: they are {' and '.join(sizes)} px for {width:,} x {height:,} "
            "analysed. The images themselves and the rasters beside this page have all of it."
        )
    return said


def _charts(places: Places) -> list[dict[str, Any]]:
    """The histograms of everything there is, not only of what the page lists."""
    scores = [f"{edge:.2f}" for edge in SCORE_EDGES[:-1]]
    areas = [f"{edge:.0f}" for edge in AREA_EDGES[:-1]]
    given = (
        ("Damage score", "0 intact, 1 damaged", scores, "1.00", places.choice.scores),
        ("Area", "m², each bin up to the next figure", areas, "", places.choice.areas),
    )
    return [
        {
            "title": title,
            "unit": unit,
            "columns": _columns(labels, counts),
            "last": last,
            "most": int(counts.sum(axis=1).max(initial=0)),
        }
        for title, unit, labels, last, counts in given
        if counts.any()
    ]


def _columns(labels: Sequence[str], counts: np.ndarray) -> list[_Column]:
    """Stacked columns, each class on the one before, the tallest 100 high."""
    scale = _CHART_HEIGHT / max(int(counts.sum(axis=1).max()), 1)
    found = []
    for label, row in zip(labels, counts, strict=True):
        top, parts = float(_CHART_HEIGHT), []
        for code in np.flatnonzero(row).tolist():
            height = float(row[code]) * scale
            top -= height
            parts.append((code, round(top, 3), round(height, 3)))
        found.append(_Column(label, int(row.sum()), tuple(parts)))
    return found


def coverage(facts: Mapping[str, Any]) -> float:
    """Percent of the area that was analysed."""
    seen, unseen = float(facts["analysed_km2"]), float(facts["not_analysed_km2"])
    return 100 * seen / (seen + unseen) if seen + unseen else 0.0


def asset(name: str) -> str:
    """A built part of the page; refuses one that would end the element it is put into."""
    text = (_TEMPLATES / name).read_text(encoding="utf-8")
    for tag in ("</script", "</style", "<!--"):
        if tag in text.lower():
            raise ValueError(f"{name} holds {tag!r}: build it again with make web")
    return text


def legend_style() -> str:
    """The legend's colours as classes: the page's policy allows no style attributes."""
    return "".join(
        f".c{row.code}{{background:{row.hex};fill:{row.hex}}}"
        if not row.hatched
        else f".c{row.code}{{background:repeating-linear-gradient(135deg,{row.hex} 0 3px,"
        f"#e8eaec 3px 7px);fill:{row.hex}}}"
        for row in LEGEND
    )


def content_digest(text: str) -> str:
    """What a content security policy calls an inline script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def template(name: str) -> jinja2.Template:
    """A page; everything that is put into it is escaped, but what this package built itself."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": _figure, "km2": _km2, "percent": _percent}
    return environment.get_template(name)


def _figure(value: float) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{round(value):,}".replace(",", "\u202f")


def _km2(value: float) -> str:
    """An area with three digits that mean something."""
    return f"{value:,.0f}".replace(",", "\u202f") if value >= 100 else f"{value:.3g}"


def _percent(value: float) -> str:
    """A share; never 0 for something, never 100 for less than all."""
    if 0 < value < 0.1:
        return "< 0.1 %"
    if 99.9 < value < 100:
        return "> 99.9 %"
    return f"{value:.1f} %"
