"""How well the scores of photos meet their labels, and what may flatter them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...models.photos.photoset import PhotoSet
from ...models.photos.twins import near_duplicates
from ...models.roc import auc
from .rows import Row, rows_of

MOST_COMPARED = 20_000
"""Photos that are compared with each other; the effort grows with their square."""

MOST_PAIRS = 20
"""Pairs of near-duplicates that are named."""


@dataclass(frozen=True)
class Figures:
    """Of the labelled photos of a group, at the threshold."""

    group: str
    photos: int
    damaged: int
    """By their labels."""
    hits: int
    """Of these, how many reach the threshold."""
    false_alarms: int
    """Of the others, how many do."""
    auc: float | None
    """None where all have the same label."""

    @property
    def wrong(self) -> int:
        """Misclassified photos."""
        return self.damaged - self.hits + self.false_alarms

    def text(self) -> str:
        """A line for the command line."""
        area = "unknown" if self.auc is None else f"{self.auc:.3f}"
        return (
            f"{self.group}: {self.photos} labelled, AUC {area}; {self.hits} of {self.damaged} with "
            f"damage found, {self.false_alarms} of {self.photos - self.damaged} others called damaged"
        )


@dataclass(frozen=True)
class Leaks:
    """Near-duplicates in different parts of a data set."""

    count: int = 0
    named: tuple[tuple[str, str, str, str], ...] = ()
    """The first of them: a photo and its part, the other and its part."""
    notes: tuple[str, ...] = ()


def figures_of(rows: Sequence[Row]) -> tuple[Figures, ...]:
    """The figures of all labelled photos, of each part and of each town; none without labels."""
    labelled = [row for row in rows if row.label is not None]
    groups = {"all": labelled} if labelled else {}
    for kind in ("part", "town"):
        names = sorted({getattr(row, kind) for row in labelled} - {""})
        for name in names if len(names) > 1 else ():
            groups[f"{kind} {name}"] = [row for row in labelled if getattr(row, kind) == name]
    return tuple(_figures(group, some) for group, some in groups.items())


def leaks_of(photos: PhotoSet) -> Leaks:
    """Photos that are nearly the same as one of another part, so that figures flatter."""
    if len({photo.split for photo in photos.photos}) < 2:
        return Leaks()
    if len(photos) > MOST_COMPARED:
        return Leaks(
            notes=(
                f"near-duplicates across parts were not looked for: {len(photos):,} photos are more "
                f"than {MOST_COMPARED:,}",
            )
        )
    pairs = [twins for twins in near_duplicates(photos) if twins.leak]
    rows = rows_of(photos, np.zeros(len(photos), np.float32), 0.5)
    named = tuple(
        (rows[t.first].name, rows[t.first].part, rows[t.second].name, rows[t.second].part)
        for t in pairs[:MOST_PAIRS]
    )
    several = "pairs of photos" if len(pairs) > 1 else "pair of photos"
    told = f"{len(pairs)} {several} of different parts: nearly the same"
    return Leaks(len(pairs), named, (told,) if pairs else ())


def _figures(group: str, rows: Sequence[Row]) -> Figures:
    labels = np.array([row.label for row in rows], bool)
    found = np.array([row.found for row in rows], bool)
    return Figures(
        group=group,
        photos=len(rows),
        damaged=int(labels.sum()),
        hits=int((labels & found).sum()),
        false_alarms=int((~labels & found).sum()),
        auc=auc(np.array([row.score for row in rows]), labels),
    )
