"""Random crops and changes of chips: our own, and those of paper 001."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from aftermap.models import photometric
from aftermap.models.augment import (
    PAPER,
    PAPER_APART,
    PLAIN,
    Augment,
    Augmenter,
    PaperAugment,
)
from aftermap.models.chips.chip import Chip
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

RIGID = Augment(scale=0, rotate=0, shear=0, shift=0, light=0, blank=0)
ALL: tuple[Augmenter, ...] = (Augment(), PAPER, PAPER_APART, RIGID, PLAIN)


def noisy(side: int, seed: int = 1) -> Chip:
    rng = np.random.default_rng(seed)
    pre, post = rng.integers(1, 255, (2, 3, side, side), np.uint8)
    codes = np.zeros((side, side), np.uint8)
    codes[side * 3 // 5 : side * 4 // 5, side * 3 // 5 : side * 4 // 5] = 3
    codes[5:15, 5:15] = 1
    return Chip(pre, post, codes, damaged=True, name="noisy")


def same(one: Chip, other: Chip) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("pre", "post", "codes")
    )


# Draws of either kind


@pytest.mark.parametrize("augment", ALL)
def test_draws_follow_their_key_only(augment: Augmenter) -> None:
    whole = noisy(96)
    before = Chip(whole.pre.copy(), whole.post.copy(), whole.codes.copy())
    one = augment.draw(whole, 64, (1, 2, 3))
    np.random.seed(5)
    assert same(one, augment.draw(whole, 64, (1, 2, 3)))
    for key in ((0, 2, 3), (1, 1, 3), (1, 2, 4)):
        assert not same(augment.draw(whole, 64, key), one)
    assert same(whole, before), "the chip itself is left as it was"
    assert (one.name, one.damaged) == ("noisy", True)
    for array in (one.pre, one.post, one.codes):
        assert array.dtype == np.uint8
        assert array.shape[-2:] == (64, 64)


@pytest.mark.parametrize("augment", ALL)
@pytest.mark.parametrize("side", [2, 20, 63])
def test_small_chips_are_padded(augment: Augmenter, side: int) -> None:
    whole = Chip(*np.full((2, 3, side, side), 90, np.uint8), np.full((side, side), 2, np.uint8))
    plain = PLAIN.draw(whole, 64, (0, 0, 0))
    rows, _ = np.nonzero(plain.codes == 2)
    low = (64 - side) // 2
    assert abs(rows.min() - low) <= 1
    assert abs(rows.max() - (low + side - 1)) <= 1
    far = abs(np.indices((64, 64)) - 31.5).max(axis=0) > 0.9 * side + 6
    for k in range(8):
        got = augment.draw(whole, 64, (0, 0, k))
        assert (got.codes[far] == 255).all()
        assert not got.post[:, far].any()
        assert not got.pre[:, far].any()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        [
            Augment(light=0, blank=0, shift=0),
            Augment(scale=0.5, rotate=90, shear=0.2, shift=0, light=0, blank=0, seek=3),
            RIGID,
        ]
    ),
    st.integers(0, 2**31),
    st.integers(40, 128),
    st.integers(30, 90),
)
def test_labels_follow_the_image(augment: Augment, key: int, side: int, size: int) -> None:
    """An image that tells its own label, under geometry alone: they agree away from edges."""
    check_geometry(augment, key, side, size)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(40, 128), st.integers(30, 90))
def test_labels_follow_the_image_as_in_the_paper(key: int, side: int, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        without_light(patch)
        got = check_geometry(PAPER, key, side, size)
        assert (got.codes[~got.post.any(axis=0)] == 255).all()


def check_geometry(augment: Augmenter, key: int, side: int, size: int) -> Chip:
    codes = np.zeros((side, side), np.uint8)
    codes[side // 5 : side // 2, side // 4 : side * 3 // 4] = 2
    codes[side * 3 // 5 : side * 4 // 5, side // 6 : side // 2] = 4
    image = np.repeat((codes * 50 + 20)[None], 3, axis=0)
    got = augment.draw(Chip(image, image, codes), size, (0, 0, key))
    assert set(np.unique(got.codes)) <= {0, 2, 4, 255}
    assert np.array_equal(got.pre, got.post), "without misregistration they stay together"
    lowest = ndimage.minimum_filter(got.codes, 5, mode="constant", cval=0)
    same_around = lowest == ndimage.maximum_filter(got.codes, 5, mode="constant", cval=255)
    # Half a pixel around the chip the nearest label is known, but nothing to interpolate between.
    inside = same_around & (got.codes != 255) & got.post.any(axis=0)
    assert (got.post[:, inside] == got.codes[inside] * 50 + 20).all()
    assert not got.post[:, same_around & (got.codes == 255)].any()
    return got


def without_light(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(photometric, "GROUPS", ())


def ramps(side: int) -> Chip:
    """A chip whose pixels tell their row and column, which bilinear interpolation keeps."""
    rows, cols = np.mgrid[:side, :side] + 50
    image = np.stack([rows, cols, np.full_like(rows, 200)]).astype(np.uint8)
    return Chip(image, image, np.zeros((side, side), np.uint8))


def slips(augment: Augmenter, count: int) -> np.ndarray:
    """By how many rows and columns the before image of each draw is off, (count, 2)."""
    found = []
    for k in range(count):
        got = augment.draw(ramps(96), 48, (0, 0, k))
        seen = ndimage.binary_erosion((got.pre[2] == 200) & (got.post[2] == 200), iterations=2)
        off = got.pre[:2, seen].astype(float) - got.post[:2, seen]
        found.append(off.mean(axis=1))
    return np.array(found)


# Our own, strong changes


def test_plain_crops_are_copies() -> None:
    whole = noisy(96)
    crop = PLAIN.draw(whole, 32, (0, 0, 7))
    windows = np.lib.stride_tricks.sliding_window_view(whole.post[0], (32, 32))
    hits = np.argwhere((windows == crop.post[0]).all(axis=(2, 3)))
    assert len(hits) == 1
    row, col = hits[0]
    for name in ("pre", "post"):
        expected = getattr(whole, name)[:, row : row + 32, col : col + 32]
        assert np.array_equal(getattr(crop, name), expected)
    assert np.array_equal(crop.codes, whole.codes[row : row + 32, col : col + 32])
    assert same(PLAIN.draw(whole, 96, (0, 0, 0)), whole)


def test_crops_with_damage_are_sought() -> None:
    codes = np.zeros((256, 256), np.uint8)
    codes[200:220, 20:40] = 4
    whole = Chip(*np.full((2, 3, 256, 256), 9, np.uint8), codes)

    def share(augment: Augmenter) -> float:
        return np.mean([(augment.draw(whole, 64, (0, 0, k)).codes == 4).any() for k in range(200)])

    assert share(replace(RIGID, seek=8)) > 2.5 * share(replace(RIGID, seek=1))


def test_flips_and_turns_all_occur() -> None:
    corner = np.zeros((32, 32), np.uint8)
    corner[:8, :8], corner[:8, 24:] = 1, 2  # one corner each: eight poses can be told apart
    image = np.full((3, 32, 32), 50, np.uint8)
    poses = {
        RIGID.draw(Chip(image, image, corner), 32, (0, 0, k)).codes.tobytes() for k in range(60)
    }
    assert len(poses) == 8


def test_misregistration_is_bounded() -> None:
    off = slips(replace(RIGID, shift=3.0), 100)
    assert 2.8 < abs(off).max() <= 3.01
    assert stats.kstest(off.ravel() / 3, "uniform", (-1, 2)).pvalue > 1e-3


def test_blank_strips_are_left_out() -> None:
    got = replace(RIGID, blank=1).draw(noisy(96), 64, (0, 0, 1))
    black = ~got.pre.any(axis=0) | ~got.post.any(axis=0)
    assert black.mean() > 0.05
    assert np.array_equal(got.codes == 255, black)


def test_light_changes_apart_or_together() -> None:
    image = noisy(96).post
    twin = Chip(image, image, np.zeros((96, 96), np.uint8))
    apart = replace(RIGID, light=0.7).draw(twin, 64, (0, 0, 3))
    together = replace(RIGID, light=0.7, apart=False).draw(twin, 64, (0, 0, 3))
    assert not np.array_equal(apart.pre, apart.post)
    assert np.array_equal(together.pre, together.post)


# The paper's changes


def maps(augment: Augmenter, count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The affine map of each draw from crop to chip, 2 × 2, and by what it shifts the crop, px."""
    whole, matrices, shifts = ramps(side), [], []
    for k in range(count):
        got = augment.draw(whole, side, (0, 0, k))
        rows, cols = np.nonzero(ndimage.binary_erosion(got.post[2] == 200, iterations=2))
        at = np.column_stack([rows, cols]) - (side - 1) / 2
        source = got.post[:2, rows, cols].T.astype(float) - 50 - (side - 1) / 2
        fit = np.linalg.lstsq(np.column_stack([at, np.ones(len(at))]), source, rcond=None)[0]
        matrices.append(fit[:2].T)
        shifts.append(-np.linalg.solve(fit[:2].T, fit[2]))
    return np.array(matrices), np.array(shifts)


