"""What came out of the study of paper 004, as text and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...models.metrics import Confusion
from ...models.published import AMATRICE_VALIDATION
from .curves import Curve, draw
from .page import picture, render, shown
from .spread import Spread

FIGURES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "iou": "IoU",
    "auc": "AUC",
}
"""Figures of a row and what they are called."""

ROWS = {
    "footprints": "footprints, binarised",
    "opened": "footprints, opened",
    "cells": "damage of buildings by their cell",
}
"""Fields of an outcome and their titles."""


@dataclass(frozen=True)
class Outcome:
    """What came out of a seed; figures on the test part, 0-1."""

    seed: int
    footprints: Mapping[str, float | None]
    opened: Mapping[str, float | None]
    cells: Mapping[str, float | None]
    trainings: Sequence[Sequence[Mapping[str, float]]]
    """Loss and validation metrics per epoch: of the footprints, of the cells."""


def figures_of(found: Confusion, auc: float | None, threshold: float) -> dict[str, float | None]:
    """The figures of a row at a threshold that validation chose; None where there is no such figure."""
    names = ("accuracy", "precision", "recall", "f1", "iou")
    return {name: getattr(found, name) for name in names} | {"auc": auc, "threshold": threshold}


@dataclass(frozen=True)
class AmatriceStudied:
    """A finished study."""

    path: Path
    facts: Mapping[str, Any]
    outcomes: tuple[Outcome, ...]

    @property
    def rows(self) -> dict[str, Spread]:
        """The table: titles and figures."""
        found = {}
        for field, title in ROWS.items():
            each = [getattr(outcome, field) for outcome in self.outcomes]
            told = [{k: v for k, v in figures.items() if v is not None} for figures in each]
            found[title] = Spread.of(told)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Outcomes, their mean and deviation, and what was published."""
        return {
            "outcomes": [asdict(outcome) for outcome in self.outcomes],
            "rows": {title: asdict(spread) for title, spread in self.rows.items()},
            "published_validation": asdict(AMATRICE_VALIDATION),
        }

    def text(self) -> str:
        """The table and where the report is, for the command line."""
        lines = [f"{'percent':<36}" + "".join(f"{name:>16}" for name in FIGURES.values())]
        for title, spread in self.rows.items():
            figures = "".join(f"{_told(spread, name):>16}" for name in FIGURES)
            lines.append(f"{title:<36}{figures}".rstrip())
        accuracy = f"{100 * AMATRICE_VALIDATION.accuracy:.0f}"
        lines.append(f"{'published: validation, of footprints':<36}{accuracy:>16}")
        return "\n".join([*lines, f"report     {self.path / 'study.html'}"])

    def page(self) -> str:
        """Our table, what differs from the publication, curves and the paper's figures."""
        settings = {name: shown(values) for name, values in self.facts["settings"].items()}
        curves = {
            title: [Curve((outcome.trainings[place],)) for outcome in self.outcomes]
            for place, title in enumerate(("footprints", "cells"))
        }
        return render(
            "study-amatrice.html.j2",
            study=self,
            figures=FIGURES,
            rows={
                title: {name: _told(spread, name) for name in FIGURES}
                | {"threshold": f"{spread.mean['threshold']:.3f}"}
                for title, spread in self.rows.items()
            },
            published=AMATRICE_VALIDATION,
            settings=settings,
            first=settings["unet-footprints"],
            curves=draw(curves),
            picture=picture(self.path / "seed-0" / "picture.png"),
        )


def _told(spread: Spread, name: str) -> str:
    return spread.text(name) if name in spread.mean else ""
