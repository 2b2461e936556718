"""What came out of an evaluation: figures, a table per image, curves, panels and a page. One folder."""

from __future__ import annotations

import base64
import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from ..models.card import Card
from ..models.evaluation import FIGURES, Evaluation
from ..models.published import TABLE_III
from ..scenes.atomic import write_atomically
from ..scenes.legend import LEVELS, entry

FILES = ("evaluation.json", "per_image.csv", "curves.svg", "panels.png", "evaluation.html")
"""What a folder gets, the page last."""

_TEMPLATES = Path(__file__).parent / "templates"
_SIDE = 280
"""Side of a curve's plot, px."""


@dataclass(frozen=True)
class Evaluated:
    """What came out, and where it is."""

    path: Path
    split: str
    threshold: float | None
    """Of damage; None for levels, of which the largest counts."""
    found: Evaluation
    best_threshold: float | None
    """The threshold of the highest F1 on the validation part; None where that shows no damage."""
    divided: bool = False
    """Whether the chips brought no parts and were divided as training divides them."""
    intact: bool = True
    """Whether places that show no damage count."""

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values."""
        return {
            "split": self.split,
            "split_by_us": self.divided,
            "intact_places_count": self.intact,
            "threshold": self.threshold,
            "best_threshold_on_validation": self.best_threshold,
            **self.found.to_dict(),
        }

    def text(self) -> str:
        """The figures, for the command line."""
        told = self.found.to_dict()
        head = " ".join(f"{name:>10}" for name in FIGURES)
        lines = [f"{self.split:<28}{head}"]
        for title, row in (
            ("all pixels together", "micro"),
            ("mean over damaged chips", "mean_over_damaged_images"),
            ("median over damaged chips", "median_over_damaged_images"),
        ):
            shown = " ".join(f"{100 * told[row][name]:>10.2f}" for name in FIGURES)
            lines.append(f"{title:<28}{shown}")
        if told["levels"]:
            names = " ".join(f"{name:>10}" for name in ("score", "buildings", "damage"))
            lines.append(f"{'xView2':<28}{names}")
            for title, row in (("pixels", "levels"), ("buildings", "building_levels")):
                parts = [told[row][name] for name in ("score", "localization_f1", "damage_f1")]
                shown = " ".join(f"{100 * part:>10.2f}" for part in parts)
                lines.append(f"{title:<28}{shown}")
        how = "; divided as training divides them" if self.divided else ""
        some = "" if self.intact else "; places without damage are left out"
        lines.append(
            f"chips        {told['images']}, of which {told['damaged_images']} show damage{some}{how}"
        )
        if self.threshold is not None:
            best = self.best_threshold
            told_best = "" if best is None else f"; the best on validation chips is {best:g}"
            lines.append(f"threshold    {self.threshold:g}{told_best}")
        return "\n".join([*lines, f"report       {self.path / FILES[-1]}"])


def write_evaluated(done: Evaluated, card: Card, data: str, panels: bytes) -> None:
    """Write the files of `FILES`, each by rename; `panels` is a PNG."""
    done.path.mkdir(parents=True, exist_ok=True)
    curves = _curves(done)
    network = {
        "method": card.method,
        "options": dict(card.options),
        "weights_sha256": card.sha256,
        "training_data": card.training_data,
    }
    told = done.to_dict() | network | {"data": data}
    page = _render(
        "evaluation.html.j2",
        done=done,
        told=told,
        card=card,
        data=Path(data).absolute().name,
        figures=FIGURES,
        levels=[(code, entry(code).name) for code in (0, *LEVELS)],
        published=TABLE_III,
        curves=base64.b64encode(curves.encode()).decode(),
        panels=base64.b64encode(panels).decode(),
    )
    made = (
        json.dumps(told, indent=1).encode(),
        _table(done.found).encode(),
        curves.encode(),
        panels,
        page.encode(),
    )
    for name, content in zip(FILES, made, strict=True):
        write_atomically(done.path / name, content)


def _table(found: Evaluation) -> str:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["chip", "tp", "fp", "fn", "tn", *FIGURES])
    for name, counts in found.images:
        ratios = (repr(getattr(counts, figure)) for figure in FIGURES)
        # A spreadsheet takes these first characters for a formula.
        safe = f"'{name}" if name[:1] in tuple("=+-@\t\r") else name
        rows.writerow([safe, counts.tp, counts.fp, counts.fn, counts.tn, *ratios])
    return text.getvalue()


def _curves(done: Evaluated) -> str:
    """Precision over recall, and the ROC curve, with what was counted marked; SVG."""
    scores, counts = done.found.scores, done.found.pixels
    precision, recall = scores.precision_recall()
    false_rate, true_rate = scores.roc()
    fpr, share = counts.fp / max(counts.fp + counts.tn, 1), scores.damaged_share
    plots = [
        {"title": "Precision over recall", "x": "recall", "y": "precision",
         "line": _line(recall, precision), "dot": (counts.recall, counts.precision),
         "chance": (share, share), "note": f"average precision {_shown(scores.average_precision)}"},
        {"title": "ROC", "x": "false positive rate", "y": "true positive rate",
         "line": _line(false_rate, true_rate), "dot": (fpr, counts.recall),
         "chance": (0, 1), "note": f"area under the curve {_shown(scores.auc)}"},
    ]  # fmt: skip
    dot = "the largest class" if done.threshold is None else f"threshold {done.threshold:g}"
    return _render("curves.svg.j2", plots=plots, side=_SIDE, dot=dot)


def _line(x: np.ndarray, y: np.ndarray) -> str:
    points = (f"{a * _SIDE:.1f},{(1 - b) * _SIDE:.1f}" for a, b in zip(x, y, strict=True))
    return " ".join(dict.fromkeys(points))


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _render(template: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True
    )
    return environment.get_template(template).render(**values)
