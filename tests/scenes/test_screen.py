"""The three screens of paper 001, against its authors' rule written out with floats."""

from __future__ import annotations

import numpy as np
import pytest
from aftermap.scenes.errors import UsageError
from aftermap.scenes.screen import Screens, threshold
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

PAPER = Screens()


def halves(left: int, right: int, black_rows: int = 0) -> np.ndarray:
    pixels = np.full((3, 100, 100), left, np.uint8)
    pixels[:, :, 50:] = right
    pixels[:, :black_rows] = 0
    return pixels


@pytest.mark.parametrize(
    ("pixels", "verdict"),
    [
        (halves(100, 100), "variance"),
        (halves(100, 20), "variance"),
        (halves(180, 60), "kept"),
        (halves(180, 170), "snow"),
        (halves(200, 90), "kept"),
        (halves(200, 90, black_rows=6), "black"),
        (halves(200, 90, black_rows=5), "kept"),  # exactly 5 %
        (halves(0, 0), "black"),
        (halves(255, 255), "snow"),
    ],
)
def test_vectors(pixels: np.ndarray, verdict: str) -> None:
    assert PAPER.judge(pixels) == verdict


def test_a_sum_of_exactly_ten_is_neither_black_nor_bright() -> None:
    pixels = halves(200, 90)
    pixels[:, :50] = np.array([4, 3, 3], np.uint8)[:, None, None]
    assert PAPER.judge(pixels) == "kept"
    pixels[:, :50] = 3
    assert PAPER.judge(pixels) == "black"
    pixels[:] = np.array([4, 3, 3], np.uint8)[:, None, None]
    assert PAPER.judge(pixels) == "black", "no pixel is above 10"
    assert Screens(black=None).judge(pixels) == "variance"
    assert Screens(black=None, variance=None).judge(pixels) == "kept"


def test_a_patch_on_a_threshold_is_kept() -> None:
    grey = np.zeros((3, 10, 10), np.uint8)
    grey[:, :, :5], grey[:, :, 5:] = 200, 98  # variance of 51 squared
    assert Screens(variance=2601).judge(grey) == "kept"
    assert Screens(variance=2601.0001).judge(grey) == "variance"
    bright = np.full((3, 2, 1), 0, np.uint8)
    bright[:, 0], bright[:, 1] = [[250], [250], [250]], [[84], [83], [83]]  # sums 750 and 250
    assert Screens().judge(bright) == "kept"
    assert Screens(snow=499.9999).judge(bright) == "snow"


def as_the_authors(pixels: np.ndarray) -> str:
    """Section III.B as their program has it."""
    total = pixels.astype(float).sum(axis=0)
    if (total < 10).mean() > 0.05:
        return "black"
    seen = total[total > 10]
    if not seen.size:
        return "black"
    if seen.mean() > 500:
        return "snow"
    return "variance" if (seen / 3).var() < 0.04 * 255**2 else "kept"


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 40).flatmap(
        lambda side: arrays(
            np.uint8, (3, side, side), elements=st.sampled_from([0, 3, 4, 5, 60, 120, 180, 255])
        )
    )
)
def test_the_same_as_with_floats(pixels: np.ndarray) -> None:
    total = pixels.astype(int).sum(axis=0)
    seen = total[total > 10]
    near = seen.size and (abs(seen.mean() - 500) < 1e-6 or abs((seen / 3).var() - 2601) < 1e-6)
    if not near:
        assert PAPER.judge(pixels) == as_the_authors(pixels)


@pytest.mark.parametrize("name", ["black", "snow", "variance"])
def test_thresholds(name: str) -> None:
    assert threshold("off", name) is None
    assert threshold("0.1", name) == 0.1
    with pytest.raises(UsageError, match=f"--{name} 'much' is no threshold"):
        threshold("much", name)
    for wrong in (-1.0, 1e6, float("nan")):
        with pytest.raises(UsageError, match=f"--{name}"):
            Screens(**{name: wrong})


def test_other_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        PAPER.judge(np.zeros((3, 4, 4), np.uint16))
