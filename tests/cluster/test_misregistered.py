"""Footprints drawn on a before image that lies elsewhere are counted where the buildings are."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from aftermap.cluster.finish import FinishJob, finish
from aftermap.kernels.buildings import Origin, Rules
from aftermap.scenes.align import measure_tiles
from aftermap.scenes.footprints import open_footprints
from aftermap.scenes.layer import Layer
from aftermap.scenes.pair import Pair, make_pair
from aftermap.scenes.plan import Plan, Window
from aftermap.scenes.shift_field import LIMIT_M, SURE, ShiftField
from aftermap.scenes.store import Store
from odc.geo.geobox import GeoBox
from rasters import UTM, texture, write_raster
from scipy import ndimage

SIDE = 1280
GRID = GeoBox((SIDE, SIDE), UTM, "EPSG:32637")
ORIGIN = Origin("fc-test", None, "run1", "pre", "post", None, None, 0.5, None, None, None)
LAYERS = (Layer("damage", "class"),)
CORNERS = np.array([(r, c) for r in range(70, 1200, 90) for c in range(60, 1200, 90)])
LEVELS = 1 + np.arange(len(CORNERS)) % 4


def before(cols: np.ndarray, slope: float) -> np.ndarray:
    """How far to the left a thing lay in the before image that lies at `cols` in the after image."""
    return 7 + slope * (cols - SIDE / 2)


def images(folder: Path, slope: float, down: float = 5) -> Pair:
    """What lies at (r, c) after lay at (r - down, c - before(c)) before."""
    after = texture(SIDE, SIDE, 4)
    rows, cols = np.mgrid[:SIDE, :SIDE].astype(float)
    there = (cols + 7 - slope * SIDE / 2) / (1 - slope)
    bands = [ndimage.map_coordinates(band, [rows + down, there], order=1) for band in after]
    pre = write_raster(folder / "pre.tif", np.stack(bands).astype(np.uint8))
    return make_pair(pre, write_raster(folder / "post.tif", after))


def buildings(shift: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Houses of 16 x 20 px in map coordinates, lying `shift` rows and columns off."""
    row, col = CORNERS[:, 0] - shift[0], CORNERS[:, 1] - shift[1]
    boxes = shapely.box(col, row, col + 20, row + 16)
    return shapely.transform(boxes, lambda xy: np.column_stack(UTM * xy.T))


def run(folder: Path, footprints: np.ndarray, shifts: ShiftField | None, chunk: int) -> bytes:
    """Count footprints on the after image's classes; returns the table's bytes."""
    folder.mkdir(parents=True)
    plan = Plan.of((SIDE, SIDE), Window(64, 0), chunk)
    store = Store(folder / "layers.zarr", plan, LAYERS)
    store.create(GRID, {})
    damage = np.zeros((SIDE, SIDE), np.uint8)
    for (row, col), level in zip(CORNERS, LEVELS, strict=True):
        damage[row : row + 16, col : col + 20] = level
    for part in plan:
        store.write(part, {"damage": damage[part.row0 : part.row1, part.col0 : part.col1]})
    frame = gpd.GeoDataFrame({"id": range(len(footprints))}, geometry=footprints, crs=GRID.crs)
    frame.to_file(folder / "in.gpkg")
    given = open_footprints(folder / "in.gpkg", GRID)
    job = FinishJob(
        folder, store, GRID, Rules(True, 0.5), ORIGIN, "sc",
        footprints=given, footprint_source="in.gpkg", shifts=shifts,
        sources=pd.DataFrame({"path": ["post"]}),
    )  # fmt: skip
    finish(job, map)
    return (folder / "buildings.parquet").read_bytes()


@pytest.mark.parametrize("slope", [0.0, 8e-3])
def test_they_are_counted_where_the_after_image_shows_them(tmp_path: Path, slope: float) -> None:
    pair = images(tmp_path, slope)
    shifts = ShiftField.of(measure_tiles(pair), pair.grid)
    off = before(CORNERS[:, 1] + 10.0, slope)
    drawn = buildings((np.full(len(CORNERS), 5.0), off))
    tables = {chunk: run(tmp_path / f"{chunk}", drawn, shifts, chunk) for chunk in (128, 640, 1280)}
    assert len(set(tables.values())) == 1

    found = gpd.read_parquet(tmp_path / "128" / "buildings.parquet")
    assert (found["damage_class"] == LEVELS).all()
    # A share of 1 for damaged levels and 0 for intact ones would be every pixel of every house.
    right = np.where(LEVELS > 1, found["damage_frac"], 1 - found["damage_frac"])
    assert right[LEVELS > 1].min() > 0.9
    np.testing.assert_allclose(found["shift_x_m"], off * 0.5, atol=0.3)
    np.testing.assert_allclose(found["shift_y_m"], -2.5, atol=0.15)
    assert found["align_conf"].min() > 0.8
    # The table keeps the outlines as they were given.
    same = shapely.hausdorff_distance(
        found.geometry.to_numpy(), shapely.multipolygons(drawn[:, None])
    )
    assert same.max() < 1e-6

    run(tmp_path / "unmoved", drawn, None, 640)
    unmoved = gpd.read_parquet(tmp_path / "unmoved" / "buildings.parquet")
    damaged = LEVELS > 1
    gained = found["damage_frac"][damaged].mean() - unmoved["damage_frac"][damaged].mean()
    assert gained > 0.4
    assert unmoved["align_conf"].isna().all()


def test_beyond_the_limit_nothing_is_moved_and_the_table_says_so(tmp_path: Path) -> None:
    pair = images(tmp_path, 0.0, down=2 * LIMIT_M + 4)
    shifts = ShiftField.of(measure_tiles(pair), pair.grid)
    here = buildings((np.zeros(len(CORNERS)), np.zeros(len(CORNERS))))
    run(tmp_path / "run", here, shifts, 640)
    found = gpd.read_parquet(tmp_path / "run" / "buildings.parquet")
    # Drawn on the after image, they are counted in full exactly where they are not moved.
    assert (found["damage_class"] == LEVELS).all()
    assert (found["damage_frac"] == (LEVELS > 1)).all()
    assert found["align_conf"].max() < SURE
    np.testing.assert_allclose(found["shift_y_m"], -(LIMIT_M + 2), atol=0.2)
