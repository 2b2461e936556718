"""Stitched components equal labelling the whole raster at once, however it is cut."""

import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine
from aftermap.kernels.outline import outlines
from aftermap.kernels.stitch import Components, Pieces, join, label, pieces_in
from aftermap.kernels.tally import columns, names
from aftermap.scenes.layer import Layer
from aftermap.scenes.plan import Chunk, Plan, Window
from aftermap.scenes.store import Store
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from scipy import ndimage

LAYERS = (Layer("damage", "class"), Layer("damage_probability", "probability"))
FOUND = (1, 2, 3, 4)


@dataclass
class Memory:
    """Stands in for a Store: the whole raster in memory, to cut it up quickly."""

    plan: Plan
    values: dict[str, np.ndarray]
    layers: tuple[Layer, ...] = LAYERS

    def read_chunk(self, name: str, chunk: Chunk) -> np.ndarray:
        return self.values[name][chunk.row0 : chunk.row1, chunk.col0 : chunk.col1]


def collected(parts: Iterable[Components]) -> Components:
    """All components, sorted by first pixel."""
    parts = list(parts)
    width = len(columns(names(LAYERS)))
    first = np.concatenate([np.zeros(0, np.int64), *(part.first for part in parts)])
    counts = np.concatenate([np.zeros((0, width), np.int64), *(part.counts for part in parts)])
    geometry = np.concatenate([np.zeros(0, object), *(part.geometry for part in parts)])
    order = np.argsort(first)
    return Components(first[order], counts[order], geometry[order])


def stitched(damage: np.ndarray, probability: np.ndarray, core: int, chunk: int) -> Components:
    """Stitch a raster under one chunk size."""
    values = {"damage": damage, "damage_probability": probability}
    store = Memory(Plan.of(damage.shape, Window(core, 0), chunk), values)
    return collected(join((pieces_in(store, c, FOUND) for c in store.plan), store.plan))


@st.composite
def rasters(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Random damage codes with more or fewer buildings, and probabilities that match them."""
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    share = draw(st.floats(0.05, 0.95))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    damage = rng.integers(1, 5, shape).astype(np.uint8)
    damage[rng.random(shape) > share] = 0
    damage[rng.random(shape) < 0.03] = 255
    probability = rng.integers(0, 251, shape).astype(np.uint8)
    probability[damage == 255] = 255
    return damage, probability


@settings(max_examples=60, deadline=None)
@given(rasters(), st.integers(1, 12), st.integers(1, 3))
def test_any_layout_equals_the_whole_raster(
    raster: tuple[np.ndarray, np.ndarray], core: int, cores: int
) -> None:
    damage, probability = raster
    found = stitched(damage, probability, core, core * cores)

    mask = np.isin(damage, FOUND)
    labels, total = ndimage.label(mask, structure=np.ones((3, 3)))
    assert len(found) == total
    firsts = [int(np.flatnonzero(labels.ravel() == k + 1)[0]) for k in range(total)]
    assert found.first.tolist() == sorted(firsts)

    burnt = (
        rasterize(
            ((g, k + 1) for k, g in enumerate(found.geometry)), out_shape=mask.shape, dtype="int32"
        )
        if total
        else np.zeros(mask.shape, np.int32)
    )
    assert ((burnt > 0) == mask).all()
    for k in range(total):
        inside = labels == labels.ravel()[found.first[k]]
        assert ((burnt == k + 1) == inside).all()
        row = dict(zip(columns(names(LAYERS)), found.counts[k].tolist(), strict=True))
        assert [row[f"code_{c}"] for c in FOUND] == [(damage[inside] == c).sum() for c in FOUND]
        assert row["sum_damage_probability"] == probability[inside].astype(int).sum()
        assert row["n_damage_probability"] == inside.sum() == found.geometry[k].area

    assert shapely.is_valid(found.geometry).all()
    whole = outlines(label(mask), total)
    assert set(shapely.to_wkb(whole)) == set(shapely.to_wkb(found.geometry))


CASES = {
    "on a seam": ["......", "..##..", "..##..", "......"],
    "on a corner of four chunks": [".......", ".......", "..##...", "..##...", "......."],
    "ring over the seams": ["#######", "#.....#", "#.....#", "#.....#", "#######"],
    "diagonal over a chunk corner": ["......", "......", "..#...", "...#..", "......"],
    "other diagonal": ["......", "......", "...#..", "..#...", "......"],
    "comb that joins late": ["#.#.#.#", "#.#.#.#", "#.#.#.#", "#.#.#.#", "#######"],
    "hole that touches the outside": ["####", "#.##", "##.#", "###."],
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("chunk", [1, 2, 3, 8])
def test_one_building_whatever_the_seams_do(name: str, chunk: int) -> None:
    mask = np.array([[cell == "#" for cell in row] for row in CASES[name]])
    found = stitched(mask.astype(np.uint8), np.where(mask, 200, 0).astype(np.uint8), chunk, chunk)
    assert len(found) == 1
    assert found.geometry[0].is_valid
    assert found.geometry[0].area == mask.sum()
    alone = outlines(label(mask), 1)[0]
    assert found.geometry[0].wkb == alone.wkb


def test_finished_buildings_leave_before_the_last_chunk() -> None:
    damage = np.zeros((64, 16), np.uint8)
    damage[::8, :] = 1
    damage[1:64:8, 3] = 1
    values = {"damage": damage, "damage_probability": damage}
    store = Memory(Plan.of(damage.shape, Window(4, 0), 4), values)
    taken = 0

    def watched() -> Iterator[Pieces]:
        nonlocal taken
        for chunk in store.plan:
            taken += 1
            yield pieces_in(store, chunk, FOUND)

    seen = [(taken, len(part)) for part in join(watched(), store.plan)]
    assert seen[0][0] <= 8
    assert sum(size for _, size in seen) == 8


def test_a_raster_without_buildings_has_no_components() -> None:
    empty = np.zeros((9, 9), np.uint8)
    assert len(stitched(empty, empty, 4, 4)) == 0


def test_a_stored_region_keeps_the_full_raster_s_pixels(tmp_path: Path) -> None:
    damage = np.zeros((32, 40), np.uint8)
    damage[19:25, 30:33] = 4
    plan = Plan.of(damage.shape, Window(8, 0), 8, region=(16, 24, 32, 40))
    store = Store(tmp_path / "layers.zarr", plan, LAYERS)
    store.create(GeoBox(plan.region_shape, Affine(1, 0, 24, 0, -1, -16), "EPSG:32637"), {})
    for part in plan:
        cut = damage[part.row0 : part.row1, part.col0 : part.col1]
        store.write(part, {"damage": cut, "damage_probability": cut})
    # Pieces cross process borders in a run.
    pieces = (pickle.loads(pickle.dumps(pieces_in(store, c, FOUND))) for c in plan)
    found = collected(join(pieces, plan))
    assert found.first.tolist() == [19 * 40 + 30]
    assert found.geometry[0].bounds == (30, 19, 33, 25)
