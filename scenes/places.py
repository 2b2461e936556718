"""Places: pieces of ground that chips show, and the table that a set of chips keeps of them."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from .errors import Refused, UsageError

Label = Literal["damaged", "intact", ""]
Box = tuple[float, float, float, float]

TABLE = "places.csv"
"""Name of the table in a folder of chips."""


TOUCH = 1e-9
"""Boxes this near touch, as a share of their coordinates: those of two files differ by rounding."""

_BETWEEN = 0.99
"""Boxes of two coordinate systems, on no common grid, are neighbours where less than this share of
the smaller one fits between them."""


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


def neighbours(places: Sequence[Place], margin: float = 0.0) -> np.ndarray:
    """Pairs of places, by number, whose boxes overlap, touch or are within the margin: (n, 2).

    The margin is in units of the coordinate system. Boxes of two systems, such as those on both
    sides of a UTM zone's edge, seldom touch where one ends and the next begins: they are neighbours
    where there is no room for the smaller one between them. Raises UsageError for a margin below 0.
    """
    if not 0 <= margin < math.inf:
        raise UsageError(f"A margin of {margin} is no distance; give 0 or more.")
    numbers: dict[str, list[int]] = {}
    for i, place in enumerate(places):
        if place.box is not None:
            numbers.setdefault(place.crs, []).append(i)
    found = [np.empty((0, 2), int)]
    for inside in numbers.values():
        sides = np.array([places[i].box for i in inside], float)
        boxes = shapely.box(*sides.T)
        reach = margin + TOUCH * np.abs(sides).max()
        pairs = shapely.STRtree(boxes).query(boxes, predicate="dwithin", distance=reach)
        found.append(np.array(inside)[pairs[:, pairs[0] < pairs[1]].T])
    for crs, other in combinations([crs for crs in numbers if _on_earth(crs)], 2):
        found.append(_across(places, numbers[crs], numbers[other], crs, margin))
    return np.concatenate(found)


def outlines(places: Sequence[Place], crs: str) -> np.ndarray:
    """The boxes of places of one CRS as polygons in another; empty where that does not reach."""
    west, south, east, north = np.array([place.box for place in places], float).T
    corners = np.stack([[west, east, east, west], [south, south, north, north]]).T
    moved = _moved(corners, places[0].crs, crs)
    shapes = shapely.polygons(np.where(np.isfinite(moved), moved, 0.0))
    return np.where(np.isfinite(moved).all(axis=(1, 2)), shapes, shapely.Polygon())


def centres(places: Sequence[Place]) -> np.ndarray:
    """x, y of the boxes' middles in the coordinate system that most have: (n, 2); NaN without a box."""
    boxes = np.array([place.box or (np.nan,) * 4 for place in places], float)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    counts = Counter(place.crs for place in places if place.box and _on_earth(place.crs))
    for crs in counts:
        inside = [i for i, place in enumerate(places) if place.crs == crs]
        middles[inside] = _moved(middles[inside], crs, counts.most_common(1)[0][0])
    return np.where(np.isfinite(middles), middles, np.nan)


def _across(
    places: Sequence[Place], inside: list[int], others: list[int], crs: str, margin: float
) -> np.ndarray:
    """Pairs of neighbours in two coordinate systems, (n, 2)."""
    here, there = (outlines([places[i] for i in group], crs) for group in (inside, others))
    sides = [_BETWEEN * np.sqrt(shapely.area(shapes)) for shapes in (here, there)]
    i, j = shapely.STRtree(there).query(here, predicate="dwithin", distance=margin + sides[0])
    gap = shapely.distance(here[i], there[j])
    near = gap <= margin + np.minimum(sides[0][i], sides[1][j])
    return np.column_stack([np.array(inside)[i[near]], np.array(others)[j[near]]])


def _moved(points: np.ndarray, source: str, target: str) -> np.ndarray:
    """Points (..., 2) in another coordinate system; infinite where it does not reach."""
    if source == target:
        return points
    moved = transformer(source, target).transform(points[..., 0], points[..., 1])
    return np.stack(moved, axis=-1)


@lru_cache(maxsize=64)
def _on_earth(crs: str) -> bool:
    """Whether a coordinate system is tied to the earth."""
    try:
        system = CRS.from_user_input(crs)
    except CRSError:
        return False
    return system.is_projected or system.is_geographic


@lru_cache(maxsize=64)
def transformer(source: str, target: str) -> Transformer:
    """From one coordinate system to another, x before y; made once."""
    return Transformer.from_crs(source, target, always_xy=True)


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
