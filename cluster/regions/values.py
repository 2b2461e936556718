"""The values of a region file: of their type and within their limits, or refused by name.

TOML has types of its own: a date in quotes is text, and one text is no list of texts.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from dask.utils import parse_bytes
from pyproj import CRS
from pyproj.exceptions import CRSError

from ...scenes.errors import UsageError

_WORDS: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "truth values"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text in quotes", "texts"),
    Path: ("a file name in quotes", "file names"),
    date: ("a date without quotes, such as 2023-02-06", "dates"),
}
"""A type in words: one value, and several."""

_NUMBERS = {2: "two", 3: "three", 4: "four"}


@dataclass(frozen=True)
class Limit:
    """What a value must be like besides its type."""

    words: str
    """What it must be, to follow "must be"."""
    holds: Callable[[Any], bool]
    """Whether a value of the right type is so."""


def _is_memory(text: str) -> bool:
    try:
        return int(parse_bytes(text)) > 0
    except ValueError:
        return False


def _is_crs(text: str) -> bool:
    try:
        CRS.from_user_input(text)
    except CRSError:
        return False
    return True


def _at_least_one(value: float) -> bool:
    return value >= 1


LIMITS = {
    "images": {
        "max_cloud": Limit("a number of percent, 0 or more", lambda v: v >= 0),
        "max_off_nadir": Limit("a number of degrees, 0 or more", lambda v: v >= 0),
    },
    "assess": {
        "chunk": Limit("a whole number of pixels, 1 or more", _at_least_one),
        "halo": Limit("a whole number of pixels, 0 or more", lambda v: v >= 0),
        "resolution": Limit("a length in metres above 0", lambda v: 0 < v < float("inf")),
        "device": Limit('"auto", "cpu" or "cuda"', lambda v: v in ("auto", "cpu", "cuda")),
        "precision": Limit('"auto", "fp32" or "bf16"', lambda v: v in ("auto", "fp32", "bf16")),
        "overlap": Limit("a whole number of pixels, 0 or more", lambda v: v >= 0),
        "nms": Limit("a share, 0 to 1", lambda v: 0 <= v <= 1),
        "nms_rule": Limit('"iou" or "malisiewicz"', lambda v: v in ("iou", "malisiewicz")),
        "views": Limit("1, 4 or 8", lambda v: v in (1, 4, 8)),
        "grid": Limit('"post" or "pre"', lambda v: v in ("post", "pre")),
        "bands": Limit("band numbers, counted from 1", lambda v: v and min(v) >= 1),
        "scale": Limit("two numbers, the lower one first", lambda v: v[0] < v[1]),
        "crs": Limit('a coordinate system, such as "EPSG:32637"', _is_crs),
        "min_area": Limit("an area in m2, 0 or more", lambda v: 0 <= v < float("inf")),
    },
    "cluster": {
        "workers": Limit("a whole number, 1 or more", _at_least_one),
        "memory": Limit('an amount of memory in quotes, such as "4GiB"', _is_memory),
        "scenes_at_once": Limit("a whole number, 1 or more", _at_least_one),
    },
}
"""By table and key; keys without a limit are checked where they are used, before anything runs."""


def check_values(table: str, values: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Check a table's values against the types of its keys and their limits.

    `kinds` are type hints; None is a value where they say so. Raises UsageError with table, key,
    what is allowed and what was found.
    """
    limits = LIMITS.get(table, {})
    for key, value in values.items():
        if not _fits(value, kinds[key]):
            raise _wrong(table, key, _told(kinds[key]), value)
        if value is not None and key in limits and not limits[key].holds(value):
            raise _wrong(table, key, limits[key].words, value)


def _wrong(table: str, key: str, needed: str, found: object) -> UsageError:
    return UsageError(f"[{table}] {key} must be {needed}; found {found!r}.")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value read from TOML is of a type."""
    origin, within = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in within)
    if origin in (tuple, Sequence):
        several = origin is Sequence or within[-1] is Ellipsis
        return (
            isinstance(value, list | tuple)
            and (several or len(value) == len(within))
            and all(_fits(one, within[0]) for one in value)
        )
    if kind is float:
        return type(value) in (int, float)
    if kind in (str, Path):
        return isinstance(value, str) and bool(value.strip())
    return type(value) is kind


def _told(kind: Any) -> str:
    """A type in words."""
    origin, within = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_told(one) for one in within if _known(one)))
    if origin in (tuple, Sequence):
        if origin is Sequence or within[-1] is Ellipsis:
            return f"a list of {_WORDS[within[0]][1]}"
        return f"a list of {_NUMBERS[len(within)]} {_WORDS[within[0]][1]}"
    return _WORDS[kind][0]


def _known(kind: Any) -> bool:
    """Whether a file can hold values of a type: it cannot hold None, nor a client."""
    return kind in _WORDS or get_origin(kind) is not None
