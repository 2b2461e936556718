"""Counts of supplied footprints equal burning each one alone on the whole raster."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import shapely
from affine import Affine
from aftermap.kernels.tally import CODES, add_up, columns, names, tally_in, tasks, to_pixels
from aftermap.scenes.layer import Layer
from aftermap.scenes.plan import Chunk, Plan, Window
from aftermap.scenes.store import Store
from exactextract import exact_extract
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

LAYERS = (
    Layer("damage", "class"),
    Layer("damage_probability", "probability"),
    Layer("p_none", "probability"),
)
COLUMNS = columns(names(LAYERS))


@dataclass
class Memory:
    """Stands in for a Store: whole layers in memory, to cut them up quickly."""

    plan: Plan
    values: dict[str, np.ndarray]
    layers: tuple[Layer, ...] = LAYERS

    def read_chunk(self, name: str, chunk: Chunk) -> np.ndarray:
        every = next(layer.every for layer in self.layers if layer.name == name)
        rows = slice(chunk.row0 // every, -(-chunk.row1 // every))
        return self.values[name][rows, chunk.col0 // every : -(-chunk.col1 // every)]


def counted(
    geometry: np.ndarray,
    values: dict[str, np.ndarray],
    core: int,
    chunk: int,
    layers: tuple[Layer, ...] = LAYERS,
) -> np.ndarray:
    """Tally footprints over a raster cut into chunks."""
    store = Memory(Plan.of(values["damage"].shape, Window(core, 0), chunk), values, layers)
    grid = GeoBox(store.plan.region_shape, Affine.identity(), "EPSG:32637")
    shapes = to_pixels(geometry, grid, store.plan)
    return add_up((tally_in(store, task) for task in tasks(shapes, store.plan)), shapes, store)


def alone(geometry: np.ndarray, values: dict[str, np.ndarray], pad: int = 40) -> np.ndarray:
    """The same counts by burning every footprint alone on a padded raster."""
    rows = []
    padded = {k: np.pad(v, pad, constant_values=255) for k, v in values.items()}
    transform = Affine.translation(-pad, -pad)
    snapped = shapely.transform(geometry, lambda xy: np.rint(xy * 256) / 256)
    for shape in snapped:
        size = padded["damage"].shape
        inside = rasterize([shape], out_shape=size, transform=transform).astype(bool)
        if not inside.any():
            at = shapely.point_on_surface(shape)
            inside[int(np.floor(at.y)) + pad, int(np.floor(at.x)) + pad] = True
        row = [(padded["damage"][inside] == code).sum() for code in CODES]
        for name in ("damage_probability", "p_none"):
            known = padded[name][inside & (padded[name] != 255)]
            row += [known.astype(int).sum(), len(known)]
        rows.append(row)
    return np.array(rows)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Overlapping, tiny and half outside footprints over random layers."""
    height, width = draw(st.tuples(st.integers(2, 40), st.integers(2, 40)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    damage = rng.choice(np.array(CODES, np.uint8), (height, width))
    values = {"damage": damage}
    for name in ("damage_probability", "p_none"):
        values[name] = np.where(damage == 255, 255, rng.integers(0, 251, damage.shape))
        values[name] = values[name].astype(np.uint8)
    boxes = []
    for _ in range(draw(st.integers(1, 12))):
        x, y = rng.uniform(-3, [width + 3, height + 3])
        box = shapely.box(x, y, x + rng.uniform(0.05, 14), y + rng.uniform(0.05, 14))
        boxes.append(shapely.affinity.rotate(box, rng.choice([0, 0, 30, 77])))
    return np.array(boxes), values


@settings(max_examples=60, deadline=None)
@given(scenes(), st.integers(1, 13), st.integers(1, 3))
def test_any_layout_equals_burning_each_footprint_alone(
    scene: tuple[np.ndarray, dict[str, np.ndarray]], core: int, cores: int
) -> None:
    geometry, values = scene
    assert (counted(geometry, values, core, core * cores) == alone(geometry, values)).all()


def test_means_agree_with_exact_coverage(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    smooth = np.add.outer(np.linspace(0, 120, 200), np.linspace(0, 120, 200)).astype(np.uint8)
    values = dict.fromkeys(names(LAYERS), smooth) | {"damage": np.zeros_like(smooth)}
    boxes = [shapely.box(x, y, x + 20, y + 15) for x, y in rng.uniform(0, 178, (30, 2))]
    geometry = np.array([shapely.affinity.rotate(box, 20) for box in boxes])
    geometry = geometry[shapely.contains(shapely.box(0, 0, 200, 200), geometry)]
    counts = counted(geometry, values, 16, 48)
    means = counts[:, COLUMNS.index("sum_p_none")] / counts[:, COLUMNS.index("n_p_none")]

    path = tmp_path / "smooth.tif"
    profile = {"driver": "GTiff", "height": 200, "width": 200, "count": 1, "dtype": "uint8"}
    # exactextract wants a north-up raster: flip rows and ordinates.
    north_up = Affine(1, 0, 0, 0, -1, 0)
    with rasterio.open(path, "w", transform=north_up, crs="EPSG:32637", **profile) as target:
        target.write(smooth, 1)
    flipped = shapely.transform(geometry, lambda xy: xy * (1, -1))
    features = [
        {"type": "Feature", "geometry": shapely.geometry.mapping(g), "properties": {}}
        for g in flipped
    ]
    oracle = [row["properties"]["mean"] for row in exact_extract(str(path), features, ["mean"])]
    np.testing.assert_allclose(means, oracle, atol=0.35)


def test_overlapping_footprints_both_count_the_shared_pixels() -> None:
    values = {name: np.full((20, 20), 4, np.uint8) for name in names(LAYERS)}
    geometry = np.array(
        [shapely.box(2, 2, 12, 12), shapely.box(2, 2, 12, 12), shapely.box(6, 6, 16, 16)]
    )
    assert counted(geometry, values, 5, 10)[:, COLUMNS.index("code_4")].tolist() == [100] * 3


def test_a_footprint_without_a_pixel_centre_gets_one_pixel_once() -> None:
    values = {name: np.full((8, 8), 3, np.uint8) for name in names(LAYERS)}
    slivers = np.array([shapely.box(3.6, 3.6, 3.9, 3.9), shapely.box(0.2, 3.9, 7.8, 4.1)])
    for chunk in (2, 4, 8):
        counts = counted(slivers, values, chunk, chunk)
        assert counts[:, : len(CODES)].sum(axis=1).tolist() == [1, 1]


def test_the_part_outside_the_raster_is_not_analysed() -> None:
    values = {name: np.zeros((10, 10), np.uint8) for name in names(LAYERS)}
    geometry = np.array([shapely.box(-5, 0, 5, 10), shapely.box(-9, -9, -4, -4)])
    counts = counted(geometry, values, 4, 4)
    assert counts[:, COLUMNS.index("code_0")].tolist() == [50, 0]
    assert counts[:, COLUMNS.index("code_255")].tolist() == [50, 25]


def test_coarse_cells_count_for_every_pixel_they_cover() -> None:
    layers = (LAYERS[0], Layer("damage_probability", "probability", every=4), LAYERS[2])
    values = {"damage": np.zeros((16, 16), np.uint8), "p_none": np.zeros((16, 16), np.uint8)}
    values["damage_probability"] = np.arange(16, dtype=np.uint8).reshape(4, 4)
    counts = counted(np.array([shapely.box(2, 0, 6, 4)]), values, 8, 8, layers=layers)
    at = COLUMNS.index("sum_damage_probability")
    assert counts[0, at : at + 2].tolist() == [8 * 0 + 8 * 1, 16]


def test_a_stored_region_in_map_coordinates(tmp_path: Path) -> None:
    plan = Plan.of((64, 64), Window(8, 0), 16, region=(16, 8, 64, 64))
    transform = Affine(0.5, 0, 500000, 0, -0.5, 4100000)
    grid = GeoBox(plan.region_shape, transform, "EPSG:32637")
    store = Store(tmp_path / "layers.zarr", plan, LAYERS)
    store.create(grid, {})
    for part in plan:
        store.write(part, {name: np.full(part.shape, 2, np.uint8) for name in names(LAYERS)})
    box = shapely.box(500001.5, 4099985, 500010, 4099998)
    shapes = to_pixels(np.array([box]), grid, plan)
    np.testing.assert_allclose(shapes.geometry[0].bounds, (11, 20, 28, 46))
    total = add_up((tally_in(store, task) for task in tasks(shapes, plan)), shapes, store)
    assert total[0, COLUMNS.index("code_2")] == 17 * 26


def test_each_task_carries_only_its_own_footprints() -> None:
    plan = Plan.of((100, 100), Window(10, 0), 10)
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 98, (200, 2))
    geometry = np.array([shapely.box(x, y, x + 1, y + 1) for x, y in corners])
    grid = GeoBox((100, 100), Affine.identity(), "EPSG:32637")
    sizes = [len(task.shapes) for task in tasks(to_pixels(geometry, grid, plan), plan)]
    assert len(sizes) == 100
    assert max(sizes) < 20
