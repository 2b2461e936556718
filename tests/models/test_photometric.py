"""The photometric changes of paper 001 one by one, by other formulas."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from aftermap.models import photometric
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats
from skimage import exposure


def smooth(side: int, seed: int = 0) -> np.ndarray:
    """A picture, uint8 (3, side, side), that interpolation does not change much; never black."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(3, side, side)), (0, 3, 3), mode="wrap")
    return np.clip(128 + 45 * field / field.std(), 20, 235).astype(np.uint8)


def test_each_group_changes_half_of_all() -> None:
    image = smooth(48)
    counts = {change: 0 for group in photometric.GROUPS for change in group}
    with pytest.MonkeyPatch.context() as patch:

        def counted(change: photometric.Change) -> photometric.Change:
            def call(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
                counts[change] += 1
                return change(image, rng)

            return call

        groups = tuple(tuple(map(counted, group)) for group in photometric.GROUPS)
        patch.setattr(photometric, "GROUPS", groups)
        for k in range(400):
            photometric.relight(image, np.random.default_rng(k))
    assert [len(group) for group in photometric.GROUPS] == [2, 2, 2]
    for count in counts.values():
        assert stats.binomtest(count, 400, 0.25).pvalue > 1e-3


def test_brightness_and_contrast() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (3, 4, 1))
    slopes, levels = [], []
    for k in range(200):
        got = photometric.brightness_contrast(ramp, np.random.default_rng(k))[0, 0].astype(float)
        inner = (got > 0) & (got < 255)
        slope, level = np.polyfit(np.arange(256)[inner], got[inner], 1)
        assert abs(got - np.clip(slope * np.arange(256) + level, 0, 255)).max() <= 1
        slopes.append(slope)
        levels.append(level / 255)
    for values, middle in ((slopes, 1), (levels, 0)):
        assert stats.kstest((np.array(values) - middle) / 0.2, "uniform", (-1, 2)).pvalue > 1e-3


def test_gamma() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (3, 4, 1))
    powers = []
    for k in range(100):
        got = photometric.gamma(ramp, np.random.default_rng(k))[0, 0]
        power = np.log(got[128] / 255) / np.log(128 / 255)
        powers.append(power)
        expected = 255 * (np.arange(256) / 255) ** power
        assert abs(got - expected).max() < 1.5
    assert 0.79 < min(powers) < 0.83
    assert 1.17 < max(powers) < 1.21


def test_gaussian_blur() -> None:
    point = np.zeros((3, 31, 31), np.uint8)
    point[:, 15, 15] = 255
    sides = set()
    for k in range(30):
        got = photometric.gaussian_blur(point, np.random.default_rng(k))
        side = int(got[0].any(axis=0).sum())
        sides.add(side)
        sigma = {3: 0.8, 5: 1.1, 7: 1.4}[side]
        line = np.exp(-(np.arange(-15, 16) ** 2) / (2 * sigma**2)) * (
            abs(np.arange(-15, 16)) <= side // 2
        )
        line /= line.sum()
        assert abs(got[1] - 255 * np.outer(line, line)).max() <= 0.5
    assert sides == {3, 5, 7}
    flat = np.full((3, 20, 20), 77, np.uint8)
    assert np.array_equal(photometric.gaussian_blur(flat, np.random.default_rng(0)), flat)


