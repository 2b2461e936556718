"""Merging: cut at random into overlapping scenes, a town has the buildings of the whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import shapely.affinity
from affine import Affine
from aftermap.cluster.regions.folder import RegionFolder, SceneState
from aftermap.cluster.regions.merge import Merge, Merged, wanted_columns, write_tables
from aftermap.kernels.buildings import AREA_COLUMNS, BUILDING_COLUMNS, Rules, empty_table
from aftermap.scenes.catalog import CatalogImage, ScenePair
from aftermap.scenes.vectors import write_csv, write_geopackage, write_geoparquet
from pyproj import Transformer
from rasterio.features import shapes as outlines
from runs import finished_run, table
from scipy import ndimage

UTM = "EPSG:32637"
GSD = 0.5
CORNER = (316_000.0, 4_162_000.0)
SIDE = 700
"""Rows and columns of the town, px."""
APRON = 40
"""What a scene sees beyond its core, px: more than the largest building."""

Box = tuple[int, int, int, int]
"""Rows and columns: row0, col0, row1, col1."""


def town(seed: int, gap: int = 3) -> np.ndarray:
    """Labels of buildings of 4 to 24 px, apart by `gap` px or more, some of them L-shaped."""
    rng = np.random.default_rng(seed)
    labels, count = np.zeros((SIDE, SIDE), np.int32), 0
    for _ in range(2500):
        height, width = rng.integers(4, 25, 2)
        row, col = rng.integers(0, SIDE - height), rng.integers(0, SIDE - width)
        around = labels[
            max(row - gap, 0) : row + height + gap, max(col - gap, 0) : col + width + gap
        ]
        if around.any():
            continue
        count += 1
        labels[row : row + height, col : col + width] = count
        if rng.random() < 0.4 and min(height, width) > 8:
            labels[row : row + height // 2, col : col + width // 2] = 0
    return labels


def cuts(seed: int) -> list[Box]:
    """Disjoint boxes that fill the town: rows cut at random, and columns in each row of boxes."""
    rng = np.random.default_rng(seed + 1000)
    boxes = []
    rows = [0, *sorted(rng.choice(np.arange(100, SIDE - 100), 2, replace=False)), SIDE]
    for top, bottom in pairwise(rows):
        cols = [0, *sorted(rng.choice(np.arange(80, SIDE - 80), 2, replace=False)), SIDE]
        boxes += [(int(top), int(left), int(bottom), int(right)) for left, right in pairwise(cols)]
    return boxes


def place(row: float, col: float) -> Affine:
    return Affine(GSD, 0, CORNER[0] + col * GSD, 0, -GSD, CORNER[1] - row * GSD)


def seen_in(labels: np.ndarray, box: Box, prefix: str) -> gpd.GeoDataFrame:
    """The buildings that a scene over a box finds: 8-connected components, by their first pixel."""
    row0, col0, row1, col1 = box
    found, count = ndimage.label(labels[row0:row1, col0:col1] > 0, np.ones((3, 3)))
    shapes: list[shapely.Geometry] = []
    ids: list[str] = []
    for k, where in enumerate(ndimage.find_objects(found), start=1):
        mask = found[where] == k
        top, left = where[0].start, where[1].start
        pieces = outlines(
            mask.astype(np.uint8), mask=mask, connectivity=8,
            transform=place(row0 + top, col0 + left),
        )  # fmt: skip
        shapes.append(shapely.make_valid(shapely.geometry.shape(next(pieces)[0])))
        first = np.argwhere(mask)[0]
        ids.append(f"{prefix}-r{top + first[0]}c{left + first[1]}")
    order = sorted(
        range(count), key=lambda k: tuple(map(int, ids[k].rpartition("-r")[2].split("c")))
    )
    frame = table([shapes[k] for k in order], [1 + k % 4 for k in range(count)], BUILDING_COLUMNS)
    frame = frame.set_crs(UTM, allow_override=True)
    frame["building_id"] = pd.Series([ids[k] for k in order], dtype="str")
    frame["source_id"] = pd.Series([None] * count, dtype="str")
    frame["footprint_source"] = pd.Series(["detected"] * count, dtype="str")
    return frame


def scene(
    folder: RegionFolder, name: str, box: Box, core: Box, rows: gpd.GeoDataFrame
) -> ScenePair:
    """A finished run over a box, and the scene that answers for a core."""
    row0, col0, row1, col1 = box
    transform, shape = place(row0, col0), (row1 - row0, col1 - col0)
    run = finished_run(folder.run(name).path, rows)
    with rasterio.open(
        run / "damage.tif", "w", driver="GTiff", height=shape[0], width=shape[1], count=1,
        dtype="uint8", nodata=255, crs=UTM, transform=transform,
    ) as target:  # fmt: skip
        target.write(np.zeros((1, *shape), np.uint8))
    nothing = gpd.GeoDataFrame(
        {"reason": pd.Series([], dtype="str"), "cell_px": np.zeros(0, np.int32),
         "exact": np.zeros(0, bool), "area_m2": np.zeros(0)},
        geometry=[], crs=UTM,
    )  # fmt: skip
    areas = empty_table(AREA_COLUMNS, UTM)
    write_geoparquet(run / "buildings.parquet", rows)
    write_geopackage(
        run / "buildings.gpkg",
        {"buildings": rows, "damage_areas": areas, "not_analysed": nothing},
    )
    write_csv(run / "summary.csv", pd.DataFrame({"figure": []}))
    record = json.loads((run / "run.json").read_text())
    record["facts"]["grid"] = {
        "crs": rasterio.CRS.from_string(UTM).to_wkt(), "transform": list(transform)[:6],
        "shape": shape,
    }  # fmt: skip
    for files in record["facts"]["inputs"].values():
        for file in files:
            file |= {"bytes": 1, "sampled_sha256": "00"}
    (run / "run.json").write_text(json.dumps(record))
    folder.write_state(SceneState(name, "done", {}))
    image = CatalogImage(f"{name}.tif", name, None, None, lonlat(box), shape=shape)
    return ScenePair(name, image, image, lonlat(core), "made by a test")


def lonlat(box: Box) -> shapely.Polygon:
    """A box of pixels in degrees."""
    row0, col0, row1, col1 = box
    corners = [(row0, col0), (row0, col1), (row1, col1), (row1, col0)]
    xy = [place(row, col) * (0, 0) for row, col in corners]
    turn = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    return shapely.Polygon(np.column_stack(turn.transform(*zip(*xy, strict=True))))


def widened(core: Box) -> Box:
    row0, col0, row1, col1 = core
    return (
        max(row0 - APRON, 0), max(col0 - APRON, 0), min(row1 + APRON, SIDE), min(col1 + APRON, SIDE)
    )  # fmt: skip


def merged(folder: RegionFolder, pairs: Sequence[ScenePair]) -> tuple[gpd.GeoDataFrame, Merged]:
    ordered = tuple(sorted(pairs, key=lambda pair: pair.scene_id))
    parts = [pair for pair in ordered if folder.has_results(folder.state(pair.scene_id))]
    merge = Merge(folder, ordered, folder.state, parts, Rules(True, 0.5), has_buildings=True)
    known = write_tables(merge, lambda _: {})
    return gpd.read_parquet(folder.path / "buildings.parquet"), known


def region(path: Path) -> RegionFolder:
    folder = RegionFolder(path / "out")
    folder.make()
    return folder


@pytest.mark.parametrize("seed", range(4))
def test_cut_at_random_the_town_is_the_whole_town(tmp_path: Path, seed: int) -> None:
    labels, folder = town(seed), region(tmp_path)
    pairs = []
    for k, core in enumerate(cuts(seed)):
        name, box = f"s{k}", widened(core)
        pairs.append(scene(folder, name, box, core, seen_in(labels, box, name)))
    rows, _ = merged(folder, pairs)
    whole = seen_in(labels, (0, 0, SIDE, SIDE), "whole")
    assert len(rows) == len(whole)
    assert rows["building_id"].is_unique
    assert list(rows.columns) == list(wanted_columns(BUILDING_COLUMNS))
    ours = {shapely.to_wkb(shapely.normalize(shape)) for shape in rows.geometry}
    theirs = {shapely.to_wkb(shapely.normalize(shape)) for shape in whole.geometry}
    assert ours == theirs
    # Each in the scene whose core holds its first pixel.
    cores = {f"s{k}": core for k, core in enumerate(cuts(seed))}
    first = rows["building_id"].str.extract(r"^(s\d+)-r(\d+)c(\d+)$").astype({1: int, 2: int})
    for (name, row, col), own in zip(first.itertuples(index=False), rows["scene_id"], strict=True):
        top, left, *_ = widened(cores[name])
        row0, col0, row1, col1 = cores[name]
        assert name == own
        assert row0 <= top + row < row1
        assert col0 <= left + col < col1


@pytest.mark.parametrize("seed", range(4))
def test_scenes_that_disagree_by_a_pixel_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, folder = town(seed, gap=5), region(tmp_path)
    pairs = []
    for k, core in enumerate(cuts(seed)):
        name, box = f"s{k}", widened(core)
        # Another image of the same town: moved by a pixel, its buildings a pixel thinner or fatter.
        moved = np.roll(labels, rng.integers(0, 2, 2), axis=(0, 1)) > 0
        other = ndimage.binary_dilation(moved) if rng.random() < 0.5 else moved
        pairs.append(scene(folder, name, box, core, seen_in(other, box, name)))
    rows, _ = merged(folder, pairs)
    whole = seen_in(labels, (0, 0, SIDE, SIDE), "whole")
    inner = shapely.buffer(shapely.box(*whole.total_bounds), -2 * GSD)
    whole = whole[whole.geometry.within(inner)]
    left, right = shapely.STRtree(rows.geometry.to_numpy()).query(
        shapely.buffer(whole.geometry.to_numpy(), -GSD), predicate="intersects"
    )
    hits = np.bincount(left, minlength=len(whole))
    assert (hits == 1).all(), np.unique(hits, return_counts=True)
    assert np.bincount(right).max() == 1


def test_what_every_scene_left_to_another_is_taken_back(tmp_path: Path) -> None:
    folder = region(tmp_path)
    labels = np.zeros((SIDE, SIDE), np.int32)
    labels[300:312, 345:357] = 1  # across the edge at column 350
    west, east = np.zeros_like(labels), np.zeros_like(labels)
    west[300:312, 346:357] = 1
    west[299, 352] = 1  # its first pixel is the other's
    east[300:312, 345:356] = 1
    east[299, 348] = 1
    cores = {"west": (0, 0, SIDE, 350), "east": (0, 350, SIDE, SIDE)}
    pairs = [
        scene(folder, name, widened(core), core, seen_in(seen, widened(core), name))
        for (name, core), seen in zip(cores.items(), (west, east), strict=True)
    ]
    rows, _ = merged(folder, pairs)
    assert len(rows) == 1
    assert rows.geometry.iloc[0].area == pytest.approx(133 * GSD**2)


def test_what_both_scenes_keep_stays_once(tmp_path: Path) -> None:
    folder = region(tmp_path)
    west = np.zeros((SIDE, SIDE), np.int32)
    east = west.copy()
    west[300:312, 345:357] = west[299, 348] = 1
    east[300:312, 346:356] = east[299, 352] = 1
    cores = {"west": (0, 0, SIDE, 350), "east": (0, 350, SIDE, SIDE)}
    pairs = [
        scene(folder, name, widened(core), core, seen_in(seen, widened(core), name))
        for (name, core), seen in zip(cores.items(), (west, east), strict=True)
    ]
    rows, _ = merged(folder, pairs)
    assert list(rows["scene_id"]) == ["west"]  # the larger of the two


def test_a_building_that_one_image_cuts_is_taken_from_the_other(tmp_path: Path) -> None:
    folder = region(tmp_path)
    labels = np.zeros((SIDE, SIDE), np.int32)
    labels[300:312, 345:375] = 1
    # The western core reaches to its image's own edge, as of the first of two untiled pairs.
    boxes = {"west": (0, 0, SIDE, 350), "east": (0, 310, SIDE, SIDE)}
    cores = {"west": (0, 0, SIDE, 350), "east": (0, 350, SIDE, SIDE)}
    pairs = [
        scene(folder, name, boxes[name], cores[name], seen_in(labels, boxes[name], name))
        for name in cores
    ]
    rows, _ = merged(folder, pairs)
    assert list(rows["scene_id"]) == ["east"]
    assert rows.geometry.iloc[0].area == pytest.approx(12 * 30 * GSD**2)


def test_supplied_footprints_are_told_by_their_place_in_the_file(tmp_path: Path) -> None:
    folder = region(tmp_path)
    cores = {"a": (0, 0, SIDE, 350), "b": (0, 350, SIDE, SIDE)}
    # Two that lie on each other across the edge are two buildings all the same.
    boxes = [shapely.box(0, 0, 8, 8), shapely.box(0.5, 0, 8.5, 8), shapely.box(60, 0, 64, 4)]
    x, y = place(300, 340) * (0, 0)
    shapes = [shapely.affinity.translate(box, x, y) for box in boxes]
    pairs = []
    for name, core in cores.items():
        rows = table(shapes, [1, 2, 3], BUILDING_COLUMNS).set_crs(UTM, allow_override=True)
        rows["building_id"] = pd.Series(["7", "8", "12"], dtype="str")
        rows["footprint_source"] = "osm.gpkg"
        pairs.append(scene(folder, name, widened(core), core, rows))
    found, _ = merged(folder, pairs)
    assert sorted(found["building_id"]) == ["12", "7", "8"]
    assert dict(zip(found["building_id"], found["scene_id"], strict=True)) == {
        "7": "a", "8": "a", "12": "b",
    }  # fmt: skip


def test_a_building_across_the_edge_of_a_failed_scene_is_kept(tmp_path: Path) -> None:
    folder = region(tmp_path)
    labels = np.zeros((SIDE, SIDE), np.int32)
    labels[300:312, 340:352] = 1  # its first pixel is in the scene that failed
    labels[400:412, 320:332] = 2  # wholly in it
    core, lost = (0, 350, SIDE, SIDE), (0, 0, SIDE, 350)
    pairs = [scene(folder, "good", widened(core), core, seen_in(labels, widened(core), "good"))]
    image = CatalogImage("lost.tif", "lost", None, None, lonlat(lost))
    pairs.append(ScenePair("lost", image, image, lonlat(lost), ""))
    folder.write_state(SceneState("lost", "failed", {}, "cut off"))
    rows, known = merged(folder, pairs)
    assert len(rows) == 1
    assert set(known.unseen_m2) == {"the scene failed"}
    assert known.unseen_m2["the scene failed"] == pytest.approx(350 * SIDE * GSD**2, rel=2e-3)


def test_a_scene_in_which_nothing_was_found_has_results_all_the_same(tmp_path: Path) -> None:
    folder = region(tmp_path)
    cores = {"full": (0, 0, SIDE, 350), "bare": (0, 350, SIDE, SIDE)}
    labels = np.zeros((SIDE, SIDE), np.int32)
    labels[300:312, 100:112] = 1
    pairs = [
        scene(folder, name, widened(core), core, seen_in(labels, widened(core), name))
        for name, core in cores.items()
    ]
    rows, known = merged(folder, pairs)
    assert len(rows) == 1
    assert known.scenes == {"full": {1: 1}, "bare": {}}
    assert known.analysed_m2 == pytest.approx(SIDE**2 * GSD**2, rel=2e-3)
    assert not known.unseen_m2


def test_no_scene_at_all_gives_empty_tables(tmp_path: Path) -> None:
    rows, known = merged(region(tmp_path), [])
    assert len(rows) == 0
    assert list(rows.columns) == list(wanted_columns(BUILDING_COLUMNS))
    assert known.facts()["buildings"]["total"] == 0
