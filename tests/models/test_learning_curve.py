"""Curves over sizes, towns and seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from aftermap.models.heads import Head, LinearHead, Logistic
from aftermap.models.learning_curve import (
    PUBLISHED,
    SIZES,
    learning_curve,
)
from aftermap.models.photos.photoset import Photo, PhotoSet
from aftermap.models.town_split import held_out, permuted
from aftermap.scenes.errors import Refused
from sklearn.metrics import accuracy_score, roc_auc_score

TOWNS = ("U", "J", "S")


def photos(each: int = 40) -> PhotoSet:
    return PhotoSet(
        [
            Photo(Path(f"{town}/{i}.jpg"), i % 2 == 0, town)
            for town in TOWNS
            for i in range(2 * each)
        ],
        8,
        "towns",
    )


def features(pictures: PhotoSet, turns: int = 1, gap: float = 1.2) -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(len(pictures), turns, 12))
    return (noise + gap * pictures.labels[:, None, None] * (np.arange(12) < 2)).astype(np.float32)


def test_the_published_table_is_of_the_same_divisions_and_sizes() -> None:
    assert list(PUBLISHED) == [split.code for split in permuted(TOWNS)]
    assert {len(row) for row in PUBLISHED.values()} == {len(SIZES)}


def test_more_photos_are_better_and_every_job_is_done() -> None:
    pictures = photos()
    points = list(
        learning_curve(
            pictures,
            features(pictures),
            permuted(TOWNS),
            lambda seed: Logistic(),
            sizes=(4, 20, 80),
            seeds=(0, 1, 2),
            test_size=40,
        )
    )
    assert len(points) == len(set(points)) == 6 * 3 * 3
    rows = {size: [point for point in points if point.size == size] for size in (4, 20, 80)}
    accuracy = {size: np.mean([point.accuracy for point in row]) for size, row in rows.items()}
    assert accuracy[4] < accuracy[20] < accuracy[80]
    areas = {size: np.mean([point.auc for point in row]) for size, row in rows.items()}
    assert areas[4] < areas[80]
    assert {len(row) for row in rows.values()} == {18}


class Recorded:
    """A way to fit that remembers what it was given, and answers with the first feature."""

    def __init__(self) -> None:
        self.given: list[tuple[np.ndarray, np.ndarray]] = []

    def fit(self, features: np.ndarray, labels: np.ndarray) -> Head:
        self.given.append((features, labels))
        weight = np.zeros((2, features.shape[1]), np.float32)
        weight[1, 0] = 1
        return LinearHead(weight, np.array([0.6, 0], np.float32))


def test_all_orientations_are_learnt_from_and_one_is_examined() -> None:
    pictures, fitter = photos(), Recorded()
    values = features(pictures, turns=3)
    split = held_out(TOWNS)[2]
    (point,) = learning_curve(pictures, values, [split], lambda seed: fitter, [10], [5], 40)
    (given, labels) = fitter.given[0]
    assert given.shape == (30, 12)
    assert labels.sum() == 15
    flat = {row.tobytes(): i for i, row in enumerate(values.reshape(-1, 12))}
    rows = [flat[row.tobytes()] for row in given]
    assert [pictures.photos[r // 3].damaged for r in rows] == labels.tolist()
    assert {pictures.photos[r // 3].town for r in rows} <= {"U", "J"}
    # All photos of the town tested on: the examination does not depend on the draw.
    test = [i for i, p in enumerate(pictures.photos) if p.town == "S"]
    truth, logits = pictures.labels[test], values[test, 0, 0] - np.float32(0.6)
    assert point.accuracy == pytest.approx(accuracy_score(truth, logits >= 0))
    assert point.auc == pytest.approx(roc_auc_score(truth, logits))
    assert (point.code, point.size, point.seed) == ("U+J-S", 10, 5)


def test_too_few_photos_are_told_before_anything_is_trained() -> None:
    pictures, fitter = photos(10), Recorded()
    jobs = learning_curve(
        pictures, features(pictures), permuted(TOWNS), lambda seed: fitter, (4, 60), test_size=10
    )
    with pytest.raises(Refused, match="30 photos without damage are needed from U"):
        next(jobs)
    assert fitter.given == []


def test_features_must_be_of_the_photos() -> None:
    with pytest.raises(ValueError, match="of 240 photos"):
        next(learning_curve(photos(), np.zeros((3, 1, 2)), permuted(TOWNS), lambda s: Recorded()))
