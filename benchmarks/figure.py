"""One measured figure beside its target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Target:
    """What a figure should reach."""

    relation: Literal["<=", ">="]
    limit: float

    def reached(self, value: float) -> bool:
        """Whether a value lies on the right side of the limit."""
        return value <= self.limit if self.relation == "<=" else value >= self.limit

    def __str__(self) -> str:
        return f"{self.relation} {self.limit:g}"


@dataclass(frozen=True)
class Figure:
    """A row of the table; without a target it explains another row."""

    name: str
    value: float
    unit: str
    target: Target | None = None
    detail: Mapping[str, object] = field(default_factory=dict)
    """Whatever explains the value: repetitions, phases, counts."""

    @property
    def verdict(self) -> str:
        """ "met", "missed", or nothing where there is no target."""
        if self.target is None:
            return ""
        return "met" if self.target.reached(self.value) else "missed"

    def to_dict(self) -> dict[str, object]:
        """Plain values for the results file."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "target": None if self.target is None else str(self.target),
            "verdict": self.verdict,
            "detail": dict(self.detail),
        }


def table(figures: Sequence[Figure]) -> str:
    """Figures as text: measured, target, verdict."""
    rows = [("", "measured", "target", "")]
    rows += [
        (
            figure.name if figure.target else f"  {figure.name}",
            f"{figure.value:.4g} {figure.unit}".strip(),
            str(figure.target or ""),
            figure.verdict,
        )
        for figure in figures
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
