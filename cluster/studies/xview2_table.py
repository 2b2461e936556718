"""What came out of the study of paper 002: scores beside the published ones, as text and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...models.metrics import LEVELS, XView2Counts
from ...models.published import XVIEW2_SCORES
from ...scenes.legend import entry
from .curves import Curve, draw
from .page import picture, render, shown
from .spread import Spread


@dataclass(frozen=True)
class RowKind:
    """How the network of a row is trained."""

    name: str
    preset: str
    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)


ROWS = (
    RowKind("lovasz", "xview2", "as in the paper"),
    RowKind("code", "xview2-code", "as in the published code"),
    RowKind("entropy", "xview2", "weighted cross-entropy", {"loss": "entropy"}),
)
"""The third is what the paper rejects."""

FIGURES = {
    "score": "xView2 score",
    "localization_f1": "localization F1",
    "damage_f1": "damage F1",
} | {f"f1_level_{code}": entry(code).name for code in LEVELS}
"""Figures of a row and what they are called."""


@dataclass(frozen=True)
class Outcome:
    """What came out of a task."""

    row: str
    seed: int
    pixels: Mapping[str, float]
    """Figures on the test part, 0-1."""
    buildings: Mapping[str, float]
    """Likewise, with buildings in the place of pixels."""
    trainings: Sequence[Sequence[Mapping[str, float]]]
    """Loss and validation metrics per epoch, of each training that followed another."""


def figures_of(counts: XView2Counts) -> dict[str, float]:
    """The figures of a row, 0-1."""
    score = counts.score()
    levels = score.pop("damage_f1_per_class")
    return score | {f"f1_level_{code}": f1 for code, f1 in zip(LEVELS, levels, strict=True)}


@dataclass(frozen=True)
class Row:
    """One of the rows of a study's table."""

    kind: RowKind
    pixels: Spread
    buildings: Spread


@dataclass(frozen=True)
class XView2Studied:
    """A finished study."""

    path: Path
    facts: Mapping[str, Any]
    outcomes: tuple[Outcome, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """The table."""
        return tuple(
            Row(
                kind,
                Spread.of([outcome.pixels for outcome in self.of(kind.name)]),
                Spread.of([outcome.buildings for outcome in self.of(kind.name)]),
            )
            for kind in ROWS
        )

    def of(self, row: str) -> list[Outcome]:
        """The outcomes of a row, by seed."""
        return [outcome for outcome in self.outcomes if outcome.row == row]

    def to_dict(self) -> dict[str, Any]:
        """Outcomes, their mean and deviation, and what was published in percent."""
        return {
            "outcomes": [asdict(outcome) for outcome in self.outcomes],
            "rows": {
                row.kind.name: {"pixels": asdict(row.pixels), "buildings": asdict(row.buildings)}
                for row in self.rows
            },
            "published_percent": [asdict(score) for score in XVIEW2_SCORES],
        }

    def text(self) -> str:
        """The table and where the report is, for the command line."""
        lines = [f"{'percent':<36}" + "".join(f"{name:>17}" for name in FIGURES.values())]
        for row in self.rows:
            for what, spread in (("pixels", row.pixels), ("buildings", row.buildings)):
                figures = "".join(f"{spread.text(name):>17}" for name in FIGURES)
                lines.append(f"{f'{row.kind.title}, {what}':<36}{figures}")
        for score in XVIEW2_SCORES:
            told = (getattr(score, name, None) for name in FIGURES)
            figures = "".join(f"{'' if x is None else f'{x:.3f}':>17}" for x in told)
            lines.append(f"{f'published: {score.where}':<36}{figures}".rstrip())
        return "\n".join([*lines, f"report     {self.path / 'study.html'}"])

    def page(self) -> str:
        """Our tables with the published scores, what differs, curves and panels."""
        settings = {kind.name: shown(self.facts["settings"][kind.name]) for kind in ROWS}
        return render(
            "study-xview2.html.j2",
            study=self,
            figures=FIGURES,
            published=XVIEW2_SCORES,
            settings=settings,
            titles={kind.name: kind.title for kind in ROWS},
            first=settings[ROWS[0].name],
            differ=_different(settings),
            same=_same(settings),
            curves=draw({kind.title: self._curves(kind.name) for kind in ROWS}),
            panels=[(k, picture(self.path / f"{k.name}-0" / "panels.png")) for k in ROWS],
        )

    def _curves(self, row: str) -> list[Curve]:
        return [Curve(tuple(outcome.trainings)) for outcome in self.of(row)]


def _different(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Settings in which rows differ, with the value of each row."""
    rows = list(settings.values())
    return {
        key: [row[key] for row in rows]
        for key in rows[0]
        if key != "warm_up" and any(row[key] != rows[0][key] for row in rows)
    }


def _same(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Settings that all rows share."""
    first, differ = next(iter(settings.values())), _different(settings)
    return {key: value for key, value in first.items() if key not in {*differ, "warm_up"}}
