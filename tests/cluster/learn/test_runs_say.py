"""What a catalogued run found in a square, whatever grid it has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from aftermap.cluster.catalog.pixels import RasterPixels, open_pixels
from aftermap.cluster.catalog.tables import Run
from aftermap.cluster.learn.pictures import Square, SquarePictures
from aftermap.cluster.learn.runs_say import runs_say
from learn_town import CELLS, SIDE, Town
from rasterio import Affine
from rasterio.warp import Resampling, calculate_default_transform, reproject
from rasters import UTM, write_raster


def _codes(town: Town) -> np.ndarray:
    """Struck cells are destroyed in their middle, others have an intact building; the left is not analysed."""
    codes = np.zeros((1, CELLS * SIDE, CELLS * SIDE), np.uint8)
    for row in range(CELLS):
        for col in range(CELLS):
            top, left = row * SIDE + 16, col * SIDE + 16
            codes[0, top : top + 16, left : left + 16] = 4 if town.struck[row, col] else 1
    codes[:, :, : 2 * SIDE] = 255
    return codes


def _write(town: Town, folder: Path, crs: str) -> None:
    codes, bounds = (
        _codes(town),
        (300_000, 4_100_000 - CELLS * SIDE / 2, 300_000 + CELLS * SIDE / 2, 4_100_000),
    )
    transform, out = UTM, codes
    if crs != "EPSG:32637":
        side = CELLS * SIDE
        transform, width, height = calculate_default_transform(
            "EPSG:32637", crs, side, side, *bounds
        )
        out = np.full((1, height, width), 255, np.uint8)
        reproject(codes, out, src_transform=UTM, src_crs="EPSG:32637", dst_transform=transform,
                  dst_crs=crs, resampling=Resampling.nearest, dst_nodata=255)  # fmt: skip
    assert isinstance(transform, Affine)
    folder.mkdir()
    write_raster(folder / "damage.tif", out, crs, transform, nodata=255)
    with town.catalog.writing() as session:
        session.add(
            Run(
                run_id=folder.name,
                path=str(folder),
                method="fc-siam-diff",
                scene_id=town.scene.id,
                totals={},
                added_by=town.scene.added_by,
            )
        )


def _pictures(town: Town) -> SquarePictures:
    pixels = open_pixels(town.catalog.files, town.scene)
    assert isinstance(pixels, RasterPixels)
    cells = [(row, col) for row in range(CELLS) for col in range(CELLS)]
    squares = [Square(town.scene.id, row * SIDE, col * SIDE, SIDE) for row, col in cells]
    scenes = {town.scene.id: town.scene}
    return SquarePictures(town.catalog.files, scenes, {town.scene.id: pixels}, squares, SIDE)


@pytest.mark.parametrize("crs", ["EPSG:32637", "EPSG:4326"])
def test_a_run_says_where_damage_is(plain: Town, tmp_path: Path, crs: str) -> None:
    _write(plain, tmp_path / "run", crs)
    said = runs_say(plain.catalog, _pictures(plain)).reshape(CELLS, CELLS)
    assert np.isnan(said[:, :2]).all()
    assert np.array_equal(said[:, 2:], plain.struck[:, 2:].astype(float))


def test_the_newest_run_counts_and_one_that_is_gone_says_nothing(
    plain: Town, tmp_path: Path
) -> None:
    pictures = _pictures(plain)
    assert np.isnan(runs_say(plain.catalog, pictures)).all()
    _write(plain, tmp_path / "one", "EPSG:32637")
    _write(plain, tmp_path / "two", "EPSG:4326")
    assert not np.isnan(runs_say(plain.catalog, pictures)).all()
    (tmp_path / "two" / "damage.tif").unlink()
    assert np.isnan(runs_say(plain.catalog, pictures)).all()
