"""Tags as CSV: a row each, places in pixels of the scene."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import shapely

from ....scenes.errors import Refused
from ....scenes.vectors import write_csv
from ..catalog import Catalog
from ..tables import LabelSet
from .codes import label_of_word
from .found import Found, Problems, Shown, content_of, moment, square_of, tag_id
from .marks import Mark, Marks
from .places import Square

COLUMNS = (
    "tag", "scene", "scene_name", "scene_digest", "row", "col", "side", "polygon", "lon", "lat",
    "label", "label_set", "label_version", "user", "made_at", "origin", "pixels",
)  # fmt: skip
"""`polygon` is WKT in pixels, x = column; `pixels` the SHA-256 of the square's PNG in the catalog."""

_DECIMALS = 6
"""Of a pixel."""


def write(catalog: Catalog, marks: Marks, path: Path, left_out: list[str]) -> dict[str, int]:
    """Write all tags; returns how many."""
    rows = 0

    def blocks() -> Iterator[pd.DataFrame]:
        nonlocal rows
        yield pd.DataFrame([], columns=COLUMNS)
        for block in marks.blocks():
            rows += len(block)
            yield pd.DataFrame([_row(mark) for mark in block], columns=COLUMNS, dtype=object)

    write_csv(path, blocks())
    left_out.append("pixels; the images are found again by scene_digest")
    return {"tags": rows}


class Table:
    """A CSV with the columns of `COLUMNS`, or fewer: label, scene_digest or scene_name, and a place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        content, self._digest = content_of(path)
        try:
            self._rows = pd.read_csv(
                io.BytesIO(content), dtype=str, keep_default_na=False, encoding="utf-8-sig"
            )
        except (ValueError, OverflowError) as error:
            raise Refused(f"{path} cannot be read as CSV: {error}.") from error
        known = set(self._rows.columns)
        if not ("label" in known and {"scene_digest", "scene_name"} & known):
            raise Refused(
                f"{path} has the columns {', '.join(map(str, self._rows.columns[:20]))}. Tags need label, "
                "scene_name or scene_digest, and row, col and side or polygon."
            )

    @property
    def labels(self) -> str | None:
        """See `Reader`."""
        column = self._rows.get("label_set")
        return str(column.iloc[0]) or None if column is not None and len(column) else None

    def found(self, labels: LabelSet, problems: Problems) -> Iterator[Found]:
        """See `Reader`."""
        for number, values in enumerate(self._rows.to_dict("records"), 1):
            row = {str(name): _unquoted(str(value)) for name, value in values.items()}
            where = f"in row {number} of {self._path.name}"
            label = label_of_word(labels, row["label"])
            if label is None:
                problems.add(f"unknown label {row['label'][:40]!r}", where)
                continue
            try:
                square, outline = _place(row)
                made_at = moment(row.get("made_at"))
            except (ValueError, shapely.errors.ShapelyError) as error:
                problems.add(f"unreadable: {str(error)[:80]}", where)
                continue
            name, digest = row.get("scene_name", ""), row.get("scene_digest", "")
            yield Found(
                tag_id(self._digest, str(number)), where, Shown(name or digest, name, digest), label,
                square, outline, made_at=made_at,
            )  # fmt: skip


def _row(mark: Mark) -> list[Any]:
    tag, scene, square = mark.tag, mark.scene, mark.square
    wkt = "" if square else shapely.to_wkt(mark.outline, rounding_precision=_DECIMALS)
    chip = tag.chip
    lonlat = (scene.west, scene.south) if chip is None and not scene.crs else (None, None)
    if chip is not None:
        lonlat = chip.lon, chip.lat
    elif scene.crs and tag.polygon:
        inside = shapely.geometry.shape(tag.polygon).representative_point()
        lonlat = inside.x, inside.y
    values = [
        tag.id, scene.id, scene.name, scene.digest, *(square or ("", "", "")), wkt, *lonlat,
        mark.label, tag.label_set.name, tag.label_set.version, tag.user.name,
        tag.made_at.isoformat(), tag.origin, chip.content[:64] if chip else "",
    ]  # fmt: skip
    return ["" if value is None else value for value in values]


def _place(row: dict[str, str]) -> tuple[Square | None, shapely.Geometry | None]:
    if wkt := row.get("polygon", ""):
        # GEOS reads collections by recursion: nested ones end the process.
        if not wkt.lstrip().upper().startswith(("POLYGON", "MULTIPOLYGON")):
            raise ValueError("polygon is no POLYGON or MULTIPOLYGON in WKT")
        return None, shapely.from_wkt(wkt)
    return square_of([int(row.get(name) or "no number") for name in ("row", "col", "side")]), None


def _unquoted(cell: str) -> str:
    """A cell without the quote that `write_csv` put before what spreadsheets would run."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in tuple("=+-@\t\r") else cell
