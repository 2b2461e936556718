"""The shift from place to place: what was put into an image comes out, and outliers do not."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from aftermap.scenes.align import Tiles, measure_tiles
from aftermap.scenes.pair import make_pair
from aftermap.scenes.shift_field import LIMIT_M, SURE, ShiftField
from odc.geo.geobox import GeoBox
from rasters import UTM, texture, write_raster
from scipy import ndimage

GRID = GeoBox((2048, 2048), UTM, "EPSG:32637")


def tiles(shift: object, rows: int = 8, cols: int = 8) -> Tiles:
    """Tiles on a grid of 256 px with `shift(row, col)` each."""
    centres = 256 * np.argwhere(np.ones((rows, cols))) + 128.0
    return Tiles(centres, np.array([shift(*place) for place in centres], float))


def places(seed: int = 0, n: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 2048, (n, 2)).T


def test_one_shift_is_the_same_everywhere() -> None:
    found = ShiftField.of(tiles(lambda r, c: (3, -7)), GRID).at(*places())
    np.testing.assert_allclose(found.rows_px, 3, atol=1e-6)
    np.testing.assert_allclose(found.cols_px, -7, atol=1e-6)
    # Half a metre per pixel: to the west and to the south.
    np.testing.assert_allclose(found.x_m, -3.5, rtol=2e-3)
    np.testing.assert_allclose(found.y_m, -1.5, rtol=2e-3)
    assert (found.confidence == 1).all()


def test_a_shift_that_varies_is_followed() -> None:
    def truth(r: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return 0.004 * (r - 1024) + 1, 3 * np.sin(c / 700)

    found = ShiftField.of(tiles(truth), GRID).at(*places())
    rows, cols = truth(*places())
    assert np.abs(found.rows_px - rows).max() < 0.5
    assert np.abs(found.cols_px - cols).max() < 0.8
    assert np.abs(found.rows_px - rows).mean() < 0.15
    assert found.confidence.min() > 0.9


def test_tiles_that_disagree_are_left_out_and_make_it_less_sure() -> None:
    rng = np.random.default_rng(3)
    wild = rng.random((9, 9)) < 0.2

    def seen(r: float, c: float) -> tuple[float, float]:
        odd = wild[int(r) // 256, int(c) // 256]
        return tuple(rng.uniform(-40, 40, 2)) if odd else (4.0, 2 + 0.001 * c)

    found = ShiftField.of(tiles(seen), GRID).at(*places())
    np.testing.assert_allclose(found.rows_px, 4, atol=0.3)
    error = np.abs(found.cols_px - 2 - 0.001 * places()[1])
    assert np.quantile(error, 0.95) < 0.3
    assert error.max() < 1.1  # where most tiles around are wild, the whole pair's shift stands in
    assert 0.6 < found.confidence.mean() < 0.95


def test_noise_moves_nothing() -> None:
    rng = np.random.default_rng(5)
    found = ShiftField.of(tiles(lambda r, c: rng.uniform(-60, 60, 2)), GRID).at(*places())
    assert (found.confidence < SURE).all()
    assert not found.rows_px.any()
    assert not found.cols_px.any()


def test_a_long_shift_is_told_and_not_moved_by() -> None:
    half = LIMIT_M / 0.5
    near = ShiftField.of(tiles(lambda r, c: (0, half - 1)), GRID).at(*places())
    far = ShiftField.of(tiles(lambda r, c: (0, half + 1)), GRID).at(*places())
    assert (near.cols_px == half - 1).all()
    assert not far.cols_px.any()
    np.testing.assert_allclose(far.x_m, LIMIT_M + 0.5, rtol=2e-3)
    assert (far.confidence < SURE).all()


def test_where_no_tile_is_near_the_whole_pair_s_shift_takes_over() -> None:
    known = tiles(lambda r, c: (2, -2), rows=3, cols=3)
    lone = Tiles(known.centres[:9], known.shifts[:9])
    field = ShiftField.of(lone, GeoBox((20_000, 20_000), UTM, "EPSG:32637"))
    found = field.at(np.array([19_000.0]), np.array([19_000.0]))
    assert (found.rows_px[0], found.cols_px[0]) == (2, -2)
    none = ShiftField.of(Tiles(np.zeros((0, 2)), np.zeros((0, 2))), GRID).at(*places())
    assert not none.confidence.any()
    assert not none.rows_px.any()
    two = ShiftField.of(Tiles(known.centres[:2], known.shifts[:2]), GRID).at(*places())
    assert two.confidence.max() <= 0.5


def test_places_are_answered_alone_as_together() -> None:
    rng = np.random.default_rng(8)
    field = ShiftField.of(tiles(lambda r, c: (0.003 * r + rng.normal(), 2.0)), GRID)
    rows, cols = places(n=300)
    together = field.at(rows, cols)
    alone = [field.at(rows[k : k + 1], cols[k : k + 1]) for k in range(300)]
    assert together.rows_px.tolist() == [one.rows_px[0] for one in alone]
    assert together.confidence.tolist() == [one.confidence[0] for one in alone]


@pytest.mark.parametrize("slope", [0.0, 4e-3])
def test_what_is_drawn_on_the_before_image_lands_on_the_after_image(
    tmp_path: Path, slope: float
) -> None:
    """A before image stretched by a known amount: its features move back to where they are."""
    after = texture(1600, 1600, 11)
    rows, cols = np.mgrid[:1600, :1600].astype(float)
    # What lies at (r, c) after lay at (r - 3, c + 5 - slope * (c - 800)) before.
    middle = 800.0
    back = ((cols - 5) - slope * middle) / (1 - slope)
    before = np.stack(
        [ndimage.map_coordinates(band, [rows + 3, back], order=1, mode="reflect") for band in after]
    ).astype(np.uint8)
    pair = make_pair(
        write_raster(tmp_path / "pre.tif", before), write_raster(tmp_path / "post.tif", after)
    )
    field = ShiftField.of(measure_tiles(pair), pair.grid)
    there = np.random.default_rng(0).uniform(150, 1450, (100, 2)).T
    drawn = there[0] - 3, there[1] + 5 - slope * (there[1] - middle)
    moves = field.at(*drawn)
    error = np.hypot(drawn[0] + moves.rows_px - there[0], drawn[1] + moves.cols_px - there[1])
    assert np.median(error) < 0.2
    assert error.max() < 0.6
    assert moves.confidence.min() > 0.8


def test_a_pair_read_on_another_grid_moves_by_the_same_metres(tmp_path: Path) -> None:
    pixels = texture(1100, 1200, 5)
    post = write_raster(tmp_path / "post.tif", pixels)
    moved = UTM * Affine.translation(6, -4)
    pre = write_raster(tmp_path / "pre.tif", pixels, transform=moved)
    for grid in ("post", "pre"):
        pair = make_pair(pre, post, grid=grid)
        found = ShiftField.of(measure_tiles(pair), pair.grid).at([500], [600])
        assert (found.x_m[0], found.y_m[0]) == pytest.approx((-3, -2), abs=0.1)
