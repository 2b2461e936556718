"""The orientations of a chip: how many there are, what they show, and that no corner is empty."""

from __future__ import annotations

import math

import numpy as np
import pytest
from aftermap.models.rotations import TURNS, Turn, context, turned
from aftermap.scenes.errors import UsageError
from scipy import ndimage


def noise(side: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (3, side, side), np.uint8)


def test_context() -> None:
    assert [context(side) for side in (299, 227, 1, 2, 5)] == [423, 322, 2, 3, 8]
    for side in range(1, 3000):
        assert context(side) == math.ceil(math.sqrt(2) * side)


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_as_scipy_turns_the_whole(turn: Turn) -> None:
    image = noise(context(31) + (context(31) - 31) % 2)
    start = (image.shape[1] - 31) // 2
    flat = image[..., ::-1] if turn.mirrored else image
    whole = ndimage.rotate(flat, turn.degrees, axes=(2, 1), reshape=False, order=1)
    wanted = whole[:, start : start + 31, start : start + 31]
    found = turned(image, turn, 31)
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_quarter_turns_copy_pixels() -> None:
    for size in (40, 41):
        image = noise(size)
        start = (size - 27) // 2
        middle = image[:, start : start + 27, start : start + 27]
        for quarter in range(4):
            wanted = np.rot90(middle, quarter, axes=(1, 2))
            assert np.array_equal(turned(image, Turn(90 * quarter), 27), wanted)
            flat = np.rot90(middle[..., ::-1], quarter, axes=(1, 2))
            assert np.array_equal(turned(image, Turn(90 * quarter, True), 27), flat)


@pytest.mark.parametrize("side", [*range(1, 100), 128, 227, 299])
def test_no_empty_corner_enters(side: int) -> None:
    for size in (context(side), context(side) + 1):
        white = np.full((1, size, size), 255, np.uint8)
        for turn in TURNS[:: 1 if side < 100 else 5]:
            assert (turned(white, turn, side) == 255).all(), (size, turn)


def test_with_less_context_corners_would_be_empty() -> None:
    size = context(99) - 1
    with pytest.raises(UsageError, match=f"squares of {size + 1} px or more; got {size}×{size} px"):
        turned(np.zeros((3, size, size), np.uint8), Turn(), 99)
    small = np.full((99, 99), 255, np.uint8)
    assert (ndimage.rotate(small, 50, reshape=False, order=1) == 0).any()


def test_the_72_differ_and_144_count_each_twice() -> None:
    image = noise(context(21), seed=5)
    chips = [turned(image, turn, 21) for turn in TURNS]
    assert len({chip.tobytes() for chip in chips}) == len(TURNS) == 72
    flips = {
        "none": np.diag([1, 1]),
        "x": np.diag([-1, 1]),
        "y": np.diag([1, -1]),
        "xy": np.diag([-1, -1]),
    }
    maps: dict[tuple[float, ...], int] = {}
    for degrees in range(0, 360, 10):
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        for flip in flips.values():
            matrix = np.array([[cos, -sin], [sin, cos]]) @ flip
            key = tuple((np.round(matrix, 9) + 0.0).ravel().tolist())
            maps[key] = maps.get(key, 0) + 1
    assert sum(maps.values()) == 144
    assert len(maps) == 72
    assert set(maps.values()) == {2}


def test_names_differ() -> None:
    assert str(Turn(10, True)) == "010m"
    assert len({str(turn) for turn in TURNS}) == 72


def test_the_image_may_be_larger_and_oblong() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 40, 60), np.uint8)
    assert np.array_equal(turned(image, Turn(), 20), image[:, 10:30, 20:40])
