"""Scanned squares: each whole, the right and bottom strips included, the same under every layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import dask
import numpy as np
import pytest
from aftermap.kernels.apply import apply, apply_chunk
from aftermap.kernels.scan import first_pixels
from aftermap.scenes.errors import UsageError
from aftermap.scenes.layer import Layer, encode
from aftermap.scenes.open import to_dataset
from aftermap.scenes.pair import Pair, make_pair
from aftermap.scenes.plan import Plan, Window
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasters import texture, write_raster

EXAMPLES = settings(
    max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
)
SIDES = (150, 61), (47, 203), (20, 30), (128, 128)


@dataclass(frozen=True)
class Brightness:
    """A kernel whose score is the mean of a square's valid pixels, weighted by where they lie."""

    window: Window
    batch: int = 3
    inputs: ClassVar[tuple[str, ...]] = ("post",)
    method: ClassVar[str] = "brightness"
    bands: ClassVar[int] = 3

    @property
    def layers(self) -> tuple[Layer, ...]:
        score = Layer("window_score", "probability", self.window.core)
        return Layer("damage", "class"), score, Layer("shade", "probability")

    def scores(self, images: np.ndarray, valid: np.ndarray) -> np.ndarray:
        found = [weighed(*pair) for pair in zip(images, valid, strict=True)]
        return np.array(found, np.float32)

    def scored(self, scores: np.ndarray) -> Mapping[str, np.ndarray]:
        damage = np.where(np.isnan(scores), 255, np.where(scores > 0.4, 5, 0))
        return {"damage": damage.astype(np.uint8), "window_score": encode(scores)}

    def drawn(
        self, images: np.ndarray, valid: np.ndarray, scores: np.ndarray
    ) -> Mapping[str, np.ndarray]:
        shades = [shaded(*some) for some in zip(images, valid, scores, strict=True)]
        return {"shade": np.stack(shades)}


def weighed(image: np.ndarray, valid: np.ndarray) -> float:
    side = len(valid)
    weights = np.outer(np.arange(1, side + 1), np.arange(1, side + 1) % 7 + 1)
    return float((image.mean(axis=0) * valid * weights).sum() / 255 / weights.sum())


