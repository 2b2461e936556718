"""The shift between two images: found to a fraction of a pixel, and corrected when asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from aftermap.scenes.align import measure_shift
from aftermap.scenes.errors import Refused
from aftermap.scenes.pair import Pair, make_pair
from rasters import UTM, texture, write_raster


def shifted(folder: Path, rows: float, cols: float) -> Pair:
    """A pair whose before image says it lies (rows, cols) px away from where it does."""
    pixels = texture(1100, 1200, 5)
    post = write_raster(folder / "post.tif", pixels)
    moved = UTM * Affine.translation(-cols, -rows)
    return make_pair(write_raster(folder / "pre.tif", pixels, transform=moved), post)


@pytest.mark.parametrize(("rows", "cols"), [(0, 0), (3, -7), (-2.4, 5.3), (11.5, 0.2)])
def test_the_shift_is_found_and_its_correction_leaves_none(
    tmp_path: Path, rows: float, cols: float
) -> None:
    pair = shifted(tmp_path, rows, cols)
    found = measure_shift(pair)
    assert (found.rows_px, found.cols_px) == pytest.approx((rows, cols), abs=0.15)
    assert (found.x_m, found.y_m) == pytest.approx((cols * 0.5, -rows * 0.5), abs=0.1)
    assert found.confidence > 0.9
    corrected = replace(pair, shift=(found.rows_px, found.cols_px))
    assert measure_shift(corrected).length_px < 0.2


def test_images_that_have_nothing_in_common_give_no_confidence(tmp_path: Path) -> None:
    post = write_raster(tmp_path / "post.tif", texture(1100, 1200, 1))
    pair = make_pair(write_raster(tmp_path / "pre.tif", texture(1100, 1200, 2)), post)
    assert measure_shift(pair).confidence < 0.4


def test_images_without_texture_are_not_measured(tmp_path: Path) -> None:
    flat = np.full((3, 600, 600), 90, np.uint8)
    post = write_raster(tmp_path / "post.tif", flat)
    found = measure_shift(make_pair(write_raster(tmp_path / "pre.tif", flat), post))
    assert (found.tiles, found.confidence) == (0, 0.0)


def test_one_image_has_no_shift(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="before image"):
        measure_shift(make_pair(None, write_raster(tmp_path / "post.tif", texture(100, 100))))
