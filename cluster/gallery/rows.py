"""The photos of a gallery as rows: what each is called, what it scores, what is said of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ...models.photos.photoset import PhotoSet

COLUMNS = ("photo", "score", "damaged", "label", "town", "part", "reason")
"""Of the table."""

LABELS = {True: "damage", False: "no damage", None: None}
"""What is written for a label."""

_BLOCK = 4096
"""Rows of the table that are written at once."""


@dataclass(frozen=True)
class Row:
    """One photo."""

    number: int
    """In its PhotoSet."""
    name: str
    """Path within the folder; what is no text in it is replaced."""
    score: np.float32
    found: bool
    """Whether the score reaches the threshold."""
    label: bool | None
    """Whether somebody said that it shows damage; None: nobody said."""
    town: str
    part: str
    """Of the data set: train, validation, test, or none."""

    @property
    def wrong(self) -> bool:
        """Whether the score contradicts the label."""
        return self.label is not None and self.label != self.found


def rows_of(photos: PhotoSet, scores: np.ndarray, threshold: float) -> list[Row]:
    """A row for each photo, in their order; `threshold` is inclusive."""
    root = Path(photos.source)
    return [
        Row(
            number,
            _within(root, photo.path),
            score,
            bool(score >= threshold),
            photo.damaged,
            plain(photo.town),
            photo.split,
        )
        for number, (photo, score) in enumerate(zip(photos.photos, scores, strict=True))
    ]


def table_of(photos: PhotoSet, rows: Sequence[Row]) -> Iterator[pd.DataFrame]:
    """The table of all photos by falling score, then those that cannot be read, some rows at a time."""
    cells = [_cells(row) for row in sorted(rows, key=lambda row: -row.score)]
    cells += [(name, None, None, None, None, None, reason) for name, reason in broken_of(photos)]
    for start in range(0, max(len(cells), 1), _BLOCK):
        yield pd.DataFrame(cells[start : start + _BLOCK], columns=list(COLUMNS), dtype=object)


def broken_of(photos: PhotoSet) -> list[tuple[str, str]]:
    """The photos that cannot be read, by name, with the reason."""
    root = Path(photos.source)
    return [
        (_within(root, entry.path), plain(entry.reason.replace(f"{root}{os.sep}", "")))
        for entry in photos.unreadable
    ]


def plain(text: str) -> str:
    """Text that can be written as UTF-8, whatever bytes a file name holds."""
    return os.fsencode(text).decode("utf-8", "replace")


def _within(root: Path, path: Path) -> str:
    return plain(str(path.relative_to(root)))


def _cells(row: Row) -> tuple[object, ...]:
    """As written; the score with as many digits as tell it from every other."""
    damaged = "yes" if row.found else "no"
    town, part = row.town or None, row.part or None
    return row.name, str(row.score), damaged, LABELS[row.label], town, part, None
