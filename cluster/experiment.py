"""The folder of a search or a study: one of the same settings goes on, any other is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..models.recipes import SYNTHETIC
from ..scenes.atomic import write_atomically
from ..scenes.errors import Refused

_TOLD = 5
"""Changes that are named."""


def plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they are read back from JSON, which has no infinite numbers: they become words."""
    values: dict[str, Any] = json.loads(json.dumps(facts), parse_constant=str)
    return values


def seen_by_all(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with absolute sources and files: workers may have another working folder."""
    found = dict(settings)
    if "data" in found:
        names = found["data"]
        found["data"] = tuple(n if n == SYNTHETIC else str(Path(n).absolute()) for n in names)
    for name in ("encoder", "init"):
        if found.get(name) is not None:
            found[name] = str(Path(found[name]).absolute())
    return found


def check_folder(path: Path, file: str, kind: str, facts: Mapping[str, Any]) -> None:
    """See that a folder is new, or of a `kind` ("search", "study") with these `facts`, as of `plain`.

    `file` is the name of the note that `begin` leaves. Raises Refused for a folder that cannot be
    made, that holds something else, or whose note says other facts, naming what changed.
    """
    check_room(path)
    if not path.is_dir():
        return
    if not (path / file).is_file():
        others = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
        if others:
            raise Refused(f"{path} holds {others[0]!r}, which no {kind} wrote. Give another --out.")
        return
    changed = list(_changes(_noted(path / file, kind), facts))
    if changed:
        more = f" and {len(changed) - _TOLD} more" if len(changed) > _TOLD else ""
        raise Refused(
            f"{path} holds another {kind}: {'; '.join(changed[:_TOLD])}{more}. Give another --out."
        )


def check_room(path: Path) -> None:
    """Refuse a folder that cannot be made or written to."""
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise Refused(f"The folder {path} cannot be made: {nearest} is in the way. Change --out.")


def begin(path: Path, file: str, facts: Mapping[str, Any]) -> None:
    """Make the folder and its note, where it is not there yet."""
    path.mkdir(parents=True, exist_ok=True)
    if not (path / file).exists():
        write_atomically(path / file, json.dumps(facts, indent=1).encode())


def _noted(note: Path, kind: str) -> dict[str, Any]:
    try:
        found = json.loads(note.read_text(encoding="utf-8"), parse_constant=str)
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise Refused(f"{note} is not what a {kind} writes. Give another --out.")
    return found


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """What of `now` was otherwise; of what lies in tables within it, also what is no longer there."""
    for key in sorted({*now, *(before if within else ())}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _changes(old, new, f"{within}{key} ")
        elif old != new:
            yield f"{within}{key} was {old}, now {new}"
