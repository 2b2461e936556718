"""The report: one HTML file that needs no network, for a phone, a printer and a meeting."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from ..scenes.errors import UsageError
from ..scenes.layer import NOT_ANALYSED
from ..scenes.legend import LEGEND, TITLE, VERSION, Entry, entry
from ..scenes.vectors import replacing

LIMIT_BYTES = 20 << 20
"""Largest size of a report."""

_SIDE = 1600
_QUALITY = 82
_STRIPE = 6
_CAPTIONS = {"before": "Before", "after": "After", "damage": "Damage map"}


@dataclass(frozen=True)
class _Bar:
    """One class in the headline."""

    entry: Entry
    count: int
    area_m2: float
    percent: float


@dataclass(frozen=True)
class _Picture:
    """One embedded picture."""

    name: str
    caption: str
    uri: str
    width: int
    height: int


def write_report(path: Path, facts: Mapping[str, Any], pictures: Mapping[str, np.ndarray]) -> None:
    """Write the report of a run.

    `facts` holds what `finish` returned, and `title`, `method`, `provenance` (pairs of label and
    value), and if known `pre_image`, `post_image`, `pre_date`, `post_date`, `notes` (warnings to
    show first), `graded`, `left_out` (what the report does not show). `pictures` holds uint8 RGB
    arrays (h, w, 3) named "before", "after" and "damage"; larger ones are reduced to 1600 px.
    """
    shown = [_picture(name, pictures[name]) for name in _CAPTIONS if name in pictures]
    buildings = _bars(facts.get("buildings"))
    html = _template().render(
        facts=facts,
        bars=buildings,
        areas=_bars(facts.get("damage_areas")),
        damaged=sum(bar.count for bar in buildings if 2 <= bar.entry.code <= 5),
        graded=sum(bar.count for bar in buildings if bar.entry.code != NOT_ANALYSED),
        coverage=_coverage(facts),
        legend=[row for row in LEGEND if row.code],
        legend_name=f"{TITLE}, version {VERSION}",
        pictures=shown,
    )
    content = html.encode()
    if len(content) > LIMIT_BYTES:
        raise UsageError(
            f"The report would take {len(content) / 2**20:.1f} MiB, more than "
            f"{LIMIT_BYTES >> 20}; give fewer provenance rows or notes."
        )
    with replacing(path) as part:
        part.write_bytes(content)


def damage_picture(after: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The damage codes in the legend's colours over a grey and pale after image.

    `after` is uint8 RGB (h, w, 3); `codes` is uint8 of any shape, laid over the whole picture, the
    nearest code per pixel. What was not analysed is striped. Returns uint8 RGB (h, w, 3).
    """
    height, width = after.shape[:2]
    rows = np.arange(height) * codes.shape[0] // height
    cols = np.arange(width) * codes.shape[1] // width
    laid = codes[rows[:, None], cols]
    grey = after.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    picture = np.repeat((110 + grey * 0.5)[:, :, None], 3, axis=2)
    for row in LEGEND:
        if not row.code:
            continue
        here = laid == row.code
        if row.hatched:
            stripe = np.add.outer(np.arange(height), np.arange(width)) // _STRIPE % 2 == 0
            picture[here] = 225
            here = here & stripe
        picture[here] = row.rgb
    return np.clip(picture, 0, 255).astype(np.uint8)


def _bars(table: Mapping[str, Any] | None) -> list[_Bar]:
    """The classes of a table that occur, from intact to not analysed, with their share."""
    if not table or not table["total"]:
        return []
    return [
        _Bar(entry(int(code)), row["count"], row["area_m2"], 100 * row["count"] / table["total"])
        for code, row in sorted(table["by_class"].items(), key=lambda item: int(item[0]))
    ]


def _coverage(facts: Mapping[str, Any]) -> float:
    """Percent of the area that was analysed."""
    seen, unseen = float(facts["analysed_km2"]), float(facts["not_analysed_km2"])
    return 100 * seen / (seen + unseen) if seen + unseen else 0.0


def _picture(name: str, values: np.ndarray) -> _Picture:
    """Embed a picture: PNG for the flat colours of a map, JPEG for photographs."""
    image = Image.fromarray(values).convert("RGB")
    filtering = Image.Resampling.NEAREST if name == "damage" else Image.Resampling.LANCZOS
    if max(image.size) > _SIDE:
        image.thumbnail((_SIDE, _SIDE), filtering)
    kind, options = (
        ("png", {"optimize": True}) if name == "damage" else ("jpeg", {"quality": _QUALITY})
    )
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    uri = f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return _Picture(name, _CAPTIONS[name], uri, image.width, image.height)


def _template() -> jinja2.Template:
    """The page; everything that is put into it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": _figure, "km2": _km2, "percent": _percent}
    return environment.get_template("report.html.j2")


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
