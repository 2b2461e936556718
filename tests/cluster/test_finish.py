"""A finished store becomes the same files whatever its chunks, and again after a kill."""

import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from aftermap.cluster.finish import FinishJob, finish
from aftermap.kernels.buildings import BUILDING_COLUMNS, Origin, Rules
from aftermap.scenes.footprints import FootprintFile, open_footprints
from aftermap.scenes.layer import Layer
from aftermap.scenes.plan import Plan, Window
from aftermap.scenes.store import Store
from odc.geo.geobox import GeoBox
from pyproj import Geod

PROBABILITIES = (
    "damage_probability", "building_probability", "p_none", "p_minor", "p_major", "p_destroyed",
)  # fmt: skip
GRADED = (Layer("damage", "class"), *(Layer(name, "probability") for name in PROBABILITIES))
BINARY = GRADED[:2]
GRID = Affine(0.5, 0, 316000, 0, -0.5, 4162000)
ORIGIN = Origin(
    "fc-test", "0" * 64, "run1", "=pre.tif", "<post>.tif", None, "2023-02-08", 0.5, 0, 0, 1
)
FILES = ("damage.tif", "buildings.gpkg", "buildings.parquet", "summary.csv")


def across(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """Stands in for a cluster: functions, items and results travel by pickle."""
    shipped = pickle.dumps(function)
    for item in items:
        result = pickle.loads(shipped)(pickle.loads(pickle.dumps(item)))
        yield pickle.loads(pickle.dumps(result))


def scene(graded: bool) -> dict[str, np.ndarray]:
    """About 60 buildings on 300 x 340 px, a strip without data, and matching probabilities."""
    rng = np.random.default_rng(7)
    damage = np.zeros((300, 340), np.uint8)
    for _ in range(60):
        row, col = rng.integers(0, (280, 320))
        height, width = rng.integers(6, 20, 2)
        damage[row : row + height, col : col + width] = rng.integers(1, 5) if graded else 5
    damage[:, :25] = 255
    layers = GRADED if graded else BINARY
    values = {layer.name: rng.integers(0, 251, damage.shape, dtype=np.uint8) for layer in layers}
    for stored in values.values():
        stored[damage == 255] = 255
    return values | {"damage": damage}


def job(folder: Path, graded: bool, chunk: int = 64, **more: Any) -> FinishJob:
    values = scene(graded)
    layers = GRADED if graded else BINARY
    plan = Plan.of((300, 340), Window(32, 8), chunk)
    grid = GeoBox(plan.region_shape, GRID, "EPSG:32637")
    folder.mkdir(exist_ok=True)
    store = Store(folder / "layers.zarr", plan, layers)
    if not store.path.exists():
        store.create(grid, {})
        for part in plan:
            here = slice(part.row0, part.row1), slice(part.col0, part.col1)
            store.write(part, {name: values[name][here] for name in values})
    sources = pd.DataFrame({"path": ["=pre.tif", "<post>.tif"], "role": ["pre", "post"]})
    rules = more.pop("rules", Rules(graded, 0.5))
    return FinishJob(folder, store, grid, rules, ORIGIN, "sc", sources=sources, **more)


def given(tmp_path: Path) -> FootprintFile:
    boxes = [shapely.box(316000 + x, 4161900, 316008 + x, 4161910) for x in range(0, 160, 20)]
    frame = gpd.GeoDataFrame({"osm_id": range(8)}, geometry=boxes, crs="EPSG:32637")
    frame.to_file(tmp_path / "osm.gpkg")
    grid = GeoBox((300, 340), GRID, "EPSG:32637")
    return open_footprints(tmp_path / "osm.gpkg", grid)


@pytest.mark.parametrize(
    ("graded", "supplied"), [(True, False), (False, False), (True, True), (False, True)]
)
def test_files_are_the_same_bytes_under_every_chunk_size_and_again(
    tmp_path: Path, graded: bool, supplied: bool
) -> None:
    footprints = given(tmp_path) if supplied else None
    seen, facts = [], []
    for chunk in (64, 64, 96, 352):
        folder = tmp_path / str(chunk)
        found = finish(job(folder, graded, chunk, footprints=footprints), across)
        overview = found.pop("overview")
        assert overview.shape == (300, 340)
        facts.append(found)
        seen.append({name: (folder / name).read_bytes() for name in FILES})
        assert not list(folder.glob(".*"))
        time.sleep(0.3)
    assert all(one == seen[0] for one in seen)
    assert all(one == facts[0] for one in facts)


def test_a_graded_run_without_footprints(tmp_path: Path) -> None:
    found = finish(job(tmp_path, True), across)
    table = gpd.read_parquet(tmp_path / "buildings.parquet")
    assert [name for name in table.columns if name != "bbox"] == list(BUILDING_COLUMNS)
    assert found["buildings"]["total"] == len(table) > 20
    assert set(table["damage_class"]) <= {1, 2, 3, 4}
    assert table["building_id"].is_unique
    assert found["damage_areas"]["total"] == 0
    assert found["analysed_km2"] == pytest.approx(300 * 315 * 0.25e-6, rel=2e-3)
    assert found["not_analysed_km2"] == pytest.approx(300 * 25 * 0.25e-6, rel=2e-3)
    for name in ("damage", *PROBABILITIES):
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            assert file.shape == (300, 340)
            assert (file.read(1) == scene(True)[name]).all()
    layers = {name for name, _ in pyogrio.list_layers(tmp_path / "buildings.gpkg")}
    assert layers == {
        "buildings", "damage_areas", "aoi", "not_analysed", "sources", "summary", "layer_styles",
    }  # fmt: skip


def test_right_angles_change_outlines_and_areas_and_nothing_else(tmp_path: Path) -> None:
    finish(job(tmp_path / "plain", True), across)
    plain = gpd.read_parquet(tmp_path / "plain" / "buildings.parquet")
    seen = []
    for chunk in (64, 352):
        folder = tmp_path / str(chunk)
        finish(job(folder, True, chunk, rules=Rules(True, 0.5, regularise=True)), across)
        seen.append({name: (folder / name).read_bytes() for name in FILES})
    assert seen[0] == seen[1]
    table = gpd.read_parquet(tmp_path / "64" / "buildings.parquet")
    drawn = ["area_m2", "geometry", "bbox"]
    assert table.drop(columns=drawn, errors="ignore").equals(
        plain.drop(columns=drawn, errors="ignore")
    )
    corners = [int(shapely.get_num_coordinates(each.geometry).sum()) for each in (plain, table)]
    assert corners[1] < corners[0]
    geod = Geod(ellps="WGS84")
    areas = [abs(geod.geometry_area_perimeter(g)[0]) for g in table.geometry.to_crs("EPSG:4326")]
    np.testing.assert_allclose(table["area_m2"], areas, atol=0.01)


def test_a_binary_run_without_footprints_writes_areas_only(tmp_path: Path) -> None:
    found = finish(job(tmp_path, False), across)
    assert found["buildings"]["total"] == 0
    assert found["damage_areas"]["total"] > 5
    assert set(found["damage_areas"]["by_class"]) == {5}
    areas = gpd.read_file(tmp_path / "buildings.gpkg", layer="damage_areas")
    assert len(areas) == found["damage_areas"]["total"]
    assert set(BUILDING_COLUMNS) <= set(gpd.read_parquet(tmp_path / "buildings.parquet").columns)


def test_supplied_footprints_partly_without_data_are_not_analysed(tmp_path: Path) -> None:
    found = finish(job(tmp_path / "run", True, footprints=given(tmp_path)), across)
    table = gpd.read_parquet(tmp_path / "run" / "buildings.parquet")
    assert table["building_id"].tolist() == [str(k) for k in range(8)]
    assert table["source_id"].tolist() == [str(k) for k in range(8)]
    assert table["damage_class"][0] == 255  # it lies in the strip without data
    assert table["valid_frac"][0] == 0
    assert found["footprints"]["kept"] == 8


def test_skipped_chunks_and_the_area_of_interest_are_in_the_totals(tmp_path: Path) -> None:
    plan = Plan.of((300, 340), Window(32, 8), 64)
    skipped = [(plan.at(1, 2), "OSError: <bad> tile")]
    box = shapely.box(316010, 4161900, 316100, 4161990)
    aoi = gpd.GeoDataFrame(geometry=[box], crs="EPSG:32637").to_crs("EPSG:4326")
    made = job(tmp_path, True, skipped=skipped, aoi=aoi)
    made.store.discard(skipped[0][0])
    found = finish(made, across)
    assert found["not_analysed"]["OSError: <bad> tile"] == pytest.approx(32 * 32 / 1e6, rel=3e-3)
    unseen = gpd.read_file(tmp_path / "buildings.gpkg", layer="not_analysed")
    assert "OSError: <bad> tile" in set(unseen["reason"])
    outline = gpd.read_file(tmp_path / "buildings.gpkg", layer="aoi")
    assert outline.geometry[0].symmetric_difference(box).area < 1e-3
    summary = pd.read_csv(tmp_path / "summary.csv")
    assert "not analysed area: OSError: <bad> tile" in set(summary["figure"])
    assert summary["value"].notna().all()


def test_a_raster_with_nothing_in_it(tmp_path: Path) -> None:
    made = job(tmp_path, True)
    for part in made.store.plan:
        made.store.blank(part)
    found = finish(made, across)
    assert found["buildings"]["total"] == 0
    assert found["analysed_km2"] == 0
    assert len(gpd.read_file(tmp_path / "buildings.gpkg", layer="buildings")) == 0
