"""What came out of a study: its table beside the published one, as text and as a page."""

from __future__ import annotations

import base64
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from ..models.checkpoint import write_atomically
from ..models.metrics import Confusion
from ..models.presets import KAHRAMANMARAS
from ..models.published import TABLE_III, VARIANTS, PublishedRow, Variant

METHODS = tuple(KAHRAMANMARAS)
FIGURES = ("accuracy", "precision", "recall", "f1", "iou")
"""Of damaged pixels, pooled over all test chips; the columns of table III."""

_TEMPLATES = Path(__file__).parent / "templates"


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
    mean: Mapping[str, float]
    sd: Mapping[str, float] | None
    """Over seeds; None where there is one, which says nothing of others."""

    def text(self, name: str) -> str:
        """A figure in percent, with its deviation."""
        mean = f"{100 * self.mean[name]:.2f}"
        return mean if self.sd is None else f"{mean} ± {100 * self.sd[name]:.2f}"


@dataclass(frozen=True)
class Studied:
    """A finished study."""

    path: Path
    facts: Mapping[str, Any]
    outcomes: tuple[Outcome, ...]

    def text(self) -> str:
        """The table and where the report is, for the command line."""
        lines = [f"{'method':<13} {'encoder':<11} " + "".join(f"{n:>16}" for n in FIGURES)]
        for row in self.rows:
            shown = "".join(f"{row.text(name):>16}" for name in FIGURES)
            lines.append(f"{row.method:<13} {row.variant:<11} {shown}")
        for method in METHODS:
            before, after = self.separation(method)
            lines.append(
                f"distance   {method}: AUC {before:.3f} untrained, {after:.3f} pre-trained"
            )
        return "\n".join([*lines, f"report     {self.path / 'study.html'}"])

    @property
    def rows(self) -> tuple[Row, ...]:
        """The table, in the order of table III."""
        return tuple(self._row(method, variant) for variant in VARIANTS for method in METHODS)

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

    def _row(self, method: str, variant: Variant) -> Row:
        found = [outcome.scores[variant] for outcome in self.of(method)]
        by_name = {name: [figures[name] for figures in found] for name in found[0]}
        several = len(found) > 1
        return Row(
            method,
            variant,
            {name: statistics.fmean(values) for name, values in by_name.items()},
            {name: statistics.stdev(v) for name, v in by_name.items()} if several else None,
        )


def write_report(done: Studied) -> Path:
    """Write study.html: our table with the published rows beside it, and what differs. One file."""
    published = {(row.method, row.variant): row for row in TABLE_III}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True
    )
    page = environment.get_template("study.html.j2").render(
        study=done,
        figures=FIGURES,
        methods=METHODS,
        rows=[(row, published[row.method, row.variant]) for row in done.rows],
        panels=[(name, _picture(done.path / f"{name}-0" / "none.png")) for name in METHODS],
        separation=[(name, *done.separation(name)) for name in METHODS],
        **{kind: _shown(settings) for kind, settings in done.facts["settings"].items()},
    )
    target = done.path / "study.html"
    write_atomically(target, page.encode())
    return target


def _shown(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for a page that is sent on: folders by their names, not where they lie."""
    return {**settings, "data": ", ".join(Path(name).name for name in settings["data"])}


def _picture(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode() if path.is_file() else ""


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
