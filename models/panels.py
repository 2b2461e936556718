"""Panels to look at: before, after, truth, prediction, and where the two differ (paper 001, fig. 5)."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..scenes.layer import NOT_ANALYSED
from ..scenes.legend import LEGEND, entry
from .chips.chip import Chip
from .damage_net import DamageNet
from .evaluation import Evaluation, Prediction, predict_chip
from .metrics import DAMAGED

FOUND, MISSED, FALSE_ALARM = (0, 160, 60), (220, 30, 30), (40, 90, 230)
"""Colours of the paper: green true positive, red false negative, blue false positive."""

_TITLES = ("before", "after", "truth", "prediction", "comparison")
_GREY, _STRIPE = (150, 150, 150), (95, 95, 95)
_GAP, _LINE = 6, 20
_NAME = 60
"""Characters of a chip's name that are shown."""


@dataclass(frozen=True)
class Panel:
    """One row."""

    chip: Chip
    prediction: Prediction
    caption: str


def chosen(evaluation: Evaluation) -> list[tuple[int, str]]:
    """Numbers of the chips to show and why: best, median and worst by IoU, most false alarms.

    The first three are of the chips that show damage; of an even number the lower of the two in the
    middle is the median. The last one is of all chips, where there is a false alarm. Of equals the
    first is taken, and each chip is shown once.
    """
    rows = list(enumerate(evaluation.images))
    damaged = sorted((r for r in rows if r[1][1].tp + r[1][1].fn), key=lambda r: -r[1][1].iou)
    picks = []
    if damaged:
        lowest = next(r for r in damaged if r[1][1].iou == damaged[-1][1][1].iou)
        middle = damaged[len(damaged) // 2]
        picks = [(*damaged[0], "best"), (*middle, "median"), (*lowest, "worst")]
    if rows:
        worst = max(rows, key=lambda r: r[1][1].fp)
        picks += [(*worst, "most false alarms")] if worst[1][1].fp else []
    seen: dict[int, str] = {}
    for number, (name, counts), word in picks:
        figures = f"IoU {counts.iou:.2f}, {counts.fp} px false alarm, {counts.fn} px missed"
        seen.setdefault(number, f"{word}: {_short(name)} ({figures})")
    return list(seen.items())


def panels_of(
    network: DamageNet, found: Evaluation, chip: Callable[[int], Chip], threshold: float = 0.5
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
    """Draw rows of five pictures of at most `side` px, each with its caption, and a legend; PNG.

    What was left out is hatched in truth and comparison.
    """
    font = ImageFont.load_default(13)
    width = 5 * side + 6 * _GAP
    keys = _legend(panels, width, font)
    below = _LINE + len(panels) * (side + _LINE + _GAP) + _GAP
    height = below + _LINE * (1 + max((y for *_, y in keys), default=0))
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(_TITLES):
        pen.text((_GAP + column * (side + _GAP), 3), title, fill="black", font=font)
    for row, panel in enumerate(panels):
        top = _LINE + row * (side + _LINE + _GAP)
        for column, picture in enumerate(_pictures(panel, side)):
            left = _GAP + column * (side + _GAP)
            sheet.paste(picture, (left, top))
            frame = (left - 1, top - 1, left + picture.width, top + picture.height)
            pen.rectangle(frame, outline=_GREY)
        pen.text((_GAP, top + side + 2), panel.caption, fill="black", font=font)
    for colour, text, x, line in keys:
        y = below + line * _LINE
        sheet.paste(_hatched(Image.new("RGB", (13, 13), colour)), (x, y))
        pen.rectangle((x, y, x + 12, y + 12), outline="black")
        pen.text((x + 18, y - 2), text, fill="black", font=font)
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


def _pictures(panel: Panel, side: int) -> list[Image.Image]:
    """The five pictures of a row, at the scale at which the longer side fits."""
    chip, codes = panel.chip, panel.prediction.codes
    height, width = (max(1, side * x // max(codes.shape)) for x in codes.shape)
    photographs = [np.ascontiguousarray(x.transpose(1, 2, 0)) for x in (chip.pre, chip.post)]
    maps = [_coloured(chip.codes), _coloured(codes), compared(chip, codes, side)]

    def scaled(picture: np.ndarray, resampling: Image.Resampling) -> Image.Image:
        return Image.fromarray(picture).resize((width, height), resampling)

    return [
        *(scaled(x, Image.Resampling.BOX) for x in photographs),
        *(_hatched(scaled(x, Image.Resampling.NEAREST)) for x in maps),
    ]


def _hatched(picture: Image.Image) -> Image.Image:
    """The picture with slanting stripes where something was left out."""
    pixels = np.array(picture)
    rows, columns = np.indices(pixels.shape[:2])
    pixels[((rows + columns) % 6 < 2) & (pixels == _GREY).all(axis=2)] = _STRIPE
    return Image.fromarray(pixels)


def _coloured(codes: np.ndarray) -> np.ndarray:
    """Damage codes in the colours of the legend; background white, left out grey."""
    table = np.full((256, 3), _GREY, np.uint8)
    for row in LEGEND:
        if row.code != NOT_ANALYSED:
            table[row.code] = row.rgb
    return table[codes]


def _legend(
    panels: Sequence[Panel], width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont
) -> list[tuple[tuple[int, int, int], str, int, int]]:
    """Colours and words, and where they stand: px from the left, and the line below the rows."""
    codes = sorted({int(c) for p in panels for x in (p.chip.codes, p.prediction.codes) for c in np.unique(x)})  # fmt: skip
    keys = [(entry(c).rgb, entry(c).name) for c in codes if c not in (0, NOT_ANALYSED)]
    keys += [
        (FOUND, "comparison: damage found"),
        (MISSED, "missed"),
        (FALSE_ALARM, "false alarm"),
        (_GREY, "left out, counts in no way"),
    ]
    placed, x, line = [], _GAP, 0
    for colour, text in keys:
        room = 18 + int(font.getlength(text)) + 18
        if x + room > width and x > _GAP:
            x, line = _GAP, line + 1
        placed.append((colour, text, x, line))
        x += room
    return placed


def _short(name: str) -> str:
    """A chip's name in one line, the end of a long one, which is what tells it from others."""
    line = " ".join(name.split())
    return line if len(line) <= _NAME else f"...{line[3 - _NAME :]}"
