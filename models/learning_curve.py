"""How right a classifier is after few photos and after more, in towns it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .heads import Fitter
from .photos.photoset import PhotoSet
from .roc import auc
from .town_split import TEST_SIZE, TownSplit, draw

SIZES = (20, 50, 100, 150, 200)
"""Photos that are learnt from, half of them with damage; paper 003, section 4.2.1."""

PUBLISHED: Mapping[str, tuple[float, ...]] = {
    "U-J-S": (0.9, 0.94, 0.93, 0.92, 0.94),
    "U-S-J": (0.55, 0.66, 0.77, 0.84, 0.81),
    "J-U-S": (0.8, 0.82, 0.85, 0.847, 0.895),
    "J-S-U": (0.65, 0.78, 0.77, 0.82, 0.78),
    "S-U-J": (0.75, 0.72, 0.83, 0.833, 0.86),
    "S-J-U": (0.7, 0.78, 0.86, 0.9, 0.895),
}
"""Accuracies of paper 003, section 4.2.1, for `SIZES`: Unión Hidalgo, Juchitán de Zaragoza, Santa María
Xadani; the town to train on, that to test on, that to validate on."""


@dataclass(frozen=True)
class CurvePoint:
    """One training and its examination on the photos of another town."""

    code: str
    """Of the towns; see TownSplit."""
    size: int
    """Photos learnt from."""
    seed: int
    """Of the photos drawn."""
    accuracy: float
    """Share of test photos that are called what they are; damaged from a probability of 0.5 on."""
    auc: float
    """Area under the ROC curve on the test photos."""


def learning_curve(
    photos: PhotoSet,
    features: np.ndarray,
    splits: Sequence[TownSplit],
    fitter: Callable[[int], Fitter],
    sizes: Sequence[int] = SIZES,
    seeds: Sequence[int] = (0,),
    test_size: int = TEST_SIZE,
) -> Iterator[CurvePoint]:
    """Train and examine a classifier for each division, size and seed, one after another.

    `features` (n, turns, d) are those of the photos in several orientations, as `Bottlenecks` gives
    them: all are learnt from, the first is examined. `fitter` makes a way to fit from a seed.
    `test_size` is the photos of each class that are tested on. Raises Refused where a town has too
    few photos, before the first training.
    """
    if len(features) != len(photos) or features.ndim != 3:
        raise ValueError(f"features {features.shape} are not (n, turns, d) of {len(photos)} photos")
    number = {photo: index for index, photo in enumerate(photos.photos)}
    jobs = [(split, size, seed) for split in splits for seed in seeds for size in sizes]
    parts = {job: draw(photos, job[0], job[1] // 2, job[2], test_size) for job in jobs}
    for (split, size, seed), part in parts.items():
        train, test = ([number[p] for p in x.photos] for x in (part.train, part.test))
        known = features[train]
        labels = np.repeat(part.train.labels, known.shape[1])
        head = fitter(seed).fit(known.reshape(-1, known.shape[2]), labels)
        scores, truth = head.scores(features[test, 0]), part.test.labels
        area = auc(scores, truth)
        assert area is not None  # photos are drawn from both classes
        accuracy = float(((scores >= 0.5) == truth).mean())
        yield CurvePoint(split.code, size, seed, accuracy, area)
