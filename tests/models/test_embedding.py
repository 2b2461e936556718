"""Photos in a plane."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from aftermap.models.embedding import embedded
from aftermap.scenes.errors import Refused, UsageError
from sklearn.metrics import silhouette_score


def test_groups_lie_apart() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(3), 20)
    features = rng.normal(size=(60, 6)) + 6 * np.eye(6)[group]
    features[:, 5] = 1
    points = embedded(features)
    assert points.shape == (60, 2)
    assert silhouette_score(points, group) > 0.5
    assert np.array_equal(embedded(features), points)


def test_photos_that_are_alike() -> None:
    assert not embedded(np.full((12, 6), 0.1, np.float32)).any()
    pairs = np.repeat(np.random.default_rng(0).normal(size=(6, 6)), 2, axis=0)
    assert np.isfinite(embedded(pairs)).all()


def test_few_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    assert embedded(np.random.default_rng(0).normal(size=(4, 3))).shape == (4, 2)
    with pytest.raises(Refused, match="four photos or more; got 3"):
        embedded(np.zeros((3, 3)))
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(UsageError, match=r'pip install "aftermap\[zoo\]"'):
        embedded(np.eye(4))
