"""Tags that hold, as the formats write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice

import shapely
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ....scenes.errors import Refused, UsageError
from ..labels import latest
from ..tables import LabelSet, Scene, Tag
from ..tagging import current_tags
from .places import Square, box, from_stored

_TOGETHER = 500
"""Tags in memory at once."""


@dataclass(frozen=True, eq=False)
class Mark:
    """One tag that holds, with its place in pixels."""

    tag: Tag

    @property
    def scene(self) -> Scene:
        """The scene that it is in."""
        return self.tag.scene

    @property
    def label(self) -> str:
        """What it says."""
        return str(self.tag.label)

    @property
    def square(self) -> Square | None:
        """The place of a square, px of the scene."""
        chip = self.tag.chip
        return None if chip is None else (chip.row, chip.col, chip.side)

    @cached_property
    def outline(self) -> shapely.Geometry:
        """The outline of its square or its polygon, px of the scene."""
        if self.square is not None:
            return box(self.square)
        assert self.tag.polygon is not None
        return from_stored(self.scene, self.tag.polygon)


@dataclass(frozen=True, eq=False)
class Marks:
    """All tags of one label set, read scene by scene."""

    session: Session
    labels: LabelSet

    def __iter__(self) -> Iterator[Mark]:
        order = (Tag.scene_id, Tag.made_at, Tag.id)
        query = current_tags().where(Tag.label_set_id == self.labels.id).order_by(*order)
        found = self.session.scalars(query.execution_options(yield_per=_TOGETHER))
        yield from map(Mark, found)

    def blocks(self) -> Iterator[list[Mark]]:
        """The same, a few hundred at a time."""
        marks = iter(self)
        while block := list(islice(marks, _TOGETHER)):
            yield block

    def by_scene(self) -> Iterator[tuple[Scene, list[Mark]]]:
        """The same, all tags of a scene at a time."""
        for _, marks in groupby(self, lambda mark: mark.scene.id):
            found = list(marks)
            yield found[0].scene, found

    def of_other_sets(self) -> int:
        """How many tags hold that were made with another label set or version."""
        tags = current_tags().where(Tag.label_set_id != self.labels.id)
        return self.session.scalar(select(func.count()).select_from(tags.subquery())) or 0


def find_labels(session: Session, wanted: str) -> LabelSet:
    """The label set NAME in its newest version, or NAME:VERSION; raises Refused where there is none."""
    name, _, version = wanted.partition(":")
    if not version:
        return latest(session, name)
    if not version.isdigit():
        raise UsageError(f"{wanted!r} is no label set: give NAME or NAME:VERSION.")
    query = select(LabelSet).where(LabelSet.name == name, LabelSet.version == int(version))
    found = session.scalars(query).first()
    if found is None:
        newest = latest(session, name)
        raise Refused(
            f"The label set {name} has no version {version}; the newest is {newest.version}."
        )
    return found


def file_name(scene: Scene) -> str:
    """What files about a scene are called: its name in plain letters and its number, always the same."""
    stem = scene.name.rpartition(".")[0] or scene.name
    plain = re.sub(r"[^A-Za-z0-9-]+", "-", stem).strip("-")[:80] or "scene"
    return f"{plain}_{scene.id:08d}"


def chip_name(scene: Scene, square: Square) -> str:
    """What files about a square are called."""
    row, col, side = square
    return f"{file_name(scene)}_r{row}_c{col}_s{side}"
