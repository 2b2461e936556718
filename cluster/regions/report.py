"""The region's report: one page that needs no network, with a map, totals, districts and scenes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from ...scenes.catalog import CatalogImage, ScenePair
from ...scenes.errors import UsageError
from ...scenes.layer import NOT_ANALYSED
from ...scenes.legend import LEGEND, TITLE, VERSION, entry
from ...scenes.vectors import replacing
from ..report import (
    LIMIT_BYTES,
    asset,
    class_bars,
    content_digest,
    coverage,
    legend_style,
    template,
)
from .best import DRAWN as DRAWN_BEST
from .best import LISTED as LISTED_BEST
from .districts import COLUMNS, Districts
from .map import Frame, Outline

LISTED = 3000
"""Scenes in the page's table, at most."""

DRAWN = 20_000
"""Scenes and districts on its map, at most."""

_BINS = (0.0, 0.01, 0.05, 0.15, 0.35)
"""Damaged shares above which a scene is drawn darker."""

_LINES = 200
_STATES = {
    "done": "done",
    "quarantined": "parts set aside",
    "failed": "failed",
    "nothing": "nothing to analyse",
    "running": "not finished",
    "missing": "not assessed yet",
}


@dataclass(frozen=True)
class SceneRow:
    """One scene as the page tells of it."""

    scene_id: str
    state: str
    words: str
    """Its state, with the reason where there is one."""
    found: int | None
    """Buildings or damage areas; None without results."""
    damaged: int
    paint: str
    """How it is coloured."""
    report: str
    """Its own report, relative to the page; empty without."""
    pre: str
    post: str
    why: str
    outline: Outline | None = None


def scene_row(
    pair: ScenePair,
    facts: Mapping[str, Any],
    by_class: Mapping[int, int] | None,
    has_buildings: bool,
    frame: Frame | None,
) -> SceneRow:
    """What the page says of a scene.

    `facts` holds its `state`, `reason` and number of `quarantined` chunks; `by_class` its
    buildings by damage code, None where it has no results.
    """
    state, counts = str(facts["state"]), by_class or {}
    damaged = sum(n for code, n in counts.items() if 2 <= code <= 5)
    known = sum(n for code, n in counts.items() if code != NOT_ANALYSED)
    words = _STATES.get(state, state)
    if facts.get("quarantined"):
        words += f": {facts['quarantined']} of {facts.get('chunks', '?')} chunks"
    elif facts.get("reason"):
        words += f": {facts['reason']}"
    paint = "missing" if state == "running" else state
    if by_class is not None and not known and (counts or facts.get("quarantined")):
        paint = "unseen"  # nothing damaged was found, but not because nothing is
    elif by_class is not None and has_buildings:
        paint = _paint(damaged / known if known else 0.0)
    elif by_class is not None:
        paint = "found" if counts else "s0"
    return SceneRow(
        scene_id=pair.scene_id,
        state=state,
        words=words,
        found=None if by_class is None else sum(counts.values()),
        damaged=damaged,
        paint=paint,
        report="" if by_class is None else f"scenes/{pair.scene_id}/report.html",
        pre=_image(pair.pre),
        post=_image(pair.post),
        why=pair.why,
        outline=None if frame is None else frame.outline(pair.core),
    )


def write_region_report(
    path: Path,
    record: Mapping[str, Any],
    pairs: Sequence[ScenePair],
    by_class: Mapping[str, Mapping[int, int]],
    has_buildings: bool,
    districts: Districts | None = None,
    table: pd.DataFrame | None = None,
    best: pd.DataFrame | None = None,
) -> None:
    """Write the page.

    `record` is region.json; `by_class` holds the buildings of each scene with results by damage
    code; `table` is districts.csv; `best` are detections by falling score (see BestDetections),
    None where damage areas are no detections. Raises UsageError where the page would be larger than a report
    may be.
    """
    facts = record["totals"]
    shapes = [pair.core for pair in pairs[:DRAWN]]
    frame = Frame.around(shapes) if shapes else None
    rows = [
        scene_row(p, record["scenes"][p.scene_id], by_class.get(p.scene_id), has_buildings, frame)
        for p in pairs[:DRAWN]
    ]
    kind = "buildings" if has_buildings else "damage_areas"
    intervals = facts.get("intervals") or {}
    bars = class_bars(facts[kind], intervals)
    style = asset("report.css") + legend_style() + asset("region.css")
    left_out = list(record["left_out"])
    outlines = [] if districts is None or frame is None else _outlined(districts, frame)
    areas = "damage areas" if best is None else "detections"
    html = template("region.html.j2").render(
        title=f"Damage assessment: {record['region']}",
        method=record["method"]["method"],
        dates=_dates(pairs),
        notes=_notes(record),
        facts=facts,
        has_buildings=has_buildings,
        noun="buildings" if has_buildings else areas,
        detects=best is not None,
        dots=[]
        if best is None or frame is None
        else frame.dots(*best[["lon", "lat"]].to_numpy(float).T),
        best=[] if best is None else _detection_rows(best),
        best_drawn=DRAWN_BEST,
        damaged=sum(bar.count for bar in bars if 2 <= bar.entry.code <= 5),
        graded=sum(bar.count for bar in bars if bar.entry.code != NOT_ANALYSED),
        coverage=coverage(facts),
        frame=frame,
        bar=None if frame is None else frame.scale_bar(),
        drawn=rows,
        paints={row.paint for row in rows},
        bins=_bin_names(),
        outlines=outlines,
        mosaics=[name for name in record["mosaics"] if name.endswith(".vrt")],
        bars=bars,
        intervals=any(bar.low is not None for bar in bars),
        districts=[] if table is None else _district_rows(table),
        columns=[entry(code) for code in _codes(table)],
        scenes=rows[:LISTED],
        unlisted=max(0, len(pairs) - LISTED),
        pairing=record["pairing"],
        left_out=left_out[:_LINES],
        more_left_out=max(0, len(left_out) - _LINES),
        legend=[row for row in LEGEND if row.code],
        legend_name=f"{TITLE}, version {VERSION}",
        provenance=_provenance(record),
        style=style,
        style_digest=content_digest(style),
    )
    content = html.encode()
    if len(content) > LIMIT_BYTES:
        raise UsageError(
            f"The region's report would take {len(content) / 2**20:.1f} MiB, more than "
            f"{LIMIT_BYTES >> 20}; give districts with simpler outlines."
        )
    with replacing(path) as part:
        part.write_bytes(content)


