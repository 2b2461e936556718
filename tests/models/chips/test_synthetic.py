"""Chips rendered from synthetic scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from aftermap.models.chips.synthetic import SyntheticChips
from aftermap.scenes.errors import UsageError


def test_synthetic_chips_are_cached(tmp_path: Path) -> None:
    chips = SyntheticChips([3, 4, 5, 6], 64, (0.35, 0.7), tmp_path / "cache")
    first = chips.chip(1)
    assert first.pre.shape == (3, 64, 64)
    stamp = chips.path(1).stat().st_mtime_ns
    again = chips.chip(1)
    assert chips.path(1).stat().st_mtime_ns == stamp
    assert np.array_equal(first.post, again.post)
    assert np.array_equal(first.codes, again.codes)
    assert first.name == "synthetic 4"
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_pixel_sizes_fill_their_range(tmp_path: Path) -> None:
    chips = SyntheticChips(range(40), 64, (0.35, 0.7), tmp_path)
    sizes = sorted(chips.gsd(i) for i in range(40))
    assert 0.35 <= sizes[0] < 0.37
    assert 0.68 < sizes[-1] <= 0.7
    assert max(np.diff(sizes)) < 3 * 0.35 / 40


def test_too_small(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="got 8 px"):
        SyntheticChips([1], 8, (0.35, 0.7), tmp_path)
    with pytest.raises(UsageError, match="need scenes"):
        SyntheticChips([], 64, (0.35, 0.7), tmp_path)