def test_geometry_has_the_paper_s_bounds_and_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    without_light(monkeypatch)
    count, side = 500, 101
    matrices, shifts = maps(PAPER, count, side)
    moved = abs(matrices - np.rint(matrices)).max(axis=(1, 2)) > 1e-3
    assert stats.binomtest(int(moved.sum()), count, 0.5).pvalue > 1e-3
    still = matrices[~moved]
    assert (abs(np.rint(still)) == np.eye(2)).all()
    assert abs(shifts[~moved]).max() < 0.01
    for axis in (0, 1):
        flips = int((still[:, axis, axis] < 0).sum())
        assert stats.binomtest(flips, len(still), 0.5).pvalue > 1e-3

    def even(values: np.ndarray, low: float, high: float) -> None:
        assert low - 0.01 * (high - low) < values.min()
        assert values.max() < high + 0.01 * (high - low)
        assert stats.kstest(values, "uniform", (low, high - low)).pvalue > 1e-3

    even(shifts[moved].ravel(), -0.05 * side, 0.05 * side)
    size = np.linalg.det(matrices[moved])
    assert stats.binomtest(int((size < 0).sum()), len(size), 0.5).pvalue > 1e-3
    even(1 / np.sqrt(abs(size)), 0.95, 1.05)
    # A flip of both sides is half a turn, so turns are even over the whole circle.
    first = matrices[moved][:, :, 0] * np.where(size < 0, -1, 1)[:, None]
    turn = np.degrees(np.arctan2(first[:, 1], first[:, 0]))
    even(turn, -180, 180)
    # Up to a quarter either way, of an image that may stand on its head.
    assert np.percentile(abs((turn + 90) % 180 - 90), 98) > 85


