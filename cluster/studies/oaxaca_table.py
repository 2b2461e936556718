"""What came out of the study of paper 003, as text and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from ...models.learning_curve import PUBLISHED, SIZES
from ...models.operating_point import OperatingPoint, at_false_positive_rate
from ...models.published import OAXACA_POINT
from ...models.roc import auc
from ...scenes.errors import Refused
from .oaxaca_plots import curve_plot, plane_plot, roc_plot
from .page import render, shown
from .spread import Spread

METHODS = {
    "softmax": "softmax layer, as in the paper",
    "logistic": "logistic regression",
    "svm": "linear SVM",
    "forest": "random forest",
    "hog": "HOG, random forest",
    "means": "band means, random forest",
    "moments": "band means and deviations, random forest",
}
"""Classifiers and what they are called; the first four are on the backbone's features."""


@dataclass(frozen=True)
class Plane:
    """All photos as points."""

    towns: Sequence[str]
    points: Sequence[Sequence[float]]
    town: Sequence[int]
    """Of each photo, by its number among the towns."""
    damaged: Sequence[bool]
    unreadable: int
    """Photos that were left out."""
    passed_over: int
    """Others that were, as they have no label or are of no town."""

    @property
    def counts(self) -> list[tuple[str, int, int]]:
        """Per town, photos without damage and with."""
        town, damaged = np.array(self.town), np.array(self.damaged)
        return [
            (name, int((~damaged & (town == i)).sum()), int((damaged & (town == i)).sum()))
            for i, name in enumerate(self.towns)
        ]

    @property
    def neighbours(self) -> float:
        """Share of photos whose nearest neighbour in the plane is of the same town."""
        _, near = KDTree(np.array(self.points)).query(np.array(self.points), k=2)
        own = np.arange(len(self.points))
        # Where two lie on one point, either may come first.
        other = np.where(near[:, 0] == own, near[:, 1], near[:, 0])
        town = np.array(self.town)
        return float((town == town[other]).mean())


@dataclass(frozen=True)
class Permutation:
    """What the paper's layer says after most photos of one town."""

    code: str
    """The towns to train on, to test on, to validate on."""
    validation_scores: Sequence[float]
    validation_labels: Sequence[bool]
    test_scores: Sequence[float]
    test_labels: Sequence[bool]

    @property
    def area(self) -> float:
        """Under the ROC curve on the photos that are tested on."""
        found = auc(np.array(self.test_scores), np.array(self.test_labels))
        assert found is not None  # as many of each class
        return found

    @property
    def chosen(self) -> OperatingPoint | None:
        """The point without false positives on the validation photos; None where there is none."""
        try:
            return at_false_positive_rate(
                np.array(self.validation_scores), np.array(self.validation_labels)
            )
        except Refused:
            return None

    @property
    def tested(self) -> tuple[float, float] | None:
        """What the chosen threshold gives in the town that is tested on: rates of false, of true."""
        if self.chosen is None:
            return None
        found = np.array(self.test_scores) >= self.chosen.threshold
        labels = np.array(self.test_labels)
        return float(found[~labels].mean()), float(found[labels].mean())


@dataclass(frozen=True)
class SeedOutcome:
    """What came out of a seed; points are those of `CurvePoint`."""

    seed: int
    permuted: Sequence[Mapping[str, Any]]
    """One town to train on: the paper's layer."""
    methods: Mapping[str, Sequence[Mapping[str, Any]]]
    """Two towns to train on: every method."""
    scored: Sequence[Permutation]

    @classmethod
    def of(cls, outcome: Mapping[str, Any]) -> SeedOutcome:
        """Read back from JSON."""
        scored = [Permutation(**found) for found in outcome["scored"]]
        return cls(**{**outcome, "scored": scored})


