"""Blended windows: no bit depends on the chunks, and every pixel is the mean of what saw it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import dask
import numpy as np
import pytest
import torch
from aftermap.kernels.apply import apply
from aftermap.kernels.methods import load_method
from aftermap.models.checkpoint import load
from aftermap.scenes.errors import UsageError
from aftermap.scenes.layer import Layer
from aftermap.scenes.open import to_dataset
from aftermap.scenes.pair import Pair, make_pair
from aftermap.scenes.plan import Plan, Window
from chunked import by_chunks
from dual import dual_weights
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasters import texture, write_raster
from scipy import ndimage

EXAMPLES = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
SHAPE = 233, 307


@dataclass(frozen=True)
class Probe:
    """A kernel whose probabilities depend on every pixel of its square and on where it lies."""

    window: Window
    batch: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ("pre", "post")
    method: ClassVar[str] = "probe"
    bands: ClassVar[int] = 3
    layers: ClassVar[tuple[Layer, ...]] = (Layer("damage", "class"), Layer("p", "probability"))
    resolution: ClassVar[tuple[float, float]] = (0.01, 30.0)
    threshold: ClassVar[float | None] = None
    ready: ClassVar[bool] = True
    window_bytes: ClassVar[int] = 0
    device_bytes: ClassVar[int] = 0
    fixed_bytes: ClassVar[int] = 0
    cut: ClassVar[int] = 0
    margin: int = 0

    def facts(self) -> dict[str, object]:
        return {}

    def fitted(self, pair: Pair) -> Probe:
        return self

    def load(self) -> None: ...

    def __call__(self, pre: np.ndarray, post: np.ndarray, valid: np.ndarray) -> Mapping[str, Any]:
        raise AssertionError("blended windows are asked for probabilities")

    def probabilities(self, pre: np.ndarray, post: np.ndarray, valid: np.ndarray) -> np.ndarray:
        assert pre.shape == (1, 3, self.window.size, self.window.size)
        assert valid.any()
        mixed = (pre[0].sum(axis=0, dtype=np.int64) + 3 * post[0].sum(axis=0) + valid[0]) % 101
        whole = mixed.sum() % 97
        second = (mixed + whole) / np.float32(200)
        return np.stack([second, 1 - second]).astype(np.float32)

    def stored(self, probabilities: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
        first = probabilities[0]
        assert valid.shape == first.shape
        if self.margin:  # as far as this reaches, every pixel has to be what it is elsewhere
            first = ndimage.maximum_filter(first, 2 * self.margin + 1)
            first = first[self.margin : -self.margin, self.margin : -self.margin]
        return {
            "damage": (first * np.float32(4)).astype(np.uint8),
            "p": np.rint(first * 250).astype(np.uint8),
        }


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    pre, post = texture(*SHAPE, 1), texture(*SHAPE, 2)
    post[:, 100:200, :150] = 0
    return make_pair(
        write_raster(folder / "pre.tif", pre), write_raster(folder / "post.tif", post, nodata=0)
    )


@st.composite
def windows(draw: st.DrawFn) -> Window:
    core = draw(st.sampled_from([16, 24, 64, 100]))
    return Window(core, draw(st.integers(-(-core // 2), core)), blended=True)


@EXAMPLES
@given(window=windows(), chunk=st.integers(1, 300), data=st.data())
def test_margins_are_known_without_the_neighbours(
    pair: Pair, window: Window, chunk: int, data: st.DataObject
) -> None:
    kernel = Probe(window, data.draw(st.integers(0, min(10, window.core - window.halo))))
    first, second = by_chunks(kernel, pair, chunk), by_chunks(kernel, pair, 10_000)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


@dataclass(frozen=True)
class Cut(Probe):
    """The second class does not fade: it tells by which square a pixel was seen."""

    cut: ClassVar[int] = 1

    def probabilities(self, pre: np.ndarray, post: np.ndarray, valid: np.ndarray) -> np.ndarray:
        found = super().probabilities(pre, post, valid)
        found[1] = pre.sum() % 250 / np.float32(250)
        return found

    def stored(self, probabilities: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
        return super().stored(probabilities, valid) | {
            "p": np.rint(probabilities[1] * 250).astype(np.uint8)
        }


def test_classes_that_are_cut_change_half_way(pair: Pair) -> None:
    for window in (Window(64, 40, blended=True), Window(33, 25, blended=True)):
        found = by_chunks(Cut(window), pair, 200)["p"]
        valid = pair.read(0, 0, *SHAPE).valid
        # Around each corner of the cores lies a square of one value, a core wide.
        half = window.core // 2
        row = slice(half + window.core % 2, window.core + half)
        piece = found[row, row][valid[row, row]]
        assert len(np.unique(piece)) == 1
        edge = np.flatnonzero(np.diff(found[0].astype(int)))
        assert ((edge + 1 - half) % window.core <= window.core % 2).all()


@EXAMPLES
@given(window=windows(), one=st.integers(1, 300), other=st.integers(1, 300))
def test_chunk_size_changes_no_bit(pair: Pair, window: Window, one: int, other: int) -> None:
    first, second = (by_chunks(Probe(window), pair, side) for side in (one, other))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


@EXAMPLES
@given(window=windows(), opened=st.integers(30, 300), chunk=st.integers(1, 300))
def test_halo_from_neighbours_equals_halo_from_files(
    pair: Pair, window: Window, opened: int, chunk: int
) -> None:
    with dask.config.set(scheduler="synchronous"):
        layers = apply(Probe(window), to_dataset(pair, opened), chunk)
        lazy = {name: layers[name].values for name in layers}
    for name, values in by_chunks(Probe(window), pair, 10_000).items():
        np.testing.assert_array_equal(lazy[name], values)


@EXAMPLES
@given(window=windows())
def test_pixels_are_the_weighted_mean_of_the_squares_that_see_them(
    pair: Pair, window: Window
) -> None:
    """Against sums over the whole raster, in float64, of squares with a pyramid of weights."""
    core, halo, size = window.core, window.halo, window.size
    down, across = (-(-side // core) for side in SHAPE)
    kernel, big = Probe(window), (down * core + 2 * halo, across * core + 2 * halo)
    pixels = pair.read(-halo, -halo, big[0] - halo, big[1] - halo)
    sums, weights = np.zeros(big), np.zeros(big)
    # How far a square's pixel is from its edge, as a share of the overlap.
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    share = np.minimum(1, distance / window.overlap) if window.overlap else np.ones(size)
    for i in range(down + 1):
        for j in range(across + 1):
            there = np.s_[..., i * core : i * core + size, j * core : j * core + size]
            cut = [x[there][None] for x in pixels]
            if cut[2].any():
                sums[there[1:]] += kernel.probabilities(*cut)[0] * np.outer(share, share)
            weights[there[1:]] += np.outer(share, share)
    kept = np.s_[halo : halo + SHAPE[0], halo : halo + SHAPE[1]]
    wanted, valid = (sums / weights)[kept], pixels.valid[kept]
    np.testing.assert_allclose(weights[kept], 1, atol=1e-6)
    found = by_chunks(kernel, pair, 10_000)["p"]
    np.testing.assert_array_less(abs(found[valid] - wanted[valid] * 250), 0.51)
    assert (found[~valid] == 255).all()


def test_more_squares_are_counted_than_windows() -> None:
    plan = Plan.of((1000, 2000), Window(100, 60, blended=True), 500)
    assert plan.window_count == (10 + 2) * (20 + 4)
    assert plan.overhead == pytest.approx(12 * 24 * 120**2 / 2e6)
    assert Plan.of((1000, 2000), Window(100, 60), 500).window_count == 200


def test_squares_that_do_not_cover_the_core_are_refused() -> None:
    with pytest.raises(UsageError, match=r"core 100, halo 49.*--halo 50"):
        Window(100, 49, blended=True)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dual_weights(tmp_path_factory.mktemp("weights") / "dual.safetensors")


def test_dual_hrnet_does_not_depend_on_the_layout(weights: Path, pair: Pair) -> None:
    kernel = load_method("dual-hrnet", weights, device="cpu", precision="fp32")
    assert kernel.window == Window(96, 64, blended=True)
    one, other = (by_chunks(kernel, pair, side) for side in (96, 10_000))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    damage, building = one["damage"], one["building_probability"]
    assert len(np.unique(damage)) > 3
    # Damage is told only inside of buildings.
    seen = damage != 255
    assert (building[seen & (damage > 0)] >= 125).all()
    assert (building[seen & (damage == 0)] <= 125).all()


def test_a_square_is_what_the_network_says_of_it(weights: Path, pair: Pair) -> None:
    """Where one square alone sees a pixel, it is the plain forward pass."""
    kernel = load_method("dual-hrnet", weights, device="cpu", precision="fp32")
    found = by_chunks(kernel, pair, 10_000)
    # The square around (96, 192); 16 px around the middle line between cores fade.
    pixels = pair.read(32, 128, 160, 256)
    images = [
        (torch.from_numpy(x).float()[None] / 255 - 0.4) / 0.2 * torch.from_numpy(pixels.valid)
        for x in (pixels.pre, pixels.post)
    ]
    network, _ = load(weights)
    with torch.inference_mode():
        wanted = network.probabilities(*images)[0, :, 32:-32, 32:-32].numpy()  # type: ignore[operator]
    inner = np.s_[64:128, 160:224]
    for level, name in enumerate(("p_none", "p_minor", "p_major", "p_destroyed"), 1):
        off = abs(found[name][inner] - wanted[level] * 250)[pixels.valid[32:-32, 32:-32]]
        # Folded BatchNorm rounds differently, in a network of random weights by up to 1e-3.
        assert off.max() <= 1
        assert off.mean() < 0.3
