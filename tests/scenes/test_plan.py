"""The chunk plan covers every pixel once, in whole windows anchored to the raster."""

import numpy as np
import pytest
from aftermap.scenes.errors import UsageError
from aftermap.scenes.plan import Plan, Window
from hypothesis import given
from hypothesis import strategies as st

sides = st.integers(1, 300)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    shape = draw(sides), draw(sides)
    core = draw(st.integers(1, 64))
    window = Window(core, draw(st.integers(0, core)))
    row0, col0 = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))
    row1, col1 = draw(st.integers(row0 + 1, shape[0])), draw(st.integers(col0 + 1, shape[1]))
    return Plan.of(shape, window, draw(st.integers(1, 200)), (row0, col0, row1, col1))


@given(plans())
def test_chunks_cover_the_region_exactly_once(plan: Plan) -> None:
    seen = np.zeros(plan.shape, int)
    for chunk in plan:
        seen[chunk.row0 : chunk.row1, chunk.col0 : chunk.col1] += 1
    row0, col0, row1, col1 = plan.region
    assert (seen[row0:row1, col0:col1] == 1).all()
    assert seen.sum() == (row1 - row0) * (col1 - col0)
    assert len(list(plan)) == len(plan)


@given(plans())
def test_every_chunk_starts_on_the_window_grid_of_the_full_raster(plan: Plan) -> None:
    core = plan.window.core
    assert plan.chunk % core == 0
    assert all(chunk.row0 % core == 0 and chunk.col0 % core == 0 for chunk in plan)


@given(plans())
def test_chunks_of_one_region_hold_all_its_windows(plan: Plan) -> None:
    counted = sum(np.prod(plan.windows_in(chunk)) for chunk in plan)
    assert counted == plan.window_count


def test_chunk_sizes_are_rounded_up_to_whole_windows() -> None:
    assert Plan.of((5000, 5000), Window(1024, 32), 1500).chunk == 2048


def test_a_region_is_widened_to_whole_windows() -> None:
    plan = Plan.of((5000, 3000), Window(512, 16), 512, (700, 100, 900, 2999))
    assert plan.region == (512, 0, 1024, 3000)


@pytest.mark.parametrize("region", [(0, 0, 6000, 10), (10, 10, 10, 20), (-1, 0, 5, 5)])
def test_regions_outside_the_raster_are_errors(region: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="lies outside"):
        Plan((5000, 3000), region, Window(1, 0), 4)


def test_a_halo_larger_than_the_core_is_refused() -> None:
    with pytest.raises(UsageError, match="--halo"):
        Window(64, 65)
