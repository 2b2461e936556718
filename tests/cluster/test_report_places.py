"""The report's buildings: the worst first, a fair share of the unknown, outlines as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from aftermap.cluster import report_places
from aftermap.cluster.report_places import (
    AREA_EDGES,
    SCORE_EDGES,
    choose,
    find_places,
    printed_rows,
    to_json,
)
from finished import GRID, NASTY, pixels, places, write_run
from hypothesis import given, settings
from hypothesis import strategies as st

CODES = np.ones((4, 4), np.uint8)
SEVERITY = [4, 3, 5, 2, 1]


def worst(rows: Any, limit: int) -> list[str]:
    """The rule in plain Python."""
    known = [r for r in rows.to_dict("records") if r["damage_class"] != 255]
    known.sort(
        key=lambda r: (
            SEVERITY.index(r["damage_class"]),
            -r["damage_score"] if r["damage_score"] == r["damage_score"] else 9,
            r["building_id"],
        )
    )
    return [r["building_id"] for r in known[:limit]]


@settings(deadline=None, max_examples=25)
@given(count=st.integers(0, 300), limit=st.integers(1, 320), block=st.integers(1, 300))
def test_the_most_damaged_are_kept_however_rows_come_in_blocks(
    count: int, limit: int, block: int
) -> None:
    rows = places(count, seed=count).sample(frac=1, random_state=limit).reset_index(drop=True)
    blocks = [rows.iloc[k : k + block] for k in range(0, max(count, 1), block)]
    found = choose(blocks, "building_id", limit)
    blind = int((rows["damage_class"] == 255).sum())
    kept = found.rows["damage_class"].to_numpy() == 255
    assert len(found.rows) == min(count, limit)
    assert found.total == count
    assert found.rows["id"][~kept].tolist() == worst(rows, int((~kept).sum()))
    if count <= limit:
        assert kept.sum() == blind
    elif blind:
        assert abs(kept.sum() - limit * blind / count) <= 1


def test_histograms_count_everything_not_only_what_is_kept() -> None:
    rows = places(700)
    rows.loc[3, "damage_score"] = 1.0
    rows.loc[4, "area_m2"] = 1e7
    found = choose([rows.iloc[:100], rows.iloc[100:]], "building_id", 10)
    scores, _ = np.histogram(rows["damage_score"].dropna(), SCORE_EDGES)
    areas, _ = np.histogram(rows["area_m2"], [*AREA_EDGES[:-1], 1e9])
    assert found.scores.sum(axis=1).tolist() == scores.tolist()
    assert found.areas.sum(axis=1).tolist() == areas.tolist()
    assert found.areas[:, 4].sum() == (rows["damage_class"] == 4).sum()


def unfolded(shape: Any, unit: list[float]) -> shapely.Geometry:
    """The page's steps back to metres from the upper left corner, y downwards."""
    return shapely.MultiPolygon(
        [
            ((points := [np.cumsum(np.reshape(ring, (-1, 2)), axis=0) * unit for ring in rings])[0],
             points[1:])
            for rings in shape
        ]
    )  # fmt: skip


def test_outlines_come_back_within_their_tolerance(tmp_path: Path) -> None:
    rows = places(40)
    circle = shapely.Point(316200, 4161800).buffer(30, quad_segs=64)
    ring = circle - shapely.Point(316200, 4161800).buffer(8)
    two = shapely.MultiPolygon([ring, shapely.box(316300, 4161700, 316310, 4161712)])
    rows.geometry = [two, *rows.geometry[1:]]
    found = find_places(write_run(tmp_path, rows), GRID, CODES)
    ids = found.page["columns"]["id"]
    unit = found.page["unit"]
    assert unit == pytest.approx([0.75 / 4 * 0.5] * 2, rel=1e-3)
    for row, name in enumerate(ids):
        wanted = rows.geometry[rows["building_id"] == name].iloc[0]
        metres = shapely.transform(pixels(wanted), lambda xy: xy * 0.5)
        assert metres.hausdorff_distance(unfolded(found.page["shapes"][row], unit)) < 0.45
    assert len(found.page["shapes"][ids.index("b00000")][0]) == 2
    assert "0.3" in found.left_out[-1]
    assert found.page["size"] == pytest.approx([500, 400], rel=1e-3)


def test_places_carry_where_they_are(tmp_path: Path) -> None:
    rows = places(40)
    columns = find_places(write_run(tmp_path, rows), GRID, CODES).page["columns"]
    degrees = rows.set_index("building_id").to_crs("EPSG:4326").geometry
    for name, lon, lat in zip(columns["id"], columns["lon"], columns["lat"], strict=True):
        assert degrees[name].distance(shapely.Point(lon, lat)) < 1e-5


def test_a_house_smaller_than_a_unit_does_not_vanish(tmp_path: Path) -> None:
    rows = places(3)
    rows.geometry = shapely.multipolygons(
        [[shapely.box(316100, 4161900 + k, 316100.01, 4161900.01 + k)] for k in range(3)]
    )
    page = find_places(write_run(tmp_path, rows), GRID, CODES).page
    for shape in page["shapes"]:
        assert unfolded(shape, page["unit"]).area > 0


def test_outlines_are_coarsened_until_the_page_is_small_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = places(200)
    rows.geometry = [
        shapely.MultiPolygon([shape.centroid.buffer(6, quad_segs=400)]) for shape in rows.geometry
    ]
    run = write_run(tmp_path, rows)
    fine = len(to_json(find_places(run, GRID, CODES).page))
    monkeypatch.setattr(report_places, "_MOST_BYTES", fine - 2000)
    coarse = find_places(run, GRID, CODES)
    assert len(to_json(coarse.page)) < fine - 1500
    assert len(coarse.page["shapes"]) == 200


def test_damage_areas_take_the_place_of_buildings(tmp_path: Path) -> None:
    areas = places(25, name="area_id")
    found = find_places(write_run(tmp_path, areas=areas), GRID, CODES)
    assert found.kind == "damage areas"
    assert sorted(found.page["columns"]["id"]) == areas["area_id"].tolist()
    assert "p_none" not in found.page["columns"]
    assert printed_rows(found.choice)[0]["levels"] == [None] * 4


def test_a_run_that_found_nothing_has_an_empty_table(tmp_path: Path) -> None:
    found = find_places(write_run(tmp_path), GRID, np.zeros((4, 4), np.uint8))
    assert found.page["columns"] == {"id": [], "damage_class": [], "lon": [], "lat": []}
    assert found.page["shapes"] == []
    assert found.page["raster"] is None
    assert len(found.page["unseen"]["shapes"]) == 1
    assert found.left_out == ()


def test_json_in_a_page_ends_no_element() -> None:
    page = {"a": [NASTY, "\u2028\u2029&"]}
    text = to_json(page)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == page


def test_the_smallest_unseen_areas_are_left_out_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_places, "_MOST_AREAS", 0)
    found = find_places(write_run(tmp_path, places(3)), GRID, CODES)
    assert found.page["unseen"]["shapes"] == []
    assert "1 of 1 areas that were not analysed" in found.left_out[0]
