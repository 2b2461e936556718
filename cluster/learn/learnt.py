"""What came of a learning, as it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .figures import Figures, table
from .parts import BUFFER, TEST, TRAIN
from .suggestions import Suggested, told
from .tuning import Trial

_USED = (
    "test       its figures also decide what comes into use (--promote if-better), and are a little "
    "too good for that"
)


@dataclass(frozen=True, kw_only=True)
class Tags:
    """What was learnt from and tested on."""

    label_set: str
    tags: int
    people: int
    counts: Mapping[str, tuple[int, int]]
    """Chips of each part: all, and those with damage."""
    ties: Sequence[int]
    """Numbers of the chips that as many called damaged as not."""
    silent: int
    polygons: int

    def text(self) -> list[str]:
        """As lines of text."""
        train, test, buffer = (self.counts.get(part, (0, 0)) for part in (TRAIN, TEST, BUFFER))
        lines = [
            f"tags       {self.tags} of {self.people} people, label set {self.label_set}",
            f"parts      {train[0]} chips to learn from ({train[1]} with damage), {test[0]} to test on "
            f"({test[1]}), {buffer[0]} between them left out",
        ]
        aside = [
            f"{len(self.ties)} ties (chips {', '.join(map(str, self.ties[:10]))}"
            f"{', …' if len(self.ties) > 10 else ''})" * bool(self.ties),
            f"{self.silent} chips without a vote" * bool(self.silent),
            f"{self.polygons} polygons" * bool(self.polygons),
        ]
        if any(aside):
            lines.append(f"left out   {', '.join(filter(None, aside))}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "label_set": self.label_set,
            "tags": self.tags,
            "people": self.people,
            "parts": {
                name: {"chips": chips, "damaged": damaged}
                for name, (chips, damaged) in self.counts.items()
            },
            "ties": list(self.ties),
            "silent": self.silent,
            "polygons": self.polygons,
        }


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """A model that was made, or, of a dry run, would be."""

    tags: Tags
    begins: str
    """The backbone, where its weights are from, and the side of squares, in words."""
    model: int | None = None
    """Its number; None of a dry run."""
    new: bool = False
    """False: the same tags have given the same weights before."""
    digest: str = ""
    trial: Trial | None = None
    """Of the tuned network against the last layer alone; None where only that was asked for."""
    figures: Figures | None = None
    """On the part that is tested on."""
    in_use: tuple[int, Figures] | None = None
    """Number and figures, on the same part, of the model that was in use before."""
    promoted: bool = False
    why: str = ""
    suggestions: Sequence[Suggested] = ()
    left_out: Sequence[str] = field(default_factory=tuple)
    """Scenes of which nothing was suggested, and why."""

    def text(self) -> str:
        """As told to a person."""
        lines = [*self.tags.text(), f"backbone   {self.begins}"]
        if self.figures is None:
            return "\n".join([*lines, "Nothing was learnt or written (--dry-run)."])
        known = "" if self.new else ", known already: the same tags, the same weights"
        lines += ["", *table(self._rows()), "", _USED]
        if self.trial is not None:
            lines.append(f"learnt     {self.trial.text()}")
        lines.append(f"model      {self.model} ({self.digest[:12]}{known})")
        lines.append(f"{'promoted' if self.promoted else 'candidate':<10} {self.why}")
        lines += told(self.suggestions)
        lines += [f"passed     {reason}" for reason in self.left_out]
        return "\n".join(lines)

    def _rows(self) -> list[tuple[str, Figures]]:
        assert self.figures is not None
        rows = [("new", self.figures)]
        return rows if self.in_use is None else [*rows, ("in use", self.in_use[1])]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **self.tags.to_dict(),
            "backbone": self.begins,
            "model": self.model,
            "new": self.new,
            "digest": self.digest,
            "tuning": None if self.trial is None else self.trial.to_dict(),
            "figures": None if self.figures is None else self.figures.to_dict(),
            "in_use": None
            if self.in_use is None
            else {"model": self.in_use[0], **self.in_use[1].to_dict()},
            "promoted": self.promoted,
            "why": self.why,
            "suggestions": [one.to_dict() for one in self.suggestions],
            "left_out": list(self.left_out),
        }
