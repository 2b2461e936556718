"""Buildings instead of pixels: against counting by hand and by scipy."""

from __future__ import annotations

import numpy as np
import pytest
from aftermap.models.building_score import building_counts
from aftermap.models.metrics import Confusion, XView2Counts
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage


def scene() -> tuple[np.ndarray, np.ndarray]:
    truth, found = np.zeros((2, 40, 40), np.uint8)
    truth[2:8, 2:8], found[2:8, 2:8] = 1, 1  # right
    truth[2:8, 12:18], found[2:8, 12:15] = 2, 2  # half of it seen: found, and right
    truth[2:8, 22:28], found[2:8, 22:24] = 3, 3  # a third: missed
    truth[12:18, 2:8], found[12:15, 2:8], found[15:18, 2:8] = 4, 4, 3  # a tie: the worse
    truth[12:18, 12:18], found[12:18, 12:18] = 3, 1  # the wrong level
    found[30:35, 30:35] = 4  # a false alarm
    found[20:24, 2:10], truth[20:24, 2:6] = 1, 1  # half on a building: no false alarm
    return truth, found


def test_buildings_are_counted_once_each() -> None:
    counts = building_counts(*scene())
    assert counts.localization == Confusion(tp=5, fp=1, fn=1)
    one, two, three, four = counts.damage
    assert one == Confusion(tp=2, fp=1, fn=0, tn=3)
    assert two == Confusion(tp=1, tn=5)
    assert three == Confusion(fn=2, tn=4)
    assert four == Confusion(tp=1, tn=5)


def test_neighbours_of_another_level_are_buildings_of_their_own() -> None:
    truth = np.array([[1, 1, 2, 2]], np.uint8)
    assert building_counts(truth, truth).localization == Confusion(tp=2)


def test_nothing_and_perfection() -> None:
    nothing = np.zeros((8, 8), np.uint8)
    assert building_counts(nothing, nothing).score()["localization_f1"] == 0
    truth, _ = scene()
    assert building_counts(truth, truth).score()["score"] == pytest.approx(1.0000007)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_it_agrees_with_counting_one_by_one_and_adds_up(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = (
        np.kron(rng.choice(5, (6, 6), p=[0.6, 0.1, 0.1, 0.1, 0.1]), np.ones((3, 3), int))
        for _ in "12"
    )
    found = np.roll(found, 1, axis=0).astype(np.uint8)
    truth = truth.astype(np.uint8)
    eight, hits, pairs = np.ones((3, 3)), 0, []
    for code in range(1, 5):
        labels, count = ndimage.label(truth == code, eight)
        for k in range(1, count + 1):
            inside = found[labels == k]
            seen = (inside > 0).mean() >= 0.5
            hits += seen
            tallies = [np.count_nonzero(inside == level) for level in range(1, 5)]
            best = max(range(1, 5), key=lambda level: (tallies[level - 1], level))
            pairs.append((code, best if seen else 0))
    labels, count = ndimage.label(found > 0, eight)
    alarms = sum((truth[labels == k] > 0).mean() < 0.5 for k in range(1, count + 1))
    counts = building_counts(truth, found)
    assert counts.localization == Confusion(tp=hits, fp=alarms, fn=len(pairs) - hits)
    for code, got in enumerate(counts.damage, 1):
        assert got.tp == sum(t == p == code for t, p in pairs)
        assert got.fp == sum(t != code == p for t, p in pairs)
    apart = np.zeros((18, 1), np.uint8)
    both = building_counts(np.hstack([truth, apart, truth]), np.hstack([found, apart, found]))
    assert both == XView2Counts() + counts + counts
