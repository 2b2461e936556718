"""Panels: which chips are shown, in which colours, and what the legend says of them."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from aftermap.models.change import ChangeNet
from aftermap.models.chips.chip import Chip
from aftermap.models.evaluation import Evaluation, Prediction, evaluate_chips
from aftermap.models.metrics import Confusion
from aftermap.models.panels import (
    FALSE_ALARM,
    FOUND,
    MISSED,
    Panel,
    chosen,
    compared,
    draw_panels,
    panels_of,
)
from aftermap.models.registry import build
from aftermap.scenes.legend import entry
from PIL import Image

pytestmark = pytest.mark.usefixtures("one_thread")

GREY = (150, 150, 150)


def evaluation(*counts: tuple[int, int, int]) -> Evaluation:
    """Chips c0, c1, ... with so many true positives, false positives and false negatives."""
    rows = [(f"c{i}", Confusion(tp, fp, fn, 100)) for i, (tp, fp, fn) in enumerate(counts)]
    return Evaluation(images=tuple(rows))


def shown(found: Evaluation) -> list[tuple[int, str]]:
    return [(number, text.split(":")[0]) for number, text in chosen(found)]


def test_the_best_the_median_and_the_worst_are_shown_and_most_false_alarms() -> None:
    found = evaluation((9, 1, 0), (5, 5, 5), (0, 2, 9), (0, 70, 0), (7, 1, 1))
    assert shown(found) == [(0, "best"), (1, "median"), (2, "worst"), (3, "most false alarms")]
    texts = dict(chosen(found))
    assert texts[0] == "best: c0 (IoU 0.90, 1 px false alarm, 0 px missed)"


def test_of_equals_the_first_is_shown_and_each_once() -> None:
    assert shown(evaluation((5, 0, 5), (5, 0, 5), (5, 0, 5))) == [(0, "best"), (1, "median")]
    worst = evaluation((9, 0, 1), (0, 0, 5), (0, 0, 7), (8, 3, 1))
    assert shown(worst) == [(0, "best"), (1, "median"), (3, "most false alarms")]
    assert shown(evaluation((1, 0, 1))) == [(0, "best")]


def test_without_damage_or_false_alarm_nothing_is_made_up() -> None:
    assert shown(evaluation((0, 0, 0), (0, 4, 0))) == [(1, "most false alarms")]
    assert shown(evaluation((0, 0, 0))) == []
    assert chosen(Evaluation()) == []


def test_a_long_name_never_hides_the_figures() -> None:
    name = "a\nb" + "x" * 300 + "end.png"
    found = Evaluation(images=((name, Confusion(1, 0, 1, 0)),))
    ((_, text),) = chosen(found)
    assert text.endswith("xend.png (IoU 0.50, 0 px false alarm, 1 px missed)")
    assert "\n" not in text
    assert len(text) < 130


def test_comparison_has_the_colours_of_the_paper() -> None:
    codes = np.array([[5, 5, 0, 0, 255, 1]], np.uint8)
    said = np.array([[5, 0, 5, 0, 5, 4]], np.uint8)
    image = np.full((3, 1, 6), 90, np.uint8)
    picture = compared(Chip(image, image, codes), said)
    wanted = [FOUND, MISSED, FALSE_ALARM, (200, 200, 200), GREY, FALSE_ALARM]
    assert [tuple(pixel) for pixel in picture[0].tolist()] == wanted


def sheet(codes: np.ndarray, said: np.ndarray, side: int = 64, rows: int = 1) -> np.ndarray:
    """A sheet of one chip, whose images are 10 before and 90 after."""
    pre, post = (np.full((3, *codes.shape), value, np.uint8) for value in (10, 90))
    panel = Panel(Chip(pre, post, codes), Prediction(np.zeros(codes.shape), said), "it")
    return np.array(Image.open(io.BytesIO(draw_panels([panel] * rows, side))))


def column(picture: np.ndarray, number: int, side: int = 64) -> np.ndarray:
    left = 6 + number * (side + 6)
    return picture[20 : 20 + side, left : left + side]


def test_five_pictures_stand_in_a_row_in_the_colours_of_the_legend() -> None:
    codes = np.zeros((64, 64), np.uint8)
    codes[:32, :32], codes[40:50, 40:50], codes[:, 60:] = 2, 4, 255
    said = np.where(codes == 2, 3, 0).astype(np.uint8)
    picture = sheet(codes, said)
    before, after, truth, prediction, comparison = (column(picture, i) for i in range(5))
    assert (before == 10).all()
    assert (after == 90).all()
    assert tuple(truth[5, 5]) == entry(2).rgb
    assert tuple(truth[45, 45]) == entry(4).rgb
    assert tuple(truth[60, 5]) == (255, 255, 255)
    assert tuple(prediction[5, 5]) == entry(3).rgb
    assert tuple(prediction[45, 45]) == (255, 255, 255)
    assert tuple(comparison[5, 5]) == FOUND  # damaged by one level or another
    assert tuple(comparison[45, 45]) == MISSED
    for hatched in (truth, comparison):
        colours = {tuple(pixel) for pixel in hatched[:, 60:].reshape(-1, 3).tolist()}
        assert colours == {GREY, (95, 95, 95)}
    assert (prediction[:, 60:] == 255).all()
    below = {tuple(pixel) for pixel in picture[20 + 64 + 26 :].reshape(-1, 3).tolist()}
    names = {entry(code).rgb for code in (2, 3, 4)}
    assert names | {FOUND, MISSED, FALSE_ALARM, GREY} <= below
    assert entry(1).rgb not in below  # a level that is not shown is not explained


def test_a_chip_that_is_no_square_keeps_its_shape() -> None:
    codes = np.full((32, 128), 5, np.uint8)
    picture = sheet(codes, codes)
    truth = column(picture, 2)
    assert (truth[:16] == entry(5).rgb).all()
    assert (truth[18:] == 255).all()


def test_a_photograph_is_averaged_and_a_map_is_not() -> None:
    pre = np.zeros((3, 128, 128), np.uint8)
    pre[:, :, ::2] = 200
    codes = np.zeros((128, 128), np.uint8)
    codes[:, ::2] = 5
    panel = Panel(Chip(pre, pre, codes), Prediction(np.zeros(codes.shape), codes), "it")
    picture = np.array(Image.open(io.BytesIO(draw_panels([panel], 64))))
    assert (column(picture, 0) == 100).all()
    colours = {tuple(pixel) for pixel in column(picture, 2).reshape(-1, 3).tolist()}
    assert colours <= {(255, 255, 255), entry(5).rgb}


def test_shrunk_no_error_is_lost_in_the_comparison() -> None:
    codes = np.full((128, 128), 5, np.uint8)
    codes[0, 100] = 0
    said = np.full((128, 128), 5, np.uint8)
    said[127, 3] = 0
    comparison = column(sheet(codes, said), 4)
    assert tuple(comparison[0, 50]) == FALSE_ALARM
    assert tuple(comparison[63, 1]) == MISSED
    wrong = (comparison != FOUND).any(axis=2)
    assert wrong.sum() == 2


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_rows_stand_below_each_other(rows: int) -> None:
    codes = np.full((64, 64), 5, np.uint8)
    picture = sheet(codes, codes, rows=rows)
    assert picture.shape[1] == 5 * 64 + 36
    for row in range(rows):
        assert tuple(picture[20 + row * 90 + 5, 6 + 2 * 70 + 5]) == entry(5).rgb


def test_panels_of_a_network_are_the_same_every_time() -> None:
    torch.manual_seed(0)
    network = build("fc-siam-diff", size="small", classes=1).eval()
    assert isinstance(network, ChangeNet)
    rng = np.random.default_rng(0)
    chips = [
        Chip(*rng.integers(1, 255, (2, 3, 40, 53), np.uint8),
             rng.choice([0, 5, 255], (40, 53)).astype(np.uint8), name=f"chip{i}")
        for i in range(4)
    ]  # fmt: skip
    found = evaluate_chips(network, chips)
    asked: list[int] = []

    def chip(number: int) -> Chip:
        asked.append(number)
        return chips[number]

    first = panels_of(network, found, chip)
    assert asked == [number for number, _ in chosen(found)]
    assert first == panels_of(network, found, chip)
