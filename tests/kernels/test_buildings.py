"""Counts become classes by the stated rules, and areas are geodesic."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from aftermap.kernels.buildings import (
    AREA_COLUMNS,
    BUILDING_COLUMNS,
    Origin,
    Rules,
    detected,
    empty_table,
    geodesic_area,
    supplied,
    to_map,
)
from aftermap.kernels.stitch import Components
from aftermap.kernels.tally import columns
from aftermap.scenes.plan import Plan, Window
from odc.geo.geobox import GeoBox

GRADED = (
    "damage", "damage_probability", "building_probability",
    "p_none", "p_minor", "p_major", "p_destroyed",
)  # fmt: skip
BINARY = ("damage", "damage_probability")
ORIGIN = Origin("m", None, "run", "pre.tif", "post.tif", None, "2023-02-08", 0.5, 1.5, None, 0.9)
CRS = "EPSG:32637"
DESIGNED = ["building_id", "source_id", "footprint_source", "damage_class", "p_none", "p_minor", "p_major", "p_destroyed", "damage_score", "damage_frac", "valid_frac", "shift_x_m", "shift_y_m", "align_conf", "pre_image", "post_image", "pre_date", "post_date", "gsd_m", "method", "weights_sha256", "run_id", "det_method", "area_m2", "likely_damaged", "possibly_damaged", "geometry"]  # fmt: skip


def counts(layers: tuple[str, ...], *rows: dict[str, int]) -> np.ndarray:
    """Tally rows from the columns that are not zero."""
    return np.array([[row.get(name, 0) for name in columns(layers)] for row in rows])


def footprint_table(layers: tuple[str, ...], rules: Rules, *rows: dict[str, int]) -> pd.DataFrame:
    n = len(rows)
    boxes = shapely.box(500000 + 20 * np.arange(n), 4100000, 500010 + 20 * np.arange(n), 4100010)
    frame = gpd.GeoDataFrame(
        {"position": np.arange(n)[::-1], "source_id": [f"s{k}" for k in range(n)]},
        geometry=boxes, crs=CRS,
    )  # fmt: skip
    table = supplied(frame, counts(layers, *rows), layers, rules, ORIGIN, "osm.gpkg")
    return table.iloc[::-1].reset_index(drop=True)


def test_the_columns_are_the_design_s() -> None:
    assert list(BUILDING_COLUMNS) == DESIGNED
    table = footprint_table(GRADED, Rules(True, 0.5), {"code_1": 4})
    assert list(table.columns) == DESIGNED
    empty = empty_table(BUILDING_COLUMNS, CRS)
    assert list(empty.columns) == DESIGNED
    assert (table.dtypes.drop("geometry") == empty.dtypes.drop("geometry")).all()


def test_graded_footprints_take_the_commonest_level_and_the_worse_on_a_tie() -> None:
    table = footprint_table(
        GRADED,
        Rules(True, 0.5),
        {"code_1": 6, "code_4": 5, "code_0": 40},
        {"code_2": 5, "code_3": 5},
        {"code_0": 9, "sum_p_none": 10, "sum_p_minor": 60, "sum_p_major": 60, "sum_p_destroyed": 0},
        {"code_0": 9},
        {"code_4": 49, "code_255": 51},
        {"code_4": 50, "code_255": 50},
    )
    assert table["damage_class"].tolist() == [1, 3, 3, 255, 255, 4]
    assert table["valid_frac"].tolist() == [1, 1, 1, 1, 0.49, 0.5]
    assert table["damage_frac"].tolist()[:2] == [0.098, 1.0]


def test_probabilities_are_means_that_add_up_to_one() -> None:
    row = {"code_2": 4, "sum_p_none": 100, "sum_p_minor": 500, "sum_p_major": 200}
    row |= {"sum_p_destroyed": 200, "sum_damage_probability": 750, "n_damage_probability": 4}
    table = footprint_table(GRADED, Rules(True, 0.5), row)
    assert table.loc[0, ["p_none", "p_minor", "p_major", "p_destroyed"]].tolist() == [
        0.1, 0.5, 0.2, 0.2,
    ]  # fmt: skip
    assert table["damage_score"][0] == 0.75


def test_binary_footprints_follow_their_score() -> None:
    table = footprint_table(
        BINARY,
        Rules(False, 0.4),
        {"code_5": 9, "code_0": 1, "sum_damage_probability": 990, "n_damage_probability": 10},
        {"code_5": 1, "code_0": 9, "sum_damage_probability": 1000, "n_damage_probability": 10},
        {"code_255": 10},
    )
    assert table["damage_class"].tolist() == [1, 5, 255]
    assert table[["p_none", "p_minor", "p_major", "p_destroyed"]].isna().all(axis=None)
    assert table["damage_score"].isna().tolist() == [False, False, True]


def test_rows_are_sorted_by_source_position() -> None:
    table = footprint_table(GRADED, Rules(True, 0.5), *[{"code_1": 1}] * 12)[::-1]
    assert table["building_id"].tolist() == [str(k) for k in range(12)]
    assert table["source_id"].tolist()[:2] == ["s11", "s10"]
    assert set(table["det_method"]) == {"supplied"}


def components(*pixels: tuple[int, int, int], width: int = 100) -> Components:
    """Square components: row, column, side."""
    boxes = [shapely.box(c, r, c + s, r + s) for r, c, s in pixels]
    rows = [{"code_4": s * s, "code_5": s * s} for _, _, s in pixels]
    return Components(
        np.array([r * width + c for r, c, _ in pixels]),
        counts(GRADED, *rows),
        shapely.multipolygons(np.array(boxes)[:, None]),
    )


def test_detected_buildings_are_named_after_their_first_pixel() -> None:
    plan = Plan.of((80, 100), Window(8, 0), 16, region=(8, 16, 80, 100))
    grid = GeoBox(plan.region_shape, Affine(1, 0, 500000, 0, -1, 4100000), CRS)
    found = components((70, 20, 5), (9, 17, 4), (30, 30, 2))
    table = detected(found, GRADED, Rules(True, 0.5), ORIGIN, grid, plan, "scene")
    assert table["building_id"].tolist() == ["scene-r9c17", "scene-r70c20"]  # 4 m2 is too small
    assert table["damage_class"].tolist() == [4, 4]
    assert table.geometry[0].bounds == (500001, 4099995, 500005, 4099999)
    np.testing.assert_allclose(table["area_m2"], [16, 25], rtol=1e-3)
    areas = detected(found, GRADED, Rules(False, 0.5, 0), ORIGIN, grid, plan, "scene")
    assert tuple(areas.columns) == AREA_COLUMNS
    assert areas["damage_class"].tolist() == [5, 5, 5]


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32635"])
def test_areas_are_those_of_the_ellipsoid_in_any_crs(crs: str) -> None:
    truth = gpd.GeoSeries([shapely.box(0, 0, 100, 100)], crs="+proj=laea +lat_0=61 +lon_0=27")
    (area,) = geodesic_area(truth.to_crs(crs).to_numpy(), crs)
    assert area == pytest.approx(1e4, rel=1e-5)


def test_holes_and_parts_count_once() -> None:
    ring = shapely.box(0, 0, 100, 100) - shapely.box(20, 20, 80, 80)
    both = shapely.MultiPolygon([ring, shapely.box(200, 0, 210, 10)])
    place = shapely.transform(np.array([both, ring]), lambda xy: xy + np.array([500000, 4100000]))
    np.testing.assert_allclose(geodesic_area(place, CRS), [6500, 6400], rtol=1e-3)


def test_an_area_over_the_date_line_does_not_go_around_the_earth() -> None:
    place = shapely.MultiPolygon(
        [shapely.box(179, -17, 180, -16), shapely.box(-180, -17, -179, -16)]
    )
    (area,) = geodesic_area(np.array([place]), "EPSG:4326")
    assert 2.2e10 < area < 2.5e10


def test_outlines_land_on_the_grid() -> None:
    plan = Plan.of((64, 64), Window(16, 0), 16, region=(16, 32, 64, 64))
    grid = GeoBox(plan.region_shape, Affine(0.5, 0, 10, 0, -0.5, 20), CRS)
    (placed,) = to_map(np.array([shapely.box(32, 16, 34, 20)]), grid, plan)
    assert placed.bounds == (10, 18, 11, 20)
