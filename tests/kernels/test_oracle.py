"""Buildings found and counted under random layouts agree with exactextract, scipy and shapely."""

from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from aftermap.kernels.stitch import join, pieces_in
from aftermap.kernels.tally import (
    CODES,
    Shapes,
    add_up,
    chunk_rows,
    columns,
    tally_in,
    tasks,
    to_pixels,
)
from aftermap.scenes.layer import Layer
from aftermap.scenes.plan import Chunk, Plan, Window
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from scipy import ndimage

LAYERS = (Layer("damage", "class"), Layer("damage_probability", "probability"))
COLUMNS = columns(("damage", "damage_probability"))
FOUND = (1, 2, 3, 4)


@dataclass
class Memory:
    """Stands in for a Store: the whole raster in memory, to cut it up quickly."""

    plan: Plan
    values: dict[str, np.ndarray]
    layers: tuple[Layer, ...] = LAYERS

    def read_chunk(self, name: str, chunk: Chunk) -> np.ndarray:
        return self.values[name][chunk.row0 : chunk.row1, chunk.col0 : chunk.col1]


def exactly(values: np.ndarray, geometry: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The values under each polygon and how much of each pixel it covers, from exactextract."""
    height, width = values.shape
    # exactextract wants ordinates that grow upwards.
    source = NumPyRasterSource(values.astype(np.float64), 0, -height, width, 0)
    upwards = shapely.transform(geometry, lambda xy: xy * (1, -1))
    features = [
        {"type": "Feature", "geometry": shapely.geometry.mapping(shape), "properties": {}}
        for shape in upwards
    ]
    found = exact_extract(source, features, ["values", "coverage"])
    return [(row["properties"]["values"], row["properties"]["coverage"]) for row in found]


@st.composite
def towns(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Smooth blobs of the four levels, holes of no data, and probabilities."""
    height, width = draw(st.tuples(st.integers(8, 60), st.integers(8, 60)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    field = ndimage.gaussian_filter(rng.normal(size=(height, width)), draw(st.floats(0.4, 3)))
    damage = np.where(field > np.quantile(field, 0.6), rng.integers(1, 5, field.shape), 0)
    damage[rng.random(field.shape) < 0.05] = 255
    chance = np.where(damage == 255, 255, rng.integers(0, 251, field.shape))
    return {"damage": damage.astype(np.uint8), "damage_probability": chance.astype(np.uint8)}


LAYOUTS = st.tuples(st.integers(2, 16), st.integers(1, 3))


@settings(max_examples=40, deadline=None)
@given(towns(), LAYOUTS)
def test_outlines_hold_exactly_the_pixels_that_were_counted(
    values: dict[str, np.ndarray], layout: tuple[int, int]
) -> None:
    core, cores = layout
    store = Memory(Plan.of(values["damage"].shape, Window(core, 0), core * cores), values)
    parts = list(join((pieces_in(store, chunk, FOUND) for chunk in store.plan), store.plan))
    geometry = np.concatenate([np.zeros(0, object), *(part.geometry for part in parts)])
    counts = np.concatenate([np.zeros((0, len(COLUMNS)), int), *(part.counts for part in parts)])

    mask = np.isin(values["damage"], FOUND)
    labels, total = ndimage.label(mask, structure=np.ones((3, 3)))
    assert len(geometry) == total
    sizes = ndimage.sum_labels(mask, labels, np.arange(1, total + 1)) if total else np.zeros(0)
    assert sorted(shapely.area(geometry).tolist()) == sorted(sizes.tolist())
    codes = exactly(values["damage"], geometry)
    chances = exactly(values["damage_probability"], geometry)
    for row, (code, cover), (chance, _) in zip(counts, codes, chances, strict=True):
        told = dict(zip(COLUMNS, row.tolist(), strict=True))
        assert set(cover[cover > 1e-9].round(9)) == {1.0}
        assert [told[f"code_{c}"] for c in CODES] == [(code[cover > 0.5] == c).sum() for c in CODES]
        assert told["sum_damage_probability"] == chance[cover > 0.5].sum()


@settings(max_examples=40, deadline=None)
@given(towns(), LAYOUTS, st.integers(0, 2**32 - 1))
def test_footprints_count_the_pixels_that_exactextract_covers_by_half(
    values: dict[str, np.ndarray], layout: tuple[int, int], seed: int
) -> None:
    """On the pixel grid to the pixel; off it, a straight wall decides by the centre or by half."""
    core, cores = layout
    height, width = values["damage"].shape
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, [width - 1, height - 1], (15, 2))
    far = np.minimum(corner + rng.integers(1, 20, (15, 2)), [width, height])
    offset = np.where(rng.random((15, 1)) < 0.5, 0, rng.choice([-0.25, 0.25], (15, 2)))
    low, high = corner + offset, far + offset
    geometry = shapely.box(*low.T, *high.T)
    inside = shapely.contains_properly(shapely.box(-0.3, -0.3, width + 0.3, height + 0.3), geometry)
    geometry = geometry[inside]
    plan = Plan.of((height, width), Window(core, 0), core * cores)
    store = Memory(plan, values)
    shapes = to_pixels(geometry, GeoBox((height, width), Affine.identity(), "EPSG:32637"), plan)
    first, last = chunk_rows(shapes, plan).T
    tallies = []
    for i in range(plan.chunk_grid[0]):
        here = (first <= i) & (i <= last)
        some = Shapes(shapes.index[here], shapes.geometry[here])
        chunks = [plan.at(i, j) for j in range(plan.chunk_grid[1])]
        tallies += [tally_in(store, task) for task in tasks(some, chunks)]
    counts = add_up(tallies, shapes, store)
    codes = exactly(values["damage"], geometry)
    for row, (code, cover) in zip(counts, codes, strict=True):
        told = dict(zip(COLUMNS, row.tolist(), strict=True))
        # A wall a quarter past a pixel's edge covers three quarters of it or one: never a half.
        mine = [told[f"code_{c}"] for c in CODES[:-1]]
        assert mine == [(code[cover > 0.5] == c).sum() for c in CODES[:-1]]
