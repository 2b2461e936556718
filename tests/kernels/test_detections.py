"""Detections of scored squares: on the right ground, once, whatever the chunks and the region."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from aftermap.kernels.buildings import Origin, Rules
from aftermap.kernels.detections import (
    COLUMNS,
    LAYER,
    Suppression,
    centres,
    detections,
    least_byte,
    score_bytes,
)
from aftermap.kernels.suppression import suppressed
from aftermap.scenes.errors import UsageError
from aftermap.scenes.layer import FULL, Layer
from aftermap.scenes.plan import Plan, Window
from aftermap.scenes.store import Store
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio import Affine

WINDOW = Window.scanning(30, 10)
SHAPE = 205, 170
FULL_GRID = GeoBox(SHAPE, Affine(0.5, 0, 300_000, 0, -0.5, 4_100_000), "EPSG:32637")
ORIGIN = Origin("inception-window", "abc", "run", None, "after", None, "2023-02-07", 0.5, None, None, None)  # fmt: skip
RULES = Rules(graded=False, threshold=0.6)


def store(folder: Path, chunk: int, region: tuple[int, int, int, int] | None = None) -> Store:
    """Random scores, the same for the same square whatever the chunks and the region are."""
    plan = Plan.of(SHAPE, WINDOW, chunk, region)
    layers = Layer("damage", "class"), Layer(LAYER, "probability", WINDOW.core)
    made = Store(folder / f"layers-{chunk}-{plan.region[0]}.zarr", plan, layers)
    row0, col0, row1, col1 = plan.region
    made.create(FULL_GRID[row0:row1, col0:col1], {})
    rng = np.random.default_rng(0)
    bytes_ = rng.integers(0, 252, (-(-SHAPE[0] // 20), -(-SHAPE[1] // 20))).astype(np.uint8)
    bytes_[bytes_ == 251] = 255
    for piece in plan:
        cells = np.s_[
            piece.row0 // 20 : -(-piece.row1 // 20), piece.col0 // 20 : -(-piece.col1 // 20)
        ]
        made.write(piece, {"damage": np.zeros(piece.shape, np.uint8), LAYER: bytes_[cells]})
    return made


def found(made: Store, **options: float | str) -> object:
    row0, col0, row1, col1 = made.plan.region
    grid = FULL_GRID[row0:row1, col0:col1]
    return detections(made, grid, RULES, Suppression(**options), ORIGIN, "after")  # type: ignore[arg-type]


def test_squares_lie_where_they_were_looked_at(tmp_path: Path) -> None:
    """With nothing suppressed but what is the very same square, all that reach the threshold."""
    made = store(tmp_path, 40)
    table = found(made, overlap=1.0)
    cells = made.read(LAYER, 0, 0, *SHAPE)
    wanted = {}
    for i, j in np.argwhere((cells >= 150) & (cells != 255)):
        row, col = min(20 * i, SHAPE[0] - 30), min(20 * j, SHAPE[1] - 30)
        wanted[f"after-r{row}c{col}"] = (row, col)
    assert set(table["area_id"]) == set(wanted)
    assert list(table.columns) == list(COLUMNS)
    for record in table.itertuples():
        row, col = wanted[record.area_id]
        left, top = FULL_GRID.affine * (col, row)
        box = shapely.box(left, top - 15, left + 15, top)
        assert record.geometry.equals(shapely.MultiPolygon([box]))
        assert record.area_m2 == pytest.approx(225, rel=0.01)
    assert (table["damage_score"] >= 0.6).all()
    assert (table["damage_class"] == 5).all()
    points = centres(table).to_crs("EPSG:4326")
    np.testing.assert_allclose(points.geometry.x, table["lon"], atol=1e-7)
    np.testing.assert_allclose(points.geometry.y, table["lat"], atol=1e-7)


@pytest.mark.parametrize("rule", ["iou", "malisiewicz"])
def test_chunks_change_nothing(tmp_path: Path, rule: str) -> None:
    one, other = (found(store(tmp_path, chunk), rule=rule) for chunk in (20, 1000))
    assert one.equals(other)
    boxes = one.geometry.bounds.to_numpy()
    again = suppressed(boxes, one["damage_score"].to_numpy(), 0.1)
    assert len(one) == len(again) if rule == "iou" else len(one) > 0


def test_a_region_has_the_squares_of_the_raster(tmp_path: Path) -> None:
    whole = found(store(tmp_path, 40), overlap=1.0)
    part = found(store(tmp_path, 40, (60, 40, 205, 170)), overlap=1.0)
    ids = {f"after-r{row}c{col}" for row in range(60, 205) for col in range(40, 170)}
    assert part.equals(whole[whole["area_id"].isin(ids)].reset_index(drop=True))
    assert 0 < len(part) < len(whole)


def test_nothing_found_is_a_table_too(tmp_path: Path) -> None:
    made = store(tmp_path, 1000)
    none = detections(made, FULL_GRID, Rules(False, 0.9999), Suppression(), ORIGIN, "after")
    full = found(made)
    assert none.dtypes.drop("geometry").equals(full.dtypes.drop("geometry"))
    assert len(none) <= len(full)


@given(st.lists(st.floats(0, 1) | st.just(float("nan"))), st.floats(0.001, 0.999))
def test_rounding_carries_no_score_across_the_threshold(scores: list[float], least: float) -> None:
    stored = score_bytes(np.array(scores), least)
    for score, byte in zip(scores, stored.tolist(), strict=True):
        if np.isnan(score):
            assert byte == 255
        else:
            assert (byte >= least_byte(least)) == (score >= least)
            assert abs(byte / FULL - score) <= 1 / FULL


def test_shares_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="--nms"):
        Suppression(overlap=2)
    with pytest.raises(UsageError, match="--nms-rule"):
        Suppression(rule="soft")
