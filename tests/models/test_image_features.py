"""Features that nobody trained."""

from __future__ import annotations

import numpy as np
import pytest
from aftermap.models.image_features import (
    FEATURES,
    channel_means,
    channel_moments,
    described,
    oriented_gradients,
)


def test_gradients_of_stripes_lie_in_one_bin() -> None:
    """Each cell has 8 numbers; stripes from top to bottom change from left to right only."""
    wave = 127 + 100 * np.sin(np.arange(64) / 3)
    across = np.broadcast_to(wave, (3, 64, 64)).astype(np.uint8)
    found = oriented_gradients(across).reshape(4, 4, 8)
    assert (found.argmax(axis=2) == 0).all()
    assert np.abs(np.delete(found, 0, axis=2)).max() < 1e-6
    down = oriented_gradients(across.transpose(0, 2, 1)).reshape(4, 4, 8)
    assert (down.argmax(axis=2) == 4).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=2), 1, atol=1e-3)


def test_lengths() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 299, 299), np.uint8)
    assert {name: len(describe(image)) for name, describe in FEATURES.items()} == {
        "hog": 18 * 18 * 8,
        "means": 3,
        "moments": 6,
    }


def test_means_and_deviations() -> None:
    image = np.zeros((3, 2, 2), np.uint8)
    image[0] = 255
    image[1, 0] = 255
    assert channel_means(image).tolist() == [1, 0.5, 0]
    assert channel_moments(image) == pytest.approx([1, 0.5, 0, 0, 0.5, 0])


def test_of_a_set() -> None:
    class Two:
        side = 4

        def __len__(self) -> int:
            return 2

        def image(self, index: int) -> np.ndarray:
            return np.full((3, 4, 4), 255 * index, np.uint8)

        def digest(self, index: int) -> str:
            return str(index)

    found = described(Two(), channel_moments)
    assert found.dtype == np.float32
    assert found.tolist() == [[0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]]
