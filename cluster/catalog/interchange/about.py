"""What an export of tags says of itself."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from ....scenes.legend import TITLE, VERSION
from .marks import Marks


def about(marks: Marks, to: str) -> dict[str, Any]:
    """The same for the same tags: no time, no folder."""
    return {
        "aftermap": version("aftermap"),
        "format": to,
        "legend": f"{TITLE}, version {VERSION}",
        "label_set": marks.labels.name,
        "label_version": marks.labels.version,
        "labels": marks.labels.labels,
    }
