"""What people said, chip by chip: damage or none, by the majority of those who tagged it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy.orm import Session

from ..catalog.labels import damaged, latest
from ..catalog.tables import Chip, LabelSet, Scene, Tag
from ..catalog.tagging import current_tags


@dataclass(frozen=True, eq=False)
class Voted:
    """A chip of which most people said the same."""

    chip: Chip
    scene: Scene
    damaged: bool
    tags: tuple[str, ...]
    """All that were counted, those of the minority too."""


@dataclass(frozen=True, eq=False)
class Votes:
    """The chips of a label set, by number, and what was left out."""

    labels: LabelSet
    """In its newest version."""
    chips: tuple[Voted, ...]
    ties: tuple[int, ...]
    """Numbers of chips of which as many said damage as none."""
    silent: int
    """Chips that were tagged, but by nobody with a label that says damage or none."""
    polygons: int
    """Tags of polygons, which have no pixels of their own."""
    people: int
    tagged: tuple[Chip, ...]
    """All chips that have a tag, whatever it says."""

    @property
    def tags(self) -> int:
        """Tags that were counted."""
        return sum(len(voted.tags) for voted in self.chips)


def counted(session: Session, label_set: str) -> Votes:
    """Count the tags that hold of a label set, in all its versions; Refused for an unknown name.

    Everybody has one vote on a chip: of several tags of one person the newest. Labels that do not say
    whether there is damage are no votes.
    """
    labels = latest(session, label_set)
    query = current_tags().join(LabelSet, LabelSet.id == Tag.label_set_id)
    query = query.where(LabelSet.name == label_set).order_by(Tag.made_at, Tag.id)
    said: dict[int, dict[int, Tag]] = defaultdict(dict)
    polygons = 0
    for tag in session.scalars(query):
        if tag.chip_id is None:
            polygons += 1
        else:
            said[tag.chip_id][tag.user_id] = tag
    chips, ties, silent = [], [], 0
    people = set()
    for number, votes in sorted(said.items()):
        yes = [t for t in votes.values() if damaged(t.label_set, t.label) is True]
        no = [t for t in votes.values() if damaged(t.label_set, t.label) is False]
        people |= {tag.user_id for tag in (*yes, *no)}
        if not yes and not no:
            silent += 1
        elif len(yes) == len(no):
            ties.append(number)
        else:
            tags = tuple(sorted(tag.id for tag in (*yes, *no)))
            chips.append(_voted(yes[0] if yes else no[0], len(yes) > len(no), tags))
    tagged = tuple(_chip(next(iter(votes.values()))) for votes in said.values())
    return Votes(labels, tuple(chips), tuple(ties), silent, polygons, len(people), tagged)


def _voted(tag: Tag, damaged: bool, tags: tuple[str, ...]) -> Voted:
    return Voted(_chip(tag), tag.scene, damaged, tags)


def _chip(tag: Tag) -> Chip:
    assert tag.chip is not None
    return tag.chip
