"""Guarantee 1: outputs do not depend on chunks, workers or where the halo comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import dask
import numpy as np
import pytest
import xarray as xr
from aftermap.kernels.apply import apply, apply_chunk, run_block
from aftermap.scenes.errors import Refused
from aftermap.scenes.layer import Layer
from aftermap.scenes.open import to_dataset
from aftermap.scenes.pair import Pair, make_pair
from aftermap.scenes.plan import Plan, Window
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasters import texture, write_raster

EXAMPLES = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
SHAPE = 333, 407


@dataclass(frozen=True)
class Probe:
    """A kernel whose output depends on every pixel of its window and on where the window lies."""

    window: Window
    every: int = 4
    batch: int = 3
    inputs: ClassVar[tuple[str, ...]] = ("pre", "post")
    method: ClassVar[str] = "probe"
    bands: ClassVar[int] = 3

    @property
    def layers(self) -> tuple[Layer, ...]:
        return Layer("damage", "class"), Layer("cells", "probability", self.every)

    def __call__(self, pre: np.ndarray, post: np.ndarray, valid: np.ndarray) -> Mapping[str, Any]:
        halo, core = self.window.halo, self.window.core
        mixed = pre.sum(axis=1, dtype=np.int64) + 3 * post.sum(axis=1, dtype=np.int64) + 7 * valid
        whole = mixed.sum(axis=(1, 2), keepdims=True)
        kept = (mixed + whole)[:, halo : halo + core, halo : halo + core] % 251
        cells = kept.reshape(len(kept), core // self.every, self.every, -1, self.every).max((2, 4))
        return {"damage": kept.astype(np.uint8), "cells": cells.astype(np.uint8)}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    pre, post = texture(*SHAPE, 1), texture(*SHAPE, 2)
    post[:, 200:260, :90] = 0
    return make_pair(
        write_raster(folder / "pre.tif", pre), write_raster(folder / "post.tif", post, nodata=0)
    )


def by_chunks(kernel: Any, pair: Pair, chunk: int) -> dict[str, np.ndarray]:
    plan = Plan.of(SHAPE, kernel.window, chunk)
    cells = -(-SHAPE[0] // kernel.every), -(-SHAPE[1] // kernel.every)
    out = {"damage": np.full(SHAPE, 255, np.uint8), "cells": np.full(cells, 255, np.uint8)}
    for piece in plan:
        block = apply_chunk(kernel, pair, plan, piece)
        if block is not None:
            k = kernel.every
            out["damage"][piece.row0 : piece.row1, piece.col0 : piece.col1] = block["damage"]
            out["cells"][
                piece.row0 // k : -(-piece.row1 // k), piece.col0 // k : -(-piece.col1 // k)
            ] = block["cells"]
    return out


def computed(layers: xr.Dataset) -> dict[str, np.ndarray]:
    with dask.config.set(scheduler="synchronous"):
        return {name: layers[name].values for name in layers}


@st.composite
def windows(draw: st.DrawFn) -> Window:
    core = draw(st.sampled_from([16, 40, 64, 128, 512]))
    return Window(core, draw(st.integers(0, min(core, 50))))


@EXAMPLES
@given(window=windows(), one=st.integers(1, 500), other=st.integers(1, 500))
def test_chunk_size_changes_no_bit(pair: Pair, window: Window, one: int, other: int) -> None:
    kernel = Probe(window)
    first, second = by_chunks(kernel, pair, one), by_chunks(kernel, pair, other)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


@EXAMPLES
@given(window=windows(), opened=st.integers(30, 500), chunk=st.integers(1, 500))
def test_halo_from_neighbours_equals_halo_from_files(
    pair: Pair, window: Window, opened: int, chunk: int
) -> None:
    kernel = Probe(window)
    lazy = computed(apply(kernel, to_dataset(pair, opened), chunk))
    for name, values in by_chunks(kernel, pair, 10_000).items():
        np.testing.assert_array_equal(lazy[name], values)


@EXAMPLES
@given(
    window=windows(),
    chunk=st.integers(1, 300),
    row=st.integers(0, 200),
    col=st.integers(0, 250),
    height=st.integers(1, 130),
    width=st.integers(1, 150),
)
def test_a_cut_out_pair_sees_the_same_windows(
    pair: Pair, window: Window, chunk: int, row: int, col: int, height: int, width: int
) -> None:
    """A crop hides the pixels around it, so it is compared with the raster masked outside the crop."""
    kernel = Probe(window, every=1)
    whole = to_dataset(pair, 128)
    crop = whole.isel(y=slice(row, row + height), x=slice(col, col + width))
    inside = np.zeros(SHAPE, bool)
    inside[row : row + height, col : col + width] = True
    masked = whole.where(xr.DataArray(inside, dims=("y", "x")), 0).astype(
        {"pre": np.uint8, "post": np.uint8, "valid": bool}
    )
    expected = computed(apply(kernel, masked, 10_000))
    for name, values in computed(apply(kernel, crop, chunk)).items():
        np.testing.assert_array_equal(values, expected[name][row : row + height, col : col + width])


def test_halving_the_batch_changes_no_bit() -> None:
    @dataclass(frozen=True)
    class Cramped(Probe):
        def __call__(self, pre, post, valid):
            if len(pre) > 2:
                raise MemoryError
            return super().__call__(pre, post, valid)

    rng = np.random.default_rng(0)
    pre, post = rng.integers(0, 255, (2, 3, 80, 80), np.uint8)
    valid = np.ones((80, 80), bool)
    window = Window(16, 8)
    roomy = run_block(Probe(window, batch=16), pre, post, valid)
    cramped = run_block(Cramped(window, batch=16), pre, post, valid)
    for name in roomy:
        np.testing.assert_array_equal(roomy[name], cramped[name])


def test_memory_that_does_not_suffice_for_one_window_is_an_error() -> None:
    class Hopeless(Probe):
        def __call__(self, pre, post, valid):
            raise MemoryError

    image = np.zeros((3, 16, 16), np.uint8)
    with pytest.raises(MemoryError):
        run_block(Hopeless(Window(16, 0)), image, image, np.ones((16, 16), bool))


def test_pixels_that_are_not_valid_are_not_analysed(pair: Pair) -> None:
    layers = by_chunks(Probe(Window(64, 8)), pair, 128)
    valid = pair.read(0, 0, *SHAPE).valid
    assert (layers["damage"][~valid] == 255).all()
    assert (layers["damage"][valid] != 255).all()


def test_a_chunk_without_valid_pixels_is_not_run(pair: Pair) -> None:
    class Never(Probe):
        def __call__(self, pre, post, valid):
            raise AssertionError("ran")

    plan = Plan.of(SHAPE, Window(16, 0), 16)
    inner = next(c for c in plan if c.row0 == 208 and c.col0 == 16)
    assert apply_chunk(Never(Window(16, 0)), pair, plan, inner) is None


def test_nothing_is_computed_before_it_is_asked_for(pair: Pair) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("something was computed")

    kernel = Probe(Window(64, 8))
    with dask.config.set(scheduler=refuse):
        layers = apply(kernel, to_dataset(pair, 100), 64)
        with pytest.raises(AssertionError, match="computed"):
            layers["damage"].compute()


def test_names_are_deterministic_and_depend_on_the_kernel(pair: Pair) -> None:
    names = [
        apply(Probe(Window(64, h)), to_dataset(pair), 128)["damage"].data.name for h in (8, 8, 16)
    ]
    assert names[0] == names[1] != names[2]


def test_the_graph_is_linear_in_chunks(pair: Pair) -> None:
    kernel = Probe(Window(16, 8))
    sizes = {}
    for side in (16, 32, 64):
        layers = apply(kernel, to_dataset(pair, side), side)
        sizes[side] = (
            len(dict(layers["damage"].__dask_graph__())) / layers["damage"].data.npartitions
        )
    assert max(sizes.values()) < 26
    assert max(sizes.values()) / min(sizes.values()) < 1.4


def test_missing_images_and_foreign_dtypes_are_refused(pair: Pair) -> None:
    dataset = to_dataset(pair)
    with pytest.raises(Refused, match="open_pair"):
        apply(Probe(Window(16, 0)), dataset.drop_vars("pre"))
    with pytest.raises(Refused, match="scale="):
        apply(Probe(Window(16, 0)), dataset.assign(post=dataset.post.astype("uint16")))
