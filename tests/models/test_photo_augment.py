"""Changes of photos: in the range of the paper's code, the same for the same key."""

from __future__ import annotations

import numpy as np
import pytest
from aftermap.models import photo_augment
from aftermap.models.photo_augment import changed


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only flips are left."""
    for name in ("TURN", "PAD", "BRIGHTNESS", "CONTRAST"):
        monkeypatch.setattr(photo_augment, name, 0)


def picture(side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(60, 190, (3, side, side)).astype(np.uint8)


def test_the_same_key_gives_the_same_photo() -> None:
    one, same, other = (changed(picture(), (0, 1, place)) for place in (2, 2, 3))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert one.dtype == np.uint8
    assert one.shape == (3, 16, 16)


@pytest.mark.usefixtures("still")
def test_each_flip_happens_in_half_of_the_cases() -> None:
    """The published code flips always: "50" was meant as a percentage."""
    photo = picture()
    kinds = {
        "none": photo,
        "across": photo[:, :, ::-1],
        "down": photo[:, ::-1],
        "both": photo[:, ::-1, ::-1],
    }
    counts = dict.fromkeys(kinds, 0)
    for place in range(400):
        found = changed(photo, (0, 0, place))
        (kind,) = [name for name, wanted in kinds.items() if np.array_equal(found, wanted)]
        counts[kind] += 1
    assert all(70 < count < 130 for count in counts.values())


def test_crops_come_from_a_border_of_four_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TURN", "BRIGHTNESS", "CONTRAST"):
        monkeypatch.setattr(photo_augment, name, 0)
    white = np.full((3, 16, 16), 255, np.uint8)
    shifts = set()
    for place in range(300):
        found = changed(white, (0, 0, place))[0] > 0
        shifts.add((16 - found.any(axis=1).sum(), 16 - found.any(axis=0).sum()))
    assert shifts == {(row, col) for row in range(5) for col in range(5)}


def test_turns_reach_thirty_degrees_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAD", "BRIGHTNESS", "CONTRAST"):
        monkeypatch.setattr(photo_augment, name, 0)
    bar = np.zeros((3, 65, 65), np.uint8)
    bar[:, 30:35, 5:60] = 255
    angles = []
    for place in range(200):
        row, col = np.nonzero(changed(bar, (1, 0, place))[0] > 128)
        angles.append(np.rad2deg(np.arctan(np.polyfit(col, row, 1)[0])))
    assert 27 < max(angles) < 31
    assert -31 < min(angles) < -27
    assert abs(np.mean(angles)) < 4


def test_light_changes_by_a_tenth_and_contrast_by_a_fifth(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAD", "TURN"):
        monkeypatch.setattr(photo_augment, name, 0)
    photo = picture().astype(float)
    grey = np.array([0.299, 0.587, 0.114])
    means, spreads = [], []
    for place in range(300):
        found = changed(picture(), (0, 0, place)).astype(float)
        means.append(np.tensordot(grey, found, 1).mean() / np.tensordot(grey, photo, 1).mean())
        spreads.append(found.std() / photo.std() / means[-1])
    assert 0.89 < min(means) < 0.92
    assert 1.08 < max(means) < 1.11
    assert 0.79 < min(spreads) < 0.83
    assert 1.17 < max(spreads) < 1.21