def test_flips_alone_are_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    without_light(monkeypatch)
    whole = noisy(64)
    poses = [whole.post[:, ::a, ::b] for a in (1, -1) for b in (1, -1)]
    hits = [
        [np.array_equal(PAPER.draw(whole, 64, (0, 0, k)).post, pose) for k in range(200)]
        for pose in poses
    ]
    shares = np.mean(hits, axis=1)
    assert shares.sum() == pytest.approx(0.5, abs=0.12)
    assert (shares > 0.05).all()


def test_the_paper_has_no_misregistration_and_jitter_is_whole_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_light(monkeypatch)
    assert not slips(PAPER, 20).any()
    off = slips(PaperAugment(jitter=2), 200)
    assert abs(off - np.rint(off)).max() < 0.01
    pairs, counts = np.unique(np.rint(off), axis=0, return_counts=True)
    assert len(pairs) == 25
    assert abs(pairs).max() == 2
    assert stats.chisquare(counts).pvalue > 1e-3


def test_paper_draws_together_or_apart() -> None:
    image = noisy(96).post
    twin = Chip(image, image, np.zeros((96, 96), np.uint8))
    for k in range(12):
        got = PAPER.draw(twin, 64, (0, 0, k))
        assert np.array_equal(got.pre, got.post)
    apart = [PaperAugment(apart=True).draw(twin, 64, (0, 0, k)) for k in range(40)]
    differ = np.mean([not np.array_equal(a.pre, a.post) for a in apart])
    # The same only where neither image is changed: in each group, one half squared.
    assert differ > 0.9
    one, other = (a.draw(twin, 64, (0, 0, 5)) for a in (PAPER, PaperAugment(apart=True)))
    assert np.array_equal(one.codes, other.codes), "geometry does not depend on it"
    assert np.array_equal(one.pre, other.pre)


@pytest.mark.parametrize("augment", [PAPER, PAPER_APART])
def test_black_stays_black_and_is_left_out(augment: Augmenter) -> None:
    whole = noisy(96)
    pre, post = whole.pre.copy(), whole.post.copy()
    pre[:, :40], post[:, :, 60:] = 0, 0
    whole = Chip(pre, post, np.zeros((96, 96), np.uint8))
    geometry = [augment.draw(whole, 64, (0, 0, k)) for k in range(30)]
    for got in geometry:
        dark = ~got.pre.any(axis=0) & ~got.post.any(axis=0)
        assert (got.codes[dark] == 255).all()
    for k in range(30):
        changed = photometric.relight(pre, np.random.default_rng(k))
        assert not changed[:, :40].any()
        assert changed[:, 40:].any(axis=0).mean() > 0.9
