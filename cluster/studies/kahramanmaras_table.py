"""What came out of the study of paper 001: its table beside the published one, as text and as a page."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...models.metrics import Confusion
from ...models.presets import KAHRAMANMARAS
from ...models.published import TABLE_III, VARIANTS, PublishedRow, Variant
from .page import picture, render, shown
from .spread import Spread

METHODS = tuple(KAHRAMANMARAS)
FIGURES = ("accuracy", "precision", "recall", "f1", "iou")
"""Of damaged pixels, pooled over all test chips; the columns of table III."""


@dataclass(frozen=True)
class Outcome:
    """What came out of a task."""

    method: str
    seed: int
    auc_untrained: float
    auc: float
    """How well the distance of embeddings tells damage, on test places."""
    scores: Mapping[str, Mapping[str, float]]
    """Per variant, the figures on the test part."""


@dataclass(frozen=True)
class Row:
    """One of the nine rows of a study's table."""

    method: str
    variant: Variant
    figures: Spread


@dataclass(frozen=True)
class KahramanmarasStudied:
    """A finished study."""

    path: Path
    facts: Mapping[str, Any]
    outcomes: tuple[Outcome, ...]

    def to_dict(self) -> dict[str, Any]:
        """The outcomes, of which all the rest is made."""
        return {"outcomes": [asdict(outcome) for outcome in self.outcomes]}

    def text(self) -> str:
        """The table and where the report is, for the command line."""
        lines = [f"{'method':<13} {'encoder':<11} " + "".join(f"{n:>16}" for n in FIGURES)]
        for row in self.rows:
            figures = "".join(f"{row.figures.text(name):>16}" for name in FIGURES)
            lines.append(f"{row.method:<13} {row.variant:<11} {figures}")
        for method in METHODS:
            before, after = self.separation(method)
            lines.append(
                f"distance   {method}: AUC {before:.3f} untrained, {after:.3f} pre-trained"
            )
        return "\n".join([*lines, f"report     {self.path / 'study.html'}"])

    def page(self) -> str:
        """Our table with the published rows beside it, and what differs."""
        published = {(row.method, row.variant): row for row in TABLE_III}
        return render(
            "study-kahramanmaras.html.j2",
            study=self,
            figures=FIGURES,
            methods=METHODS,
            rows=[(row, published[row.method, row.variant]) for row in self.rows],
            panels=[(name, picture(self.path / f"{name}-0" / "none.png")) for name in METHODS],
            separation=[(name, *self.separation(name)) for name in METHODS],
            **{kind: shown(settings) for kind, settings in self.facts["settings"].items()},
        )

    @property
    def rows(self) -> tuple[Row, ...]:
        """The table, in the order of table III."""
        return tuple(
            Row(method, variant, Spread.of([found.scores[variant] for found in self.of(method)]))
            for variant in VARIANTS
            for method in METHODS
        )

    def of(self, method: str) -> list[Outcome]:
        """The outcomes of a network, by seed."""
        return [outcome for outcome in self.outcomes if outcome.method == method]

    def separation(self, method: str) -> tuple[float, float]:
        """Mean area under the curve of the embeddings' distance: untrained, and pre-trained."""
        found = self.of(method)
        return (
            statistics.fmean(outcome.auc_untrained for outcome in found),
            statistics.fmean(outcome.auc for outcome in found),
        )


def consistent(row: PublishedRow, within: float = 0.015) -> bool:
    """Whether the figures of one row, percent, belong together by our own metric's definitions.

    Pixels are counted that have the row's accuracy, precision and recall; F1 and IoU of these
    counts must be the row's, within rounding.
    """
    accuracy, precision, recall = (getattr(row, name) / 100 for name in FIGURES[:3])
    # Per true positive there are so many false ones, and the accuracy says how many pixels in all.
    fp, fn = 1 / precision - 1, 1 / recall - 1
    pixels = (fp + fn) / (1 - accuracy)
    scale = 10**9
    counts = Confusion(*(round(scale * x) for x in (1, fp, fn, pixels - 1 - fp - fn)))
    return all(abs(100 * getattr(counts, name) - getattr(row, name)) <= within for name in FIGURES)