def shaded(image: np.ndarray, valid: np.ndarray, score: float) -> np.ndarray:
    """Bytes that depend on the pixel, its place in the square, and all of the square."""
    rows, cols = np.indices(valid.shape)
    return ((image.sum(axis=0) * valid + 3 * rows + 5 * cols + int(score * 1e4)) % 251).astype(
        np.uint8
    )


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    folder, made = tmp_path_factory.mktemp("scan"), []
    for number, sides in enumerate(SIDES):
        pixels = np.clip(texture(*sides, number), 1, 255)
        pixels[:, sides[0] // 2 : sides[0] // 2 + 30, :25] = 0
        made.append(make_pair(None, write_raster(folder / f"{number}.tif", pixels, nodata=0)))
    return made


def by_hand(pair: Pair, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Scores square by square from the whole raster, and shades pixel by pixel."""
    _, post, valid = pair.read(0, 0, *pair.grid.shape)
    height, width = valid.shape
    core, side = window.core, window.scan
    cells = np.full((-(-height // core), -(-width // core)), np.nan)
    shades = np.full((height, width), 255, np.uint8)
    for i, j in np.ndindex(cells.shape):
        top = min(i * core, max(height - side, 0))
        left = min(j * core, max(width - side, 0))
        whole = np.zeros((3, side, side)), np.zeros((side, side), bool)
        shown = valid[top : top + side, left : left + side]
        inside = np.s_[..., : shown.shape[0], : shown.shape[1]]
        whole[0][inside] = post[:, top : top + side, left : left + side]
        whole[1][inside] = shown
        own = valid[i * core : (i + 1) * core, j * core : (j + 1) * core]
        if own.any() and shown.mean() >= 0.5:
            cells[i, j] = weighed(*whole)
            shade = shaded(*whole, np.float32(cells[i, j]))
            for row, col in np.ndindex(own.shape):
                y, x = i * core + row, j * core + col
                if valid[y, x]:
                    shades[y, x] = shade[y - top, x - left]
    return cells, shades


def by_chunks(kernel: Brightness, pair: Pair, chunk: int) -> dict[str, np.ndarray]:
    core, shape = kernel.window.core, pair.grid.shape
    cells = np.full((-(-shape[0] // core), -(-shape[1] // core)), 255, np.uint8)
    out = {name: np.full(shape, 255, np.uint8) for name in ("damage", "shade")}
    out["window_score"] = cells
    plan = Plan.of(shape, kernel.window, chunk)
    for piece in plan:
        block = apply_chunk(kernel, pair, plan, piece)
        if block is not None:
            for name in ("damage", "shade"):
                out[name][piece.row0 : piece.row1, piece.col0 : piece.col1] = block[name]
            rows, cols = slice(piece.row0 // core, None), slice(piece.col0 // core, None)
            found = block["window_score"]
            cells[rows, cols][: found.shape[0], : found.shape[1]] = found
    return out


def windows() -> st.SearchStrategy[Window]:
    sides = st.tuples(st.sampled_from([8, 30, 45]), st.floats(0, 0.9))
    return sides.map(lambda drawn: Window.scanning(drawn[0], int(drawn[0] * drawn[1])))


@EXAMPLES
@given(number=st.integers(0, 3), window=windows(), chunk=st.integers(1, 250))
def test_chunks_equal_the_squares_one_by_one(
    scenes: list[Pair], number: int, window: Window, chunk: int
) -> None:
    pair = scenes[number]
    found = by_chunks(Brightness(window), pair, chunk)
    wanted, shades = by_hand(pair, window)
    stored = encode(wanted)
    # A cell of which most pixels are not valid is not analysed.
    known = found["window_score"] != 255
    np.testing.assert_array_equal(found["window_score"][known], stored[known])
    valid = pair.read(0, 0, *pair.grid.shape).valid
    cells = wanted.repeat(window.core, 0).repeat(window.core, 1)[: valid.shape[0], : valid.shape[1]]
    codes = np.where(cells > 0.4, 5, 0)
    expected = np.where(valid & ~np.isnan(cells), codes, 255)
    np.testing.assert_array_equal(found["damage"], expected)
    np.testing.assert_array_equal(found["shade"], shades)


@EXAMPLES
@given(
    number=st.integers(0, 3),
    window=windows(),
    opened=st.integers(20, 250),
    chunk=st.integers(1, 250),
)
def test_neighbours_lend_what_files_hold(
    scenes: list[Pair], number: int, window: Window, opened: int, chunk: int
) -> None:
    kernel = Brightness(window)
    with dask.config.set(scheduler="synchronous"):
        lazy = apply(kernel, to_dataset(scenes[number], opened), chunk).compute()
    found = by_chunks(kernel, scenes[number], 10_000)
    for name in ("damage", "shade"):
        np.testing.assert_array_equal(lazy[name].values, found[name])
    known = found["window_score"] != 255
    np.testing.assert_array_equal(lazy["window_score"].values[known], found["window_score"][known])


@pytest.mark.parametrize(
    ("sides", "accepted"),
    [((25598, 30144), 17_446), ((42375, 28831), 27_674), ((19945, 28795), 12_878)],
)
def test_window_counts_of_the_papers_towns(sides: tuple[int, int], accepted: int) -> None:
    """The program dropped squares that do not fit; ours adds one more row and column, flush with the edge."""
    window = Window.scanning(299, 90)
    starts = [np.unique(first_pixels(side, window)) for side in sides]
    fits = [
        int(((s % 209 == 0) & (s + 299 < side)).sum())
        for s, side in zip(starts, sides, strict=True)
    ]
    assert fits[0] * fits[1] == accepted
    assert [len(s) for s in starts] == [n + 1 for n in fits]
    for first, side in zip(starts, sides, strict=True):
        assert first[-1] + 299 == side
        assert np.diff(first).max() == 209


def test_overlaps_that_cannot_be() -> None:
    for overlap in (-1, 299):
        with pytest.raises(UsageError, match="--overlap"):
            Window.scanning(299, overlap)
    with pytest.raises(UsageError, match="Scanned squares"):
        Window(100, 50, scan=80)
