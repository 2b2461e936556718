"""All that a learning reads from the catalog: votes, their parts, the model in use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from ...scenes.errors import Refused
from ..catalog.lineage import promoted
from ..catalog.tables import Model
from .config import LearnConfig
from .learnt import Tags
from .parts import BUFFER, LEAST, TEST, TRAIN, parts_of
from .votes import Voted, Votes, counted


@dataclass(frozen=True, eq=False)
class Lesson:
    """Chips of which people said what they show, and the part of each."""

    votes: Votes
    parts: dict[int, str]
    in_use: Model | None
    square: int
    """Side of most tagged squares, px of their scenes."""

    @classmethod
    def of(cls, session: Session, config: LearnConfig) -> Lesson:
        """Read it all in one go; Refused for an unknown label set, and where nothing was tagged."""
        votes = counted(session, config.label_set)
        if not votes.chips:
            raise Refused(
                f"Nobody has tagged squares with the label set {config.label_set!r} as damage or no "
                f"damage ({len(votes.ties)} ties, {votes.silent} without a vote, {votes.polygons} "
                "polygons, which are not learnt from). Tag some with `aftermap serve`, or change "
                "--labels."
            )
        parts = parts_of(session, votes.chips, config.held_out)
        sides = Counter(voted.chip.side for voted in votes.chips)
        # Of sides equally common the smallest.
        square = min(sides, key=lambda side: (-sides[side], side))
        return cls(votes, parts, promoted(session, config.method), square)

    def part(self, name: str) -> list[Voted]:
        """The chips of a part, in the order of their pixels' digests: the same for the same pixels."""
        chips = [voted for voted in self.votes.chips if self.parts[voted.chip.id] == name]
        return sorted(chips, key=lambda voted: (voted.chip.content, voted.chip.id))

    @property
    def tags(self) -> Tags:
        """What is told of it."""
        counts = {}
        for name in (TRAIN, TEST, BUFFER):
            chips = self.part(name)
            counts[name] = (len(chips), sum(voted.damaged for voted in chips))
        return Tags(
            label_set=self.votes.labels.name,
            tags=self.votes.tags,
            people=self.votes.people,
            counts=counts,
            ties=self.votes.ties,
            silent=self.votes.silent,
            polygons=self.votes.polygons,
        )

    @property
    def learnt(self) -> dict[str, str]:
        """The tags that a model is made with, and the part of each."""
        return {
            tag: part
            for part in (TRAIN, TEST)
            for voted in self.part(part)
            for tag in voted.tags
        }  # fmt: skip

    @property
    def pixels(self) -> tuple[float, float] | None:
        """Pixel sizes that are like those tagged, m: from half the least to twice the greatest; None where
        only photos were tagged."""
        found = [v.scene.gsd_m for v in self.votes.chips if v.scene.gsd_m is not None]
        return (min(found) / 2, max(found) * 2) if found else None

    def resampled(self, side: int) -> float | None:
        """How large, m, the pixels of the tagged squares are at the median after they have `side` px."""
        chips = [(v.chip, v.scene.gsd_m) for v in self.votes.chips]
        found = [gsd * chip.side / side for chip, gsd in chips if gsd is not None]
        return float(np.median(found)) if found else None

    def lacking(self) -> str:
        """What is missing to learn and to test, in words; empty where there is enough."""
        counts = self.tags.counts
        told = [
            f"{chips} to {what} ({damaged} with damage, {chips - damaged} without)"
            for part, what in ((TRAIN, "learn from"), (TEST, "test on"))
            for chips, damaged in (counts[part],)
        ]
        enough = all(
            min(damaged, chips - damaged) >= LEAST
            for chips, damaged in (counts[TRAIN], counts[TEST])
        )
        if enough:
            return ""
        return (
            f"There are too few tagged squares: {told[0]} and {told[1]}; {LEAST} of each kind are needed "
            f"in both parts, {counts[BUFFER][0]} between them are in neither. Tag more of the rarer kind."
        )


def damaged_of(chips: Sequence[Voted]) -> np.ndarray:
    """Whether each chip shows damage, bool (n,)."""
    return np.array([voted.damaged for voted in chips], bool)
