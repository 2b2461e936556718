"""Lazy datasets: what a notebook sees."""

from __future__ import annotations

from pathlib import Path

import dask
import numpy as np
import pytest
import rasterio
from aftermap.scenes.errors import NothingToAnalyse, Refused, UsageError
from aftermap.scenes.grid import area_of_interest, at_resolution, gsd
from aftermap.scenes.open import open_pair, open_scene
from aftermap.scenes.pair import acquisition_date, make_pair, match_colour
from odc.geo.geobox import GeoBox
from rasters import UTM, texture, write_raster


def refuse(*args: object, **kwargs: object) -> None:
    raise AssertionError("something was computed")


def test_opening_computes_nothing_and_looks_like_the_file(pair_files: tuple[Path, Path]) -> None:
    with dask.config.set(scheduler=refuse):
        pair = open_pair(*pair_files, chunks=256)
    assert set(pair) == {"pre", "post", "valid"}
    assert pair["post"].dims == ("band", "y", "x")
    assert pair["valid"].dtype == bool
    assert pair.rio.crs.to_epsg() == 32637
    assert pair.rio.transform() == UTM
    with rasterio.open(pair_files[1]) as source:
        np.testing.assert_array_equal(pair["post"].values, source.read())
        assert float(pair.x[0]) == source.xy(0, 0)[0]


def test_names_are_deterministic_and_change_with_the_file(pair_files: tuple[Path, Path]) -> None:
    first, second = open_pair(*pair_files), open_pair(*pair_files)
    assert first["pre"].data.name == second["pre"].data.name
    write_raster(pair_files[0], texture(700, 900, 9))
    assert open_pair(*pair_files)["pre"].data.name != first["pre"].data.name


def test_the_graph_is_linear_in_chunks_and_small(pair_files: tuple[Path, Path]) -> None:
    graph = dict(open_pair(*pair_files, chunks=64)["post"].__dask_graph__())
    assert len(graph) <= 2 * 11 * 15 + 1


def test_a_scene_alone_has_no_before_image(pair_files: tuple[Path, Path]) -> None:
    assert set(open_scene(pair_files[1])) == {"post", "valid"}


def test_a_box_in_degrees_cuts_the_pair(pair_files: tuple[Path, Path]) -> None:
    west, south, east, north = rasterio.warp.transform_bounds(
        "EPSG:32637", "EPSG:4326", 300_100, 4_099_750, 300_300, 4_099_900
    )
    pair = open_pair(*pair_files, bbox=(west, south, east, north))
    assert pair.sizes["x"] == pytest.approx(400, abs=20)
    assert pair.sizes["y"] == pytest.approx(300, abs=20)
    whole = open_pair(*pair_files).sel(x=pair.x, y=pair.y)
    seen = pair["valid"].values
    assert seen.mean() > 0.9
    np.testing.assert_array_equal(pair["post"].values, whole["post"].values)


def test_grids_can_be_the_before_images_or_any_other(
    pair_files: tuple[Path, Path], tmp_path: Path
) -> None:
    own = GeoBox((100, 120), UTM * UTM.scale(4, 4), "EPSG:32637")
    assert open_pair(*pair_files, grid=own)["post"].shape == (3, 100, 120)
    assert open_pair(*pair_files, grid="pre")["post"].shape == (3, 700, 900)
    with pytest.raises(Refused, match="--grid"):
        open_pair(*pair_files, grid="neither")


@pytest.mark.parametrize("metres", [0.3, 1.0, 1.7])
def test_a_resolution_is_in_metres_in_every_coordinate_system(metres: float) -> None:
    for grid in (
        GeoBox((900, 800), UTM, "EPSG:32637"),
        GeoBox((900, 800), UTM.translation(36.9, 37.5) * UTM.scale(6e-6, -6e-6), "EPSG:4326"),
    ):
        coarse = at_resolution(grid, metres)
        assert gsd(coarse) == pytest.approx(metres, rel=0.002)
        assert coarse.extent.area == pytest.approx(grid.extent.area, rel=0.01)


@pytest.mark.parametrize("metres", [0, -1, float("nan")])
def test_no_resolution_is_refused(metres: float) -> None:
    with pytest.raises(Refused, match="--resolution"):
        at_resolution(GeoBox((9, 8), UTM, "EPSG:32637"), metres)


def test_areas_elsewhere_and_inside_out_are_told_apart() -> None:
    grid = GeoBox((900, 800), UTM, "EPSG:32637")
    with pytest.raises(NothingToAnalyse, match="does not touch"):
        area_of_interest(grid, (10, 10, 11, 11), None)
    with pytest.raises(UsageError, match="west south east north"):
        area_of_interest(grid, (37, 38, 36, 37), None)


def test_colours_are_matched_over_valid_pixels(tmp_path: Path) -> None:
    post = texture(400, 400)
    pre = np.clip(post * 0.5 + 20, 0, 255).astype(np.uint8)
    pre[:, :100], post[:, :100] = 0, 200
    pair = make_pair(
        write_raster(tmp_path / "pre.tif", pre, nodata=0), write_raster(tmp_path / "post.tif", post)
    )
    matched = match_colour(pair)
    seen = matched.read(0, 0, 400, 400)
    assert np.abs(seen.pre.astype(int) - post)[:, seen.valid].mean() < 3
    assert not seen.pre[:, ~seen.valid].any()


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("2023-02-07_10300100.tif", "2023-02-07"),
        ("post_20230207a.tif", "2023-02-07"),
        ("after.tif", None),
        ("104001007E12345678.tif", None),
    ],
)
def test_dates_are_read_from_names_only_where_there_is_one(
    tmp_path: Path, name: str, date: str | None
) -> None:
    pair = make_pair(None, write_raster(tmp_path / name, texture(60, 60)))
    assert acquisition_date(pair.post) == date
