"""How trainings went: loss and validation score per epoch, as SVG."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .page import render

WIDTH, HEIGHT = 270, 150
"""Of a plot, px."""

_LEAST = 1e-3
"""Height of a plot at least: losses and scores may all be 0."""


@dataclass(frozen=True)
class Curve:
    """What the trainings of one seed said after each epoch, one training after the other."""

    trainings: tuple[Sequence[Mapping[str, float]], ...]

    @property
    def epochs(self) -> int:
        """Of all trainings."""
        return sum(map(len, self.trainings))

    def points(self, name: str) -> list[list[tuple[int, float]]]:
        """Per training, the epoch (from 1, counted on) and a figure after it."""
        lines, begun = [], 0
        for history in self.trainings:
            lines.append([(begun + i, row[name]) for i, row in enumerate(history, 1)])
            begun += len(history)
        return lines


def draw(rows: Mapping[str, Sequence[Curve]]) -> str:
    """Loss above and validation score below for each row of a study, a line per seed; SVG in base64.

    Each row has its own scale of losses, as losses of different kinds are no match; scores share
    one. A dashed line parts trainings that follow each other.
    """
    best = max(y for curves in rows.values() for y in _values(curves, "score"))
    plots = [
        _plot(title, name, curves, max(top or max(_values(curves, name)), _LEAST), column, line)
        for line, (name, top) in enumerate((("loss", 0.0), ("score", best)))
        for column, (title, curves) in enumerate(rows.items())
    ]
    drawn = render(
        "study-curves.svg.j2", plots=plots, columns=len(rows), width=WIDTH, height=HEIGHT
    )
    return base64.b64encode(drawn.encode()).decode()


def _values(curves: Sequence[Curve], name: str) -> list[float]:
    return [y for curve in curves for points in curve.points(name) for _, y in points]


def _plot(
    title: str, name: str, curves: Sequence[Curve], top: float, column: int, line: int
) -> dict[str, object]:
    last = max(curve.epochs for curve in curves)
    ends = [len(history) for history in curves[0].trainings[:-1]]

    def across(epoch: float) -> float:
        return WIDTH * (epoch - 0.5) / last

    def polyline(points: Sequence[tuple[int, float]]) -> str:
        return " ".join(f"{across(x):.1f},{HEIGHT * (1 - y / top):.1f}" for x, y in points)

    return {
        "title": f"{title}: {name}",
        "column": column,
        "line": line,
        "ticks": [(HEIGHT * (1 - share), f"{top * share:.3g}") for share in (0, 0.5, 1)],
        "ends": [across(end + 0.5) for end in ends],
        "last": last,
        "seeds": [[polyline(p) for p in curve.points(name)] for curve in curves],
    }
