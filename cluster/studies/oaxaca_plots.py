"""The plots of the study of paper 003, as places within an SVG: curves, ROC, photos in a plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

WIDTH, HEIGHT = 440, 340
"""Of what is drawn within the axes, px."""

COLOURS = (
    "#1f5f8b", "#8a8f98", "#c0504d", "#6a8f3c", "#7d5fa6", "#c98a1b", "#2a9d8f", "#a05195", "#444b54",
)  # fmt: skip
"""Lines in their order."""


@dataclass(frozen=True)
class Line:
    """A line, or a name in the legend."""

    name: str
    colour: str
    points: str = ""
    """As a polyline has them."""
    dashed: bool = False


@dataclass(frozen=True)
class Mark:
    """A place within a plot."""

    x: float
    y: float
    colour: str
    cross: bool
    """A cross, not a ring."""
    name: str


@dataclass(frozen=True)
class Plot:
    """What a template needs to draw a plot."""

    title: str
    across: str
    upward: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    lines: Sequence[Line]
    marks: Sequence[Mark] = ()
    width: int = WIDTH
    height: int = HEIGHT


class Scored(Protocol):
    """Scores of photos that were tested on, and what a threshold chosen elsewhere gives."""

    @property
    def code(self) -> str: ...

    @property
    def test_scores(self) -> Sequence[float]: ...

    @property
    def test_labels(self) -> Sequence[bool]: ...

    @property
    def tested(self) -> tuple[float, float] | None: ...


def curve_plot(lines: Mapping[str, Sequence[tuple[int, float]]], sizes: Sequence[int]) -> Plot:
    """Accuracies 0-1 over the number of photos learnt from."""
    top = max(x for points in lines.values() for x, _ in points)
    least = min(y for points in lines.values() for _, y in points)
    low = min(0.4, np.floor(10 * least) / 10)

    def place(x: float, y: float) -> tuple[float, float]:
        return WIDTH * x / top, HEIGHT * (1 - (y - low) / (1 - low))

    ticks = np.arange(round(10 * low), 11) / 10
    return Plot(
        "Accuracy on photos of a town not seen",
        "photos learnt from",
        "accuracy, percent",
        [(place(size, 0)[0], str(size)) for size in sizes],
        [(place(0, y)[1], f"{100 * y:.0f}") for y in ticks],
        [
            Line(name, COLOURS[i % len(COLOURS)], _path([place(*p) for p in points]), i == 1)
            for i, (name, points) in enumerate(lines.items())
        ],
    )


def roc_plot(scored: Sequence[Scored]) -> Plot:
    """ROC curves on photos that were tested on; a cross where the chosen threshold lies."""
    lines, marks = [], []
    for number, found in enumerate(scored):
        colour = COLOURS[number % len(COLOURS)]
        lines.append(Line(found.code, colour, _path([_in_unit(x, y) for x, y in _roc(found)])))
        if found.tested is not None:
            marks.append(Mark(*_in_unit(*found.tested), colour, True, found.code))
    ticks = np.arange(6) / 5
    return Plot(
        "ROC in the town tested on",
        "false positive rate",
        "true positive rate",
        [(_in_unit(x, 0)[0], f"{x:.1f}") for x in ticks],
        [(_in_unit(0, y)[1], f"{y:.1f}") for y in ticks],
        lines,
        marks,
    )


class Placed(Protocol):
    """Photos as points."""

    @property
    def towns(self) -> Sequence[str]: ...

    @property
    def points(self) -> Sequence[Sequence[float]]: ...

    @property
    def town(self) -> Sequence[int]: ...

    @property
    def damaged(self) -> Sequence[bool]: ...


def plane_plot(plane: Placed) -> Plot:
    """Photos in a plane: a colour for each town, crosses where there is damage."""
    points = np.array(plane.points, np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1)
    colours = [COLOURS[number] for number in (0, 2, 3, 4, 5, 6, 7, 8, 1)]
    marks = [
        Mark(
            round(8 + (WIDTH - 16) * x, 1),
            round(8 + (HEIGHT - 16) * (1 - y), 1),
            colours[town % len(colours)],
            damaged,
            f"{plane.towns[town]}, {'damage' if damaged else 'no damage'}",
        )
        for (x, y), town, damaged in zip(scaled.tolist(), plane.town, plane.damaged, strict=True)
    ]
    names = [Line(name, colours[i % len(colours)]) for i, name in enumerate(plane.towns)]
    return Plot("Photos by t-SNE", "", "", (), (), names, marks)


def _roc(found: Scored) -> list[tuple[float, float]]:
    """False and true positive rate as the threshold falls, from (0, 0) to (1, 1)."""
    scores, labels = np.array(found.test_scores), np.array(found.test_labels, bool)
    thresholds = np.unique(scores)[::-1]
    curve = [(0.0, 0.0)]
    for threshold in thresholds:
        called = scores >= threshold
        curve.append((float(called[~labels].mean()), float(called[labels].mean())))
    return curve


def _in_unit(x: float, y: float) -> tuple[float, float]:
    return round(WIDTH * x, 1), round(HEIGHT * (1 - y), 1)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
