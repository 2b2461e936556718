"""Places: pieces of ground that chips show, and the table that a set of chips keeps of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from .errors import Refused

Label = Literal["damaged", "intact", ""]
Box = tuple[float, float, float, float]

TABLE = "places.csv"
"""Name of the table in a folder of chips."""


@dataclass(frozen=True)
class Place:
    """A piece of ground that a chip shows, at one or several dates."""

    name: str
    """Unique in its set of chips."""
    label: Label = ""
    """Whether damage is visible here after the event; empty where nobody has said so."""
    crs: str = ""
    """Coordinate system of `box`, such as EPSG:32637; empty where the ground is not known."""
    box: Box | None = None
    """West, south, east, north in `crs`."""
    group: str = ""
    """Places of one group always stay together, as they may show common ground."""
    split: str = ""
    """The part of the main training that it belongs to: train, validation, test, buffer; empty: not
    divided."""
    pretrain: str = ""
    """The part of pre-training, likewise; empty: takes no part in it."""


_PLAIN = [f.name for f in fields(Place) if f.name != "box"]
_SIDES = ("west", "south", "east", "north")


def write_places(path: Path, places: Iterable[Place]) -> None:
    """Write a table of places as CSV, by rename; floats come back to the last bit."""
    text = io.StringIO(newline="")
    rows = csv.DictWriter(text, [*_PLAIN, *_SIDES], lineterminator="\n")
    rows.writeheader()
    for place in places:
        row = asdict(place)
        box = row.pop("box")
        rows.writerow(row | dict(zip(_SIDES, map(repr, box), strict=True) if box else {}))
    part = path.with_name(f".{path.name}.part")
    part.write_text(text.getvalue(), encoding="utf-8")
    part.replace(path)


def read_places(path: Path) -> dict[str, Place]:
    """Read a table of places by name; raises Refused, naming the line, for one that is none."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            return {
                place.name: place
                for number, row in enumerate(rows, 2)
                for place in [_place(path, number, row)]
            }
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refused(f"The table of places {path} cannot be read: {error}.") from error


def _place(path: Path, number: int, row: Mapping[str, str]) -> Place:
    try:
        plain = {name: row[name] for name in _PLAIN}
        sides = [row[side] for side in _SIDES]
        west, south, east, north = (float(side) for side in sides) if any(sides) else (0, 0, 0, 0)
        if plain["label"] not in get_args(Label):
            raise ValueError(f"label {plain['label']!r} is not damaged, intact or empty")
    except (KeyError, ValueError, TypeError) as error:
        raise Refused(f"{path}, line {number}, is no place: {error}.") from error
    return Place(**plain, box=(west, south, east, north) if any(sides) else None)  # type: ignore[arg-type]
