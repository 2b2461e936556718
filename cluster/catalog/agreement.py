"""How far those who tag the same squares agree, and where they do not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from .tables import LabelSet, Tag, User
from .tagging import current_tags

Table = Counter[tuple[str, str]]
"""How often one person gave the first label and another one the second."""


@dataclass(frozen=True)
class Agreement:
    """Of two people, or of all pairs together."""

    both: int
    """Squares that both have tagged."""
    same: int
    """Of these, those with the same label."""
    kappa: float | None
    """Cohen's (1960); None where nothing can be said: no square, or one label throughout."""


def agreement(table: Table) -> Agreement:
    """Cohen's kappa of two people: agreement beyond what their shares of labels give by chance."""
    return _pooled([table])


def overall(tables: Mapping[tuple[str, str], Table]) -> Agreement:
    """Of all pairs: the mean observed agreement against the mean expected one, weighted by squares.

    Pooled kappa, De Vries et al. (2008), Field Methods 20(3), with the number of squares as weight.
    """
    return _pooled(list(tables.values()))


def _pooled(tables: list[Table]) -> Agreement:
    both = sum(table.total() for table in tables)
    same = sum(n for table in tables for (one, other), n in table.items() if one == other)
    chance = sum(_by_chance(table) for table in tables)
    # In whole squares, so that one label throughout is found exactly.
    return Agreement(both, same, (same - chance) / (both - chance) if both > chance else None)


def _by_chance(table: Table) -> float:
    """How many squares would get the same label if both drew from their own shares."""
    first: Counter[str] = Counter()
    second: Counter[str] = Counter()
    for (one, other), count in table.items():
        first[one] += count
        second[other] += count
    total = table.total()
    return sum(first[label] * second[label] for label in first) / total if total else 0.0


def compared(session: Session, label_set: str) -> dict[tuple[str, str], Table]:
    """For each two users, by name, what they said of the squares that both have tagged.

    What counts is what each has said last on his own: a correction by somebody else changes the tag,
    not the opinion, so that settling disagreements does not raise the agreement. What somebody else
    took back is left out.
    """
    found: defaultdict[tuple[str, str], Table] = defaultdict(Counter)
    for said in _opinions(session, label_set).values():
        for one, other in combinations(sorted(said), 2):
            found[one, other][said[one], said[other]] += 1
    return dict(sorted(found.items()))


def _opinions(session: Session, label_set: str) -> dict[int, dict[str, str]]:
    """Label by user by chip."""
    old = aliased(Tag)
    author = aliased(User)
    query = (
        select(Tag.id, Tag.chip_id, Tag.label, Tag.replaces, User.name, author.name)
        .join(LabelSet, LabelSet.id == Tag.label_set_id)
        .join(User, User.id == Tag.user_id)
        .join(old, old.id == Tag.replaces, isouter=True)
        .join(author, author.id == old.user_id, isouter=True)
        .where(LabelSet.name == label_set, Tag.chip_id.is_not(None))
        .order_by(Tag.made_at, Tag.id)
    )
    said: defaultdict[int, dict[str, tuple[str, str]]] = defaultdict(dict)
    for tag, chip, label, replaces, user, whose in session.execute(query):
        assert chip is not None
        if label is None:
            if said[chip].get(whose, ("", ""))[1] == replaces:
                del said[chip][whose]
        elif whose in (None, user):
            said[chip][user] = label, tag
    return {chip: {user: label for user, (label, _) in who.items()} for chip, who in said.items()}


def disagreements(session: Session, label_set: str, limit: int) -> list[list[Tag]]:
    """The tags that hold of squares with more than one label, those of the newest squares first."""
    query = (
        current_tags()
        .join(LabelSet, LabelSet.id == Tag.label_set_id)
        .where(LabelSet.name == label_set, Tag.chip_id.is_not(None))
        .order_by(Tag.made_at, Tag.id)
    )
    # Which squares, before their rows are loaded: most squares are not among them.
    pairs = query.with_only_columns(Tag.chip_id, Tag.label).subquery()
    other = aliased(pairs)
    differing = (
        select(pairs.c.chip_id)
        .join(other, other.c.chip_id == pairs.c.chip_id)
        .where(other.c.label != pairs.c.label)
        .distinct()
        .order_by(pairs.c.chip_id.desc())
        .limit(limit)
    )
    chips = list(session.scalars(differing))
    found: dict[int, list[Tag]] = {chip: [] for chip in chips}
    for tag in session.scalars(query.where(Tag.chip_id.in_(chips))):
        assert tag.chip_id is not None
        found[tag.chip_id].append(tag)
    return list(found.values())
