"""Label sets: what a tag can say."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ...scenes.errors import Refused, UsageError
from ...scenes.layer import NOT_ANALYSED
from ...scenes.legend import LEVELS as GRADES
from ...scenes.legend import UNGRADED, entry
from .tables import LabelSet

PLAIN, LEVELS = "damage", "levels"
"""Label sets that every catalog begins with: paper 003's, and the four levels of the legend."""

_KEYS = {"name", "title", "key", "colour", "damaged"}


def plain_labels() -> list[LabelSet]:
    """The label sets of a new catalog."""
    return [
        LabelSet(name=PLAIN, version=1, labels=_damage()),
        LabelSet(name=LEVELS, version=1, labels=_levels()),
    ]


def latest(session: Session, name: str) -> LabelSet:
    """The newest version of a label set; Refused, naming those that exist, for an unknown name."""
    query = select(LabelSet).where(LabelSet.name == name).order_by(LabelSet.version.desc())
    found = session.scalars(query).first()
    if found is None:
        names = sorted(set(session.scalars(select(LabelSet.name))))
        raise Refused(f"There is no label set {name!r}. There is {', '.join(names)}.")
    return found


def change_labels(session: Session, name: str, labels: Sequence[Mapping[str, Any]]) -> LabelSet:
    """A label set's next version, or its first; the newest as it is where nothing differs.

    Tags keep the version that they were made with. Raises UsageError for labels that cannot be told apart.
    """
    checked = _checked(name, labels)
    query = select(LabelSet).where(LabelSet.name == name).order_by(LabelSet.version.desc())
    newest = session.scalars(query).first()
    if newest is not None and newest.labels == checked:
        return newest
    made = LabelSet(name=name, version=1 if newest is None else newest.version + 1, labels=checked)
    try:
        with session.begin_nested():
            session.add(made)
    except IntegrityError:  # somebody else has changed it at the same moment
        return change_labels(session, name, labels)
    return made


def read_labels(path: Path) -> list[dict[str, Any]]:
    """Labels from a JSON file: a list of objects; see `LabelSet.labels`."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise Refused(f'{path} is no list of labels such as {{"name": "damage", "key": "1"}}.')
    return found


def names(labels: LabelSet) -> list[str]:
    """The labels of a set, in order."""
    return [str(label["name"]) for label in labels.labels]


def check_label(labels: LabelSet, label: str) -> None:
    """Refuse a label that a set does not have."""
    if label not in names(labels):
        raise UsageError(
            f"The label set {labels.name} (version {labels.version}) has no {label!r}: "
            f"{', '.join(names(labels))}."
        )


def damaged(labels: LabelSet, label: str | None) -> bool | None:
    """Whether a label says damage; None where it does not say."""
    for one in labels.labels:
        if one["name"] == label:
            found = one["damaged"]
            return None if found is None else bool(found)
    return None


def _damage() -> list[dict[str, Any]]:
    intact, damage = entry(GRADES[0]), entry(UNGRADED)
    return [
        _label("damage", "Damage", "1", damage.hex, True),
        _label("no-damage", intact.name, "2", intact.hex, False),
        _label("cannot-tell", "Cannot tell", "3", entry(NOT_ANALYSED).hex, None),
    ]


def _levels() -> list[dict[str, Any]]:
    """The legend's levels, called as in xBD."""
    levels = [
        _label(entry(code).xbd, entry(code).name, str(code), entry(code).hex, code > 1)
        for code in GRADES
    ]
    return [*levels, _label("cannot-tell", "Cannot tell", "5", entry(NOT_ANALYSED).hex, None)]


def _label(name: str, title: str, key: str, colour: str, damaged: bool | None) -> dict[str, Any]:
    return {"name": name, "title": title, "key": key, "colour": colour, "damaged": damaged}


def _checked(name: str, labels: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,79}", name):
        raise UsageError(f"{name!r} is no name of a label set: small letters, digits, - and _.")
    found = []
    for number, label in enumerate(labels, 1):
        if unknown := sorted(set(label) - _KEYS):
            raise UsageError(
                f"Label {number} of {name} has {unknown[0]!r}; known: {', '.join(sorted(_KEYS))}."
            )
        plain = _label(
            str(label.get("name", "")),
            str(label.get("title") or label.get("name", "")),
            str(label.get("key") or number),
            str(label.get("colour") or "#888888"),
            label.get("damaged"),
        )
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,79}", plain["name"]):
            raise UsageError(
                f"Label {number} of {name} is called {plain['name']!r}: give small letters, digits, - and _."
            )
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", plain["colour"]):
            raise UsageError(
                f"Label {plain['name']} has the colour {plain['colour']!r}; give one as #d7191c."
            )
        if not (plain["damaged"] is None or isinstance(plain["damaged"], bool)):
            raise UsageError(f"Label {plain['name']}: damaged is true, false or null.")
        found.append(plain)
    for what in ("name", "key"):
        known = [label[what] for label in found]
        if len(set(known)) < len(known):
            raise UsageError(f"Two labels of {name} have the same {what}: {', '.join(known)}.")
    if len(found) < 2:
        raise UsageError(f"A label set needs two labels or more; {name} has {len(found)}.")
    return found