def _paint(share: float) -> str:
    return f"s{sum(share > least for least in _BINS)}"


def _bin_names() -> list[tuple[str, str]]:
    """The classes of the map and what they stand for."""
    edges = [f"{100 * edge:g}" for edge in _BINS]
    names = ["none damaged", f"up to {edges[1]} %"]
    names += [f"{low}–{high} %" for low, high in pairwise(edges[1:])]
    names.append(f"more than {edges[-1]} % damaged")
    return [(f"s{k}", name) for k, name in enumerate(names)]


def _image(image: CatalogImage | None) -> str:
    if image is None:
        return "none"
    day = "" if image.time is None else f", {image.time.date().isoformat()}"
    return f"{image.name}{day}"


def _dates(pairs: Sequence[ScenePair]) -> str:
    """From the first image to the last, where the catalog tells."""
    times = [i.time.date() for p in pairs for i in (p.pre, p.post) if i is not None and i.time]
    return f"{min(times)} to {max(times)}" if times else ""


def _notes(record: Mapping[str, Any]) -> list[str]:
    """What to know before trusting the page."""
    counts, notes = record["counts"], []
    wrong = {
        "failed": "failed and are tried again by the same command",
        "quarantined": "have parts that were set aside and are tried again by the same command",
        "missing": "have not been assessed yet",
        "running": "were begun and are not finished",
    }
    for state, words in wrong.items():
        if counts.get(state):
            notes.append(
                f"{counts[state]} of {sum(counts.values())} scenes {words}. Their ground counts as "
                "not analysed."
            )
    gone = record["not_in_region_any_more"]
    if gone:
        notes.append(
            f"{len(gone)} scenes in this folder are not part of the region any more and are not "
            f"counted: {', '.join(gone[:5])}{' and others' if len(gone) > 5 else ''}."
        )
    return notes


def _outlined(districts: Districts, frame: Frame) -> list[dict[str, Any]]:
    pairs = zip(districts.names[:DRAWN], districts.shapes[:DRAWN], strict=True)
    return [{"name": name, "outline": frame.outline(shape)} for name, shape in pairs]


def _detection_rows(best: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """The best detections; an address that is not known is empty."""
    return best.head(LISTED_BEST).fillna({"address": ""}).to_dict("records")


def _codes(table: pd.DataFrame | None) -> list[int]:
    """The damage codes that occur in any district."""
    return [code for code, name in COLUMNS.items() if table is not None and table[name].any()]


def _district_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    def known(value: float) -> float | None:
        return None if pd.isna(value) else float(value)

    total = "buildings" if "buildings" in table else "damage_areas"
    return [
        {
            "district": row["district"],
            "total": row[total],
            "counts": [row[COLUMNS[code]] for code in _codes(table)],
            "share": known(row["damaged_share"]),
            "analysed": known(row["analysed_km2"]),
            "unseen": known(row["not_analysed_km2"]),
        }
        for row in table.head(LISTED).to_dict("records")
    ]


def _provenance(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    method = record["method"]
    return [
        ("Region file", record["file"]),
        ("Method", f"{method['method']}, {method['precision']}"),
        ("Weights, SHA-256", method["weights_sha256"] or "none"),
        ("Options", ", ".join(f"{k} = {v}" for k, v in record["options"].items()) or "defaults"),
        ("Software", ", ".join(f"{name} {number}" for name, number in record["versions"].items())),
        ("Merged", record["finished"]),
    ]
