"""What was not analysed is counted to the pixel, under every layout."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from aftermap.kernels.survey import (
    UNSEEN,
    Cells,
    areas_km2,
    cell_side,
    gather,
    inside,
    not_analysed,
    survey_in,
)
from aftermap.scenes.layer import Layer
from aftermap.scenes.plan import Chunk, Plan, Window
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox


class Memory:
    """Stands in for a Store."""

    layers = (Layer("damage", "class"),)

    def __init__(self, damage: np.ndarray, core: int, chunk: int) -> None:
        self.damage = damage
        self.plan = Plan.of(damage.shape, Window(core, 0), chunk)

    def read_chunk(self, _name: str, chunk: Chunk) -> np.ndarray:
        return self.damage[chunk.row0 : chunk.row1, chunk.col0 : chunk.col1]


def surveyed(damage: np.ndarray, core: int, chunk: int, side: int) -> Cells:
    store = Memory(damage, core, chunk)
    return gather((survey_in(store, c, side) for c in store.plan), store.plan, side)


def grid(cells: Cells) -> GeoBox:
    return GeoBox(cells.plan.region_shape, Affine(10, 0, 500000, 0, -10, 4100000), "EPSG:32637")


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 50), st.integers(1, 50)),
    st.integers(1, 9), st.integers(1, 3), st.integers(1, 11), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_cells_do_not_depend_on_chunks(
    shape: tuple[int, int], core: int, cores: int, side: int, seed: int
) -> None:
    damage = np.random.default_rng(seed).choice(np.array([0, 1, 4, 255], np.uint8), shape)
    cells = surveyed(damage, core, core * cores, side)
    for row in range(cells.blind.shape[0]):
        for col in range(cells.blind.shape[1]):
            part = damage[row * side : (row + 1) * side, col * side : (col + 1) * side]
            assert cells.blind[row, col] == (part == 255).sum()
            assert cells.worst[row, col] == part[part != 255].max(initial=0)
            assert cells.pixels[row, col] == part.size


def test_areas_and_outlines_of_what_was_not_seen() -> None:
    damage = np.zeros((100, 120), np.uint8)
    damage[:, :30] = 255
    damage[50:, 60:] = 4
    for side in (1, 3):
        cells = surveyed(damage, 10, 30, side)
        wanted = inside(cells, grid(cells), None)
        seen, unseen = areas_km2(cells, grid(cells), wanted)
        assert seen == pytest.approx(0.9, rel=2e-3)
        assert unseen == {UNSEEN: pytest.approx(0.3, rel=2e-3)}
        table = not_analysed(cells, grid(cells), wanted)
        assert table["exact"].tolist() == [side == 1]
        assert table["cell_px"].tolist() == [side]
        assert table.geometry[0].equals(shapely.box(500000, 4099000, 500300, 4100000))
        assert cells.overview.max() == 255
        assert (cells.overview == 4).any()


def test_failed_chunks_are_named_apart() -> None:
    damage = np.zeros((60, 60), np.uint8)
    damage[:20, :20] = damage[50:, 50:] = 255
    cells = surveyed(damage, 10, 20, 1)
    skipped = [(cells.plan.at(0, 0), "ValueError: <tile>")]
    wanted = inside(cells, grid(cells), None)
    _, unseen = areas_km2(cells, grid(cells), wanted, skipped)
    assert unseen == pytest.approx({"ValueError: <tile>": 0.04, UNSEEN: 0.01}, rel=2e-3)
    table = not_analysed(cells, grid(cells), wanted, skipped)
    assert table["reason"].tolist() == [UNSEEN, "ValueError: <tile>"]
    np.testing.assert_allclose(table.geometry.area, [1e4, 4e4])


def test_outside_the_area_of_interest_nothing_is_missing() -> None:
    damage = np.full((60, 60), 255, np.uint8)
    damage[:30] = 0
    cells = surveyed(damage, 10, 20, 1)
    aoi = gpd.GeoSeries([shapely.box(500000, 4099600, 500600, 4100000)], crs="EPSG:32637")
    frame = gpd.GeoDataFrame(geometry=aoi.to_crs("EPSG:4326"))
    wanted = inside(cells, grid(cells), frame)
    _, unseen = areas_km2(cells, grid(cells), wanted)
    assert unseen == {UNSEEN: pytest.approx(0.06, rel=2e-3)}
    assert not_analysed(cells, grid(cells), wanted).geometry.area.sum() == pytest.approx(6e4)


def test_everything_seen_leaves_no_rows() -> None:
    cells = surveyed(np.zeros((20, 20), np.uint8), 10, 10, 1)
    wanted = inside(cells, grid(cells), None)
    table = not_analysed(cells, grid(cells), wanted)
    assert len(table) == 0
    assert areas_km2(cells, grid(cells), wanted)[1] == {}


def test_cells_stay_few_for_huge_regions() -> None:
    plan = Plan.of((100_000, 40_000), Window(512, 0), 2048)
    assert cell_side(plan) == 131
    assert cell_side(Plan.of((700, 30), Window(10, 0), 20)) == 1
