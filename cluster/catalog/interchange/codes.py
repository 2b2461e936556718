"""Labels of a label set as damage codes, as subtypes of xBD, and in other people's words."""

from __future__ import annotations

import re
from typing import Any

from ....scenes.layer import NOT_ANALYSED
from ....scenes.legend import UNGRADED, entry
from ....scenes.xbd import SUBTYPES
from ..tables import LabelSet


def code_of(labels: LabelSet, name: str) -> int:
    """The damage code of a label: xBD's level of the same name, else 5 damaged, 1 not, 255 where it does not say."""
    return _code(next(label for label in labels.labels if label["name"] == name))


def subtype_of(labels: LabelSet, name: str) -> str:
    """The subtype of xBD that comes closest; un-classified for damage that is not graded."""
    return entry(code_of(labels, name)).xbd


def label_of_code(labels: LabelSet, code: int) -> str | None:
    """The first label of a damage code; None where the set has none."""
    return next((str(one["name"]) for one in labels.labels if _code(one) == code), None)


def label_of_word(labels: LabelSet, word: str) -> str | None:
    """The label that a word means: its name or title, whatever its case and dashes; None for no label."""
    plain = _plain(word)
    found = (
        str(one["name"])
        for one in labels.labels
        if plain and plain in (_plain(str(one["name"])), _plain(str(one["title"])))
    )
    return next(found, None)


def label_of_subtype(labels: LabelSet, subtype: str) -> str | None:
    """The label that a subtype of xBD means; None where the set has no such level."""
    return label_of_word(labels, subtype) or label_of_code(labels, SUBTYPES[subtype])


def _code(label: dict[str, Any]) -> int:
    if label["name"] in SUBTYPES:
        return SUBTYPES[label["name"]]
    return {True: UNGRADED, False: 1, None: NOT_ANALYSED}[label["damaged"]]


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())
