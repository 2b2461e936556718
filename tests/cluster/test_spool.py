"""What goes into a spool in any order comes out sorted, whole, and a little at a time."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from aftermap.cluster import spool as module
from aftermap.cluster.spool import ComponentSpool, FootprintSpool
from aftermap.kernels.stitch import Components
from aftermap.kernels.tally import Shapes, Tally, chunk_rows, to_pixels
from aftermap.scenes.footprints import Block
from aftermap.scenes.plan import Plan, Window
from aftermap.scenes.shift_field import Moves
from odc.geo.geobox import GeoBox

PLAN = Plan.of((100, 100), Window(10, 0), 20)
GRID = GeoBox((100, 100), Affine.identity(), "EPSG:32637")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[FootprintSpool]:
    with closing(FootprintSpool(tmp_path / ".s.sqlite.part")) as made:
        yield made
    assert not list(tmp_path.iterdir())


def block(position: list[int], tops: list[float], moves: Moves | None = None) -> tuple:
    """Footprints 5 px wide and 10 px high at the given rows."""
    n = len(position)
    boxes = shapely.box(3, np.array(tops), 8, np.array(tops) + 10)
    frame = gpd.GeoDataFrame(
        {"position": position, "source_id": [None if p == 3 else f"s{p}" for p in position]},
        geometry=boxes, crs=GRID.crs,
    )  # fmt: skip
    told = pd.DataFrame(
        {"position": position[:1], "source_id": None, "kept": True, "reason": "odd"}
    )
    moved = None if moves is None else (moves.rows_px, moves.cols_px)
    shapes = to_pixels(boxes, GRID, PLAN, moved)
    counts = {"kept": n, "repaired": 1, "left_out": 0, "duplicate_ids": 0}
    return Block(frame, told, counts), shapes, moves, chunk_rows(shapes, PLAN)


def test_each_row_of_chunks_gets_the_footprints_that_touch_it(spool: FootprintSpool) -> None:
    spool.add(*block([4, 9], [5, 15]))
    spool.add(*block([1, 3], [50, 95]))
    rows = [spool.chunk_row(i).index.tolist() for i in range(5)]
    assert rows == [[4, 9], [9], [1], [1], [3]]  # 1 ends where the fourth row of chunks begins
    assert spool.chunk_row(0).geometry[0].bounds == (3, 5, 8, 15)
    assert spool.totals["kept"] == 4
    assert spool.totals["repaired"] == 2


def test_moved_footprints_are_given_out_where_they_are_counted(spool: FootprintSpool) -> None:
    three = np.array([30.0, 0.0])
    moves = Moves(three, three, np.array([1.5, 0]), np.array([-1.5, 0]), np.array([0.9, 0.2]))
    spool.add(*block([0, 1], [5, 5], moves))
    assert [spool.chunk_row(i).index.tolist() for i in range(3)] == [[1], [0], [0]]
    assert spool.chunk_row(1).geometry[0].bounds == (33, 35, 38, 45)
    (found,) = spool.blocks()
    assert found.frame.geometry[0].bounds == (3, 5, 8, 15)
    assert found.shapes.geometry[0].bounds == (33, 35, 38, 45)
    assert found.frame[["shift_x_m", "shift_y_m", "align_conf"]].to_numpy().tolist() == [
        [1.5, -1.5, 0.9], [0, 0, 0.2],
    ]  # fmt: skip


def test_counts_add_up_whatever_their_order(
    spool: FootprintSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PORTION", 3)
    spool.add(*block([8, 2, 5, 3], [0, 10, 20, 30]))
    spool.add(*block([0, 7], [40, 50]))
    spool.count(Tally(np.array([5, 8]), np.array([[1, 2], [3, 4]])))
    spool.count(Tally(np.array([], int), np.zeros((0, 2), int)))
    spool.count(Tally(np.array([0, 5]), np.array([[5, 6], [10, 20]])))
    found = list(spool.blocks())
    assert [part.frame["position"].tolist() for part in found] == [[0, 2, 3], [5, 7, 8]]
    assert found[0].frame["source_id"].tolist() == ["s0", "s2", None]
    assert [part.tallies[0].counts.tolist() for part in found] == [
        [[5, 6], [0, 0], [0, 0]], [[11, 22], [0, 0], [3, 4]],
    ]  # fmt: skip
    told = pd.concat(spool.problems())
    assert told["position"].tolist() == [0, 8]
    assert told["source_id"].isna().all()


def test_components_come_out_in_the_order_of_their_first_pixel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PORTION", 2)
    boxes = shapely.multipolygons(shapely.box([0, 1, 2], 0, [9, 9, 9], 9)[:, None])
    with closing(ComponentSpool(tmp_path / ".c")) as parts:
        parts.add(Components(np.array([7, 2]), np.array([[1], [2]]), boxes[:2]))
        parts.add(Components(np.array([4]), np.array([[3]]), boxes[2:]))
        found = list(parts.blocks())
    assert [part.first.tolist() for part in found] == [[2, 4], [7]]
    assert [part.counts.tolist() for part in found] == [[[2], [3]], [[1]]]
    assert found[0].geometry[1].bounds == (2, 0, 9, 9)


def test_a_block_of_which_nothing_is_kept_leaves_its_problems(spool: FootprintSpool) -> None:
    none = Moves(*np.zeros((5, 0)))
    made, *rest = block([], [], none)
    told = pd.DataFrame({"position": [6], "source_id": ["x"], "kept": [False], "reason": ["none"]})
    spool.add(Block(made.frame, told, made.counts), *rest)
    assert list(spool.blocks()) == []
    assert [part["reason"].tolist() for part in spool.problems()] == [["none"]]
    assert len(spool.chunk_row(0)) == 0


def test_nothing_counted_is_no_tally(spool: FootprintSpool) -> None:
    spool.add(*block([0], [5]))
    (found,) = spool.blocks()
    assert found.tallies == ()
    assert isinstance(found.shapes, Shapes)