def equalised_by_hand(value: np.ndarray, limit: float, row: int, col: int) -> float:
    """CLAHE at one pixel of an image whose sides are multiples of 8, from its definition."""
    height, width = (side // 8 for side in value.shape)

    def curve(i: int, j: int) -> float:
        i, j = min(max(i, 0), 7), min(max(j, 0), 7)
        inside = value[i * height : (i + 1) * height, j * width : (j + 1) * width]
        counts = np.histogram(inside, 256, (0, 256))[0].astype(float)
        most = limit * inside.size / 256
        counts = np.minimum(counts, most) + np.maximum(counts - most, 0).sum() / 256
        return 255 * counts[: value[row, col] + 1].sum() / inside.size

    y, x = (row + 0.5) / height - 0.5, (col + 0.5) / width - 0.5
    i, j = int(np.floor(y)), int(np.floor(x))
    down, right = y - i, x - j
    return (1 - down) * ((1 - right) * curve(i, j) + right * curve(i, j + 1)) + down * (
        (1 - right) * curve(i + 1, j) + right * curve(i + 1, j + 1)
    )


def test_clahe() -> None:
    value = smooth(128)[0]
    for limit in (1.0, 2.5, 4.0):
        got = photometric.equalised(value, limit)
        for row, col in ((0, 0), (3, 127), (64, 64), (37, 90), (127, 5)):
            expected = equalised_by_hand(value, limit, row, col)
            assert got[row, col] == pytest.approx(min(expected, 255), abs=0.01)
    # A higher limit spreads values more; on the full range scikit-image does much the same.
    full = exposure.rescale_intensity(value, out_range=(0, 255)).astype(np.uint8)
    theirs = 255 * exposure.equalize_adapthist(full, 16, clip_limit=4 / 256)
    assert np.corrcoef(photometric.equalised(full, 4.0).ravel(), theirs.ravel())[0, 1] > 0.98
    spread = [photometric.equalised(value, limit).std() for limit in (1, 2, 4)]
    assert value.std() < spread[1] < spread[2]


@pytest.mark.parametrize("shape", [(1, 1), (7, 30), (13, 200), (131, 90)])
def test_clahe_of_any_size(shape: tuple[int, int]) -> None:
    value = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    got = photometric.equalised(value, 2.0)
    assert got.shape == shape
    assert (got >= 0).all()
    assert (got <= 255).all()


def test_clahe_keeps_hue_and_saturation() -> None:
    image = smooth(64)
    got = photometric.clahe(image, np.random.default_rng(0))
    for row, col in ((3, 4), (30, 31), (60, 20)):
        h0, s0, _ = colorsys.rgb_to_hsv(*image[:, row, col] / 255)
        h1, s1, _ = colorsys.rgb_to_hsv(*got[:, row, col] / 255)
        assert abs((h1 - h0 + 0.5) % 1 - 0.5) < 0.03
        assert s1 == pytest.approx(s0, abs=0.03)


def test_gaussian_noise() -> None:
    flat = np.full((3, 128, 128), 128, np.uint8)
    variances = []
    for k in range(40):
        got = photometric.gaussian_noise(flat, np.random.default_rng(k)).astype(float) - 128
        assert abs(got.mean()) < 0.15
        variances.append(got.var() - 1 / 12)  # that of rounding
        assert abs(np.corrcoef(got.reshape(3, -1))[0, 1]) < 0.03, "bands are independent"
    assert 9.5 < min(variances) < 15
    assert 45 < max(variances) < 51.5


def test_iso_noise() -> None:
    image = smooth(128)
    light = image.max(axis=0).astype(float) / 2 + image.min(axis=0) / 2
    rates, hues = [], []
    for k in range(25):
        got = photometric.iso_noise(image, np.random.default_rng(k))
        after = got.max(axis=0).astype(float) / 2 + got.min(axis=0) / 2
        gained = (after - light) / (255 - light)
        assert gained.min() > -0.02, "counts are only added"
        rates.append(gained.mean() * 255 / light.std())
        # Poisson: the variance of the counts is their mean.
        assert (gained * 255).var() == pytest.approx(gained.mean() * 255, rel=0.25, abs=0.6)
        before, now = photometric.hls(image)[0], photometric.hls(got)[0]
        clear = np.ptp(image, axis=0) > 90
        hues.append(((now - before + 0.5) % 1 - 0.5)[clear].std())
    assert 0.08 < min(rates) < 0.2
    assert 0.4 < max(rates) < 0.52
    assert 0.0005 < min(hues) < max(hues) < 0.05 * 0.5 * 1.3


@given(st.lists(st.integers(0, 255), min_size=3, max_size=3))
def test_hue_lightness_saturation(colour: list[int]) -> None:
    image = np.array(colour, np.uint8).reshape(3, 1, 1)
    hue, lightness, saturation = (x[0, 0] for x in photometric.hls(image))
    h, l, s = colorsys.rgb_to_hls(*(c / 255 for c in colour))  # noqa: E741
    assert lightness == pytest.approx(l, abs=1e-5)
    assert saturation == pytest.approx(s, abs=1e-4)
    if s > 0:
        assert abs((hue - h + 0.5) % 1 - 0.5) < 1e-5
    back = photometric.rgb(*(np.full((1, 1), x, np.float32) for x in (hue, lightness, saturation)))
    assert abs(back.astype(int) - image).max() <= 1


@pytest.mark.parametrize("change", [change for group in photometric.GROUPS for change in group])
def test_changes_repeat_and_leave_their_image(change: photometric.Change) -> None:
    image = smooth(160)
    copy = image.copy()
    first, again = (change(image, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(first, again)
    assert np.array_equal(image, copy)
    assert first.dtype == np.uint8
    assert first.shape == image.shape
    others = [change(image, np.random.default_rng(seed)) for seed in range(5, 12)]
    assert not all(np.array_equal(first, other) for other in others)
    for value in (0, 255):
        flat = np.full((3, 9, 11), value, np.uint8)
        assert change(flat, np.random.default_rng(0)).shape == flat.shape
