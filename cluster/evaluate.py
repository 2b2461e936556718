"""Evaluation of a network on chips: figures, curves, panels and a page that holds them all."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from ..models.card import Card
from ..models.change import ChangeNet
from ..models.checkpoint import load, write_atomically
from ..models.chips.chipset import ChipSet
from ..models.chips.open import open_chips
from ..models.chips.parts import MAIN, divided
from ..models.evaluation import FIGURES, Evaluation, evaluate_chips
from ..models.panels import panels_of
from ..models.published import TABLE_III
from ..models.recipes import IMAGENET_MEAN, IMAGENET_STD
from ..scenes.errors import Refused, UsageError

_PAGE = "evaluation.html"
_TEMPLATES = Path(__file__).parent / "templates"
_SIDE = 280
"""Side of a curve's plot, px."""


@dataclass(frozen=True)
class Evaluated:
    """What came out, and where it is."""

    path: Path
    split: str
    threshold: float
    found: Evaluation
    best_threshold: float | None
    """The threshold of the highest F1 on the validation part; None where that shows no damage."""

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values."""
        return {
            "split": self.split,
            "threshold": self.threshold,
            "best_threshold_on_validation": self.best_threshold,
            **self.found.to_dict(),
        }

    def text(self) -> str:
        """The figures, for the command line."""
        told = self.found.to_dict()
        head = " ".join(f"{name:>10}" for name in FIGURES)
        lines = [f"{self.split:<28}{head}"]
        for title, row in (("all pixels together", "micro"), ("mean over damaged chips", "mean_over_damaged_images")):  # fmt: skip
            shown = " ".join(f"{100 * told[row][name]:>10.2f}" for name in FIGURES)
            lines.append(f"{title:<28}{shown}")
        if told["levels"]:
            lines.append(f"xView2 score                {100 * told['levels']['score']:>10.2f}")
        lines.append(
            f"chips        {told['images']}, of which {told['damaged_images']} show damage"
        )
        if self.best_threshold is not None:
            lines.append(
                f"threshold    {self.threshold:g}; the best on validation chips is "
                f"{self.best_threshold:g}"
            )
        return "\n".join([*lines, f"report       {self.path / _PAGE}"])


def evaluate(
    weights: str | Path,
    data: str | Path,
    out: str | Path,
    split: str = "test",
    threshold: float | None = None,
    intact: bool = True,
) -> Evaluated:
    """Evaluate weights on a part of a folder of chips.

    `split` is train, validation, test or all; chips that bring no parts are divided as training
    divides them. `threshold` is for one class; None takes the card's. `intact=False` leaves out
    places that show no damage, as paper 001 does. `out` gets evaluation.json, per_image.csv,
    curves.svg, panels.png and evaluation.html.

    Raises Refused for weights or chips that cannot be used and for a part without damage.
    """
    network, card = load(weights)
    if not isinstance(network, ChangeNet):
        raise Refused(f"{weights} holds {card.network}, which finds no change between two images.")
    if (card.mean, card.std, card.scale) != (IMAGENET_MEAN, IMAGENET_STD, 255.0):
        raise Refused(
            f"The card of {weights} has its own mean, deviation or scale, and chips are evaluated with "
            f"those of our trainings. Give weights that `aftermap train` wrote."
        )
    if threshold is not None and network.classes > 1:
        raise UsageError("--threshold is for one class; of five classes the most probable counts.")
    chosen_threshold = card.threshold if threshold is None else threshold
    if not 0 < chosen_threshold < 1:
        raise UsageError(f"--threshold {threshold} is no probability between 0 and 1.")
    chips = open_chips(data, card.classes)
    part = _part(chips, split, intact)
    _check_folder(Path(out))
    found = evaluate_chips(network, (part.chip(i) for i in range(len(part))), chosen_threshold)
    if not found.damaged_images:
        raise Refused(
            f"The {split} part of {data} ({len(part)} chips) shows no damage: nothing could be said "
            f"of how it is found. Give --data other chips, or another --split."
        )
    done = Evaluated(
        Path(out), split, chosen_threshold, found, _best(network, chips, split, intact)
    )
    _write(done, network, card, part, str(data))
    return done


def _part(chips: ChipSet, split: str, intact: bool) -> ChipSet:
    if split == "all":
        kept = [i for i in range(len(chips)) if intact or chips.damaged(i)]
        return chips.subset(kept)
    if split not in MAIN:
        raise UsageError(f"--split {split!r} is none of {', '.join([*MAIN, 'all'])}.")
    part = _named(chips, split, intact)
    if not len(part):
        raise Refused(f"{chips.source} has no {split} part. Give another --split, such as all.")
    return part


def _named(chips: ChipSet, split: str, intact: bool) -> ChipSet:
    part = divided(chips).part(split)
    return part.subset([i for i in range(len(part)) if intact or part.damaged(i)])


def _check_folder(out: Path) -> None:
    """Refuse before anything is worked out what could not be written."""
    nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise Refused(f"The folder {out} cannot be made: {nearest} is in the way. Change --out.")


def _best(network: ChangeNet, chips: ChipSet, split: str, intact: bool) -> float | None:
    """The best threshold on validation chips; None for levels, and where these are tested on."""
    if network.classes > 1 or split in ("all", "validation"):
        return None
    held = _named(chips, "validation", intact)
    scores = evaluate_chips(network, (held.chip(i) for i in range(len(held)))).scores
    return scores.best_threshold()


def _write(done: Evaluated, network: ChangeNet, card: Card, part: ChipSet, data: str) -> None:
    done.path.mkdir(parents=True, exist_ok=True)
    picture = panels_of(network, done.found, part.chip, done.threshold)
    curves = _curves(done)
    told = done.to_dict() | {"weights_sha256": card.sha256, "data": data}
    page = _render(
        _PAGE + ".j2",
        done=done,
        told=told,
        card=card,
        data=Path(data).name,
        figures=FIGURES,
        published=TABLE_III,
        curves=base64.b64encode(curves.encode()).decode(),
        panels=base64.b64encode(picture).decode(),
    )
    write_atomically(done.path / "panels.png", picture)
    write_atomically(done.path / "curves.svg", curves.encode())
    write_atomically(done.path / "per_image.csv", _table(done.found).encode())
    write_atomically(done.path / "evaluation.json", json.dumps(told, indent=1).encode())
    write_atomically(done.path / _PAGE, page.encode())


def _table(found: Evaluation) -> str:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["chip", "tp", "fp", "fn", "tn", *FIGURES])
    for name, counts in found.images:
        ratios = (repr(getattr(counts, figure)) for figure in FIGURES)
        # A spreadsheet takes these first characters for a formula.
        safe = f"'{name}" if name[:1] in "=+-@" else name
        rows.writerow([safe, counts.tp, counts.fp, counts.fn, counts.tn, *ratios])
    return text.getvalue()


def _curves(done: Evaluated) -> str:
    """Precision over recall, and the ROC curve, with the threshold marked; SVG."""
    scores, counts = done.found.scores, done.found.pixels
    precision, recall = scores.precision_recall()
    false_rate, true_rate = scores.roc()
    fpr = counts.fp / max(counts.fp + counts.tn, 1)
    plots = [
        {"title": "Precision over recall", "x": "recall", "y": "precision",
         "line": _line(recall, precision), "dot": (counts.recall, counts.precision),
         "note": f"average precision {_shown(scores.average_precision)}"},
        {"title": "ROC", "x": "false positive rate", "y": "true positive rate",
         "line": _line(false_rate, true_rate), "dot": (fpr, counts.recall),
         "note": f"area under the curve {_shown(scores.auc)}"},
    ]  # fmt: skip
    return _render(
        "curves.svg.j2",
        plots=plots,
        side=_SIDE,
        threshold=done.threshold,
        graded=done.found.levels is not None,
    )


def _line(x: np.ndarray, y: np.ndarray) -> str:
    points = (
        f"{a * _SIDE:.1f},{(1 - b) * _SIDE:.1f}"
        for a, b in zip(x.tolist(), y.tolist(), strict=True)
    )
    return " ".join(dict.fromkeys(points))  # bins that hold no pixel add no point


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _render(template: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True
    )
    return environment.get_template(template).render(**values)


def run_evaluate(arguments: Mapping[str, Any]) -> None:
    """Evaluate from the command line's arguments and print the figures."""
    done = evaluate(
        arguments["weights"],
        arguments["data"],
        arguments["out"],
        arguments["split"],
        arguments["threshold"],
        arguments["intact"],
    )
    print(json.dumps(done.to_dict(), indent=1) if arguments["as_json"] else done.text())