@dataclass(frozen=True)
class OaxacaStudied:
    """A finished study."""

    path: Path
    facts: Mapping[str, Any]
    plane: Plane
    seeds: tuple[SeedOutcome, ...]

    @property
    def sizes(self) -> list[int]:
        """Photos learnt from."""
        return [point["size"] for point in self.seeds[0].permuted if _same(point, self.codes[0])]

    @property
    def codes(self) -> list[str]:
        """Of the six divisions."""
        return list(dict.fromkeys(point["code"] for point in self.seeds[0].permuted))

    @property
    def divisions(self) -> list[str]:
        """Of those with two towns to train on."""
        return list(dict.fromkeys(point["code"] for point in self.seeds[0].methods["softmax"]))

    @property
    def permuted(self) -> dict[str, Spread]:
        """Accuracies by size, per division and over all."""
        return {
            code: self._spread([seed.permuted for seed in self.seeds], code, "accuracy")
            for code in (*self.codes, "all")
        }

    def methods(self, figure: str = "accuracy") -> dict[str, dict[str, Spread]]:
        """Accuracies, or AUC, by size, per method, division and over all."""
        return {
            method: {
                code: self._spread([seed.methods[method] for seed in self.seeds], code, figure)
                for code in (*self.divisions, "all")
            }
            for method in METHODS
        }

    def to_dict(self) -> dict[str, Any]:
        """Outcomes, their mean and deviation, thresholds, and what was published."""
        return {
            "photos": [list(row) for row in self.plane.counts],
            "neighbours_of_the_same_town": self.plane.neighbours,
            "permuted": {code: asdict(spread) for code, spread in self.permuted.items()},
            "methods": {
                figure: {
                    method: {code: asdict(spread) for code, spread in found.items()}
                    for method, found in self.methods(figure).items()
                }
                for figure in ("accuracy", "auc")
            },
            "thresholds": [
                [
                    {"code": found.code, "auc": found.area, "tested": found.tested}
                    | {"chosen": found.chosen and asdict(found.chosen)}
                    for found in seed.scored
                ]
                for seed in self.seeds
            ],
            "outcomes": [asdict(seed) for seed in self.seeds],
            "published": {"accuracy": dict(PUBLISHED), "point": asdict(OAXACA_POINT)},
        }

    def text(self) -> str:
        """The tables and where the report is, for the command line."""
        head = "".join(f"{f'{size} photos':>16}" for size in self.sizes)
        lines = [f"{'accuracy, percent':<52}{head}"]
        for code, spread in self.permuted.items():
            lines.append(f"{f'one town: {code}':<52}{self._row(spread)}")
        mean = "".join(f"{100 * fmean(x):>16.2f}" for x in zip(*PUBLISHED.values(), strict=True))
        if tuple(self.sizes) == SIZES:
            lines.append(f"{'published: mean of the six':<52}{mean}")
        for method, found in self.methods().items():
            lines.append(f"{f'two towns: {METHODS[method]}':<52}{self._row(found['all'])}")
        return "\n".join([*lines, f"report     {self.path / 'study.html'}"])

    def page(self) -> str:
        """Our tables with the published figures, what differs, curves and the plane."""
        last = str(max(self.sizes))
        return render(
            "study-oaxaca.html.j2",
            study=self,
            settings=shown(self.facts["settings"]),
            published=PUBLISHED,
            published_sizes=SIZES,
            published_mean=[fmean(x) for x in zip(*PUBLISHED.values(), strict=True)],
            point=OAXACA_POINT,
            titles=METHODS,
            accuracies=self.methods(),
            areas=self.methods("auc"),
            last=last,
            curves=curve_plot(self._lines(), self.sizes),
            roc=roc_plot(self.seeds[0].scored),
            plane=plane_plot(self.plane),
        )

    def _lines(self) -> Mapping[str, Sequence[tuple[int, float]]]:
        """Mean accuracies over sizes: the six divisions, what was published, every method."""

        def line(spread: Spread) -> list[tuple[int, float]]:
            return [(size, spread.mean[str(size)]) for size in self.sizes]

        mean = [fmean(x) for x in zip(*PUBLISHED.values(), strict=True)]
        return {
            "one town: softmax": line(self.permuted["all"]),
            "published: the same": list(zip(SIZES, mean, strict=True)),
        } | {f"two towns: {METHODS[m]}": line(found["all"]) for m, found in self.methods().items()}

    def _row(self, spread: Spread) -> str:
        return "".join(f"{spread.text(str(size)):>16}" for size in self.sizes)

    def _spread(
        self, seeds: Sequence[Sequence[Mapping[str, Any]]], code: str, figure: str
    ) -> Spread:
        """Of each size; over all divisions their mean is that of a seed."""
        return Spread.of(
            [
                {
                    str(size): fmean(
                        point[figure]
                        for point in points
                        if point["size"] == size and (code == "all" or _same(point, code))
                    )
                    for size in self.sizes
                }
                for points in seeds
            ]
        )


def _same(point: Mapping[str, Any], code: str) -> bool:
    return bool(point["code"] == code)
