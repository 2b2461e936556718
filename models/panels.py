"""Panels to look at: before, after, truth, prediction, and where the two differ (paper 001, fig. 5)."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..scenes.layer import NOT_ANALYSED
from ..scenes.legend import LEGEND
from .change import ChangeNet
from .chips.chip import Chip
from .evaluation import Evaluation, Prediction, predict_chip
from .metrics import DAMAGED

FOUND, MISSED, FALSE_ALARM = (0, 160, 60), (220, 30, 30), (40, 90, 230)
"""Colours of the paper: green true positive, red false negative, blue false positive."""

_TITLES = ("before", "after", "truth", "prediction", "green found, red missed, blue false alarm")
_GREY = (150, 150, 150)
_GAP, _LINE = 6, 20


@dataclass(frozen=True)
class Panel:
    """One row."""

    chip: Chip
    prediction: Prediction
    caption: str


def chosen(evaluation: Evaluation) -> list[tuple[int, str]]:
    """Numbers of the chips to show and why: best, median and worst by IoU, most false alarms.

    The first three are of the chips that show damage. Of equals the first is taken, and each chip
    is shown once.
    """
    rows = list(enumerate(evaluation.images))
    damaged = sorted((r for r in rows if r[1][1].tp + r[1][1].fn), key=lambda r: -r[1][1].iou)
    picks = []
    if damaged:
        worst = min(damaged, key=lambda row: row[1][1].iou)
        middle = damaged[len(damaged) // 2]
        picks = [(*damaged[0], "best"), (*middle, "median"), (*worst, "worst")]
    if rows:
        picks.append((*max(rows, key=lambda r: r[1][1].fp), "most false alarms"))
    seen: dict[int, str] = {}
    for number, (name, counts), word in picks:
        figures = f"IoU {counts.iou:.2f}, {counts.fp} px false alarm, {counts.fn} px missed"
        seen.setdefault(number, f"{word}: {name} ({figures})")
    return list(seen.items())


def panels_of(
    network: ChangeNet, found: Evaluation, chip: Callable[[int], Chip], threshold: float = 0.5
) -> bytes:
    """Panels of the chips that an evaluation makes worth a look, as `chosen` says; PNG.

    `chip` gives a chip by its number in the evaluation.
    """
    rows = [
        Panel(shown, predict_chip(network, shown, threshold), caption)
        for number, caption in chosen(found)
        for shown in [chip(number)]
    ]
    return draw_panels(rows)


def draw_panels(panels: Sequence[Panel], side: int = 256) -> bytes:
    """Draw rows of five pictures of `side` px, each with its caption; PNG. What was left out is grey."""
    font = ImageFont.load_default(13)
    width = 5 * side + 6 * _GAP
    height = _LINE + len(panels) * (side + _LINE + _GAP) + _GAP
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(_TITLES):
        pen.text((_GAP + column * (side + _GAP), 3), title, fill="black", font=font)
    for row, panel in enumerate(panels):
        top = _LINE + row * (side + _LINE + _GAP)
        for column, picture in enumerate(_pictures(panel, side)):
            image = ImageOps.pad(
                Image.fromarray(picture), (side, side), Image.Resampling.NEAREST, color="white"
            )
            sheet.paste(image, (_GAP + column * (side + _GAP), top))
        pen.text((_GAP, top + side + 2), panel.caption[:150], fill="black", font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def compared(chip: Chip, codes: np.ndarray, side: int | None = None) -> np.ndarray:
    """Where prediction and truth agree and differ, over a faint after image; uint8 (h, w, 3).

    Brought to about `side` px, a cell shows the worst of its pixels, so that no error is lost.
    """
    truth, found = np.isin(chip.codes, DAMAGED), np.isin(codes, DAMAGED)
    verdict = np.zeros(chip.codes.shape, np.uint8)
    verdict[chip.codes == NOT_ANALYSED] = 1
    known = chip.codes != NOT_ANALYSED
    for number, place in enumerate((truth & found, truth & ~found, found & ~truth), 2):
        verdict[place & known] = number
    step = 1 if side is None else max(1, -(-max(verdict.shape) // side))
    height, width = chip.codes.shape
    rows, cols = -(-height // step), -(-width // step)
    whole = np.zeros((rows * step, cols * step), np.uint8)
    whole[:height, :width] = verdict
    verdict = whole.reshape(rows, step, cols, step).max(axis=(1, 3))
    grey = chip.post.mean(axis=0)[::step, ::step, None]
    picture = np.repeat(170 + grey / 3, 3, axis=2).astype(np.uint8)
    for number, colour in enumerate((_GREY, FOUND, MISSED, FALSE_ALARM), 1):
        picture[verdict == number] = colour
    return picture


def _pictures(panel: Panel, side: int) -> list[np.ndarray]:
    chip, codes = panel.chip, panel.prediction.codes
    images = [np.ascontiguousarray(x.transpose(1, 2, 0)) for x in (chip.pre, chip.post)]
    return [*images, _coloured(chip.codes), _coloured(codes), compared(chip, codes, side)]


def _coloured(codes: np.ndarray) -> np.ndarray:
    """Damage codes in the colours of the legend; background white, left out grey."""
    table = np.full((256, 3), _GREY, np.uint8)
    for row in LEGEND:
        if row.code != NOT_ANALYSED:
            table[row.code] = row.rgb
    return table[codes]
