"""Detections of a region: cut into scenes, a raster has the detections of the whole, each once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from aftermap.cluster.finish import FinishJob, finish
from aftermap.cluster.regions.best import LISTED, BestDetections
from aftermap.cluster.regions.folder import RegionFolder, SceneState
from aftermap.cluster.regions.map import Frame
from aftermap.cluster.regions.merge import Merge, write_tables
from aftermap.cluster.regions.region import run_region
from aftermap.kernels.buildings import Origin, Rules, empty_table
from aftermap.kernels.detections import COLUMNS, LAYER, Suppression, detections
from aftermap.models.card import Card
from aftermap.models.checkpoint import save
from aftermap.models.inception_window import InceptionWindow
from aftermap.scenes.catalog import CatalogImage, ScenePair
from aftermap.scenes.layer import NOT_ANALYSED, Layer
from aftermap.scenes.plan import Plan, Window
from aftermap.scenes.store import Store
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasters import texture, write_raster

SIDE, STEP = 30, 21
"""Of the squares, and from one to the next, px: as 299 and 209 are to each other."""
SHAPE = 11 * STEP + 9, 16 * STEP + 9
"""Rows and columns of the whole raster: its last squares end with it."""
GSD = 0.5
CORNER = (316_000.0, 4_162_000.0)
ORIGIN = Origin(
    "inception-window", "ab" * 32, "run", None, "after", None, "2023-02-08", GSD, None, None, None
)
RULES = Rules(graded=False, threshold=0.6)
LEAST = 150
"""The byte of that threshold."""

Box = tuple[int, int, int, int]
"""Rows and columns: row0, col0, row1, col1."""
Scores = Callable[[int, int], int]
"""From the first pixel of a square to its byte."""


def lonlat(
    box: Box, crs: str = "EPSG:32637", corner: tuple[float, float] = CORNER
) -> shapely.Polygon:
    row0, col0, row1, col1 = box
    x = [corner[0] + col * GSD for col in (col0, col1, col1, col0)]
    y = [corner[1] - row * GSD for row in (row0, row0, row1, row1)]
    turn = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return shapely.Polygon(np.column_stack(turn.transform(x, y)))


def scored(
    folder: Path, box: Box, scores: Scores, crs: str, corner: tuple[float, float]
) -> tuple[Store, GeoBox]:
    """A finished store over a box of the raster, whose squares count from the box's first pixel."""
    row0, col0, row1, col1 = box
    shape = row1 - row0, col1 - col0
    plan = Plan.of(shape, Window.scanning(SIDE, SIDE - STEP), 10_000)
    place = Affine(GSD, 0, corner[0] + col0 * GSD, 0, -GSD, corner[1] - row0 * GSD)
    grid = GeoBox(shape, place, crs)
    store = Store(
        folder / "layers.zarr", plan, (Layer("damage", "class"), Layer(LAYER, "probability", STEP))
    )
    store.create(grid, {})
    starts = [np.minimum(np.arange(0, side, STEP), max(side - SIDE, 0)).tolist() for side in shape]
    cells = [[scores(row0 + row, col0 + col) for col in starts[1]] for row in starts[0]]
    store.write(
        plan.at(0, 0), {"damage": np.zeros(shape, np.uint8), LAYER: np.array(cells, np.uint8)}
    )
    return store, grid


def scene(
    region: RegionFolder,
    name: str,
    box: Box,
    core: Box,
    scores: Scores,
    suppression: Suppression,
    crs: str = "EPSG:32637",
    corner: tuple[float, float] = CORNER,
) -> ScenePair:
    """A finished run over a box, and the scene that answers for a core."""
    run = region.run(name).path
    run.mkdir(parents=True)
    store, grid = scored(run, box, scores, crs, corner)
    job = FinishJob(run, store, grid, RULES, ORIGIN, name, suppression=suppression)
    totals = finish(job, map)
    totals.pop("overview")
    (run / "report.html").write_text("<!doctype html>")
    record = {
        "state": "done",
        "run_id": "run",
        "quarantined": [],
        "method": {"method": "inception-window", "classes": [1, 0.6]},
        "facts": {
            "inputs": {},
            "window": {"core_px": STEP, "halo_px": SIDE},
            "grid": {
                "crs": grid.crs.to_wkt(),
                "transform": list(grid.affine)[:6],
                "shape": list(grid.shape),
                "region": list(store.plan.region),
            },
        },
        "totals": totals,
    }
    (run / "run.json").write_text(json.dumps(record))
    region.write_state(SceneState(name, "done", {}))
    ground, own = lonlat(box, crs, corner), lonlat(core, crs, corner)
    image = CatalogImage(f"{name}.tif", name, None, None, ground, shape=grid.shape)
    return ScenePair(name, None, image, own, "made by a test")


def merged(
    region: RegionFolder,
    pairs: Sequence[ScenePair],
    suppression: Suppression,
    addresses: Callable[[np.ndarray, np.ndarray], list[str | None]] | None = None,
) -> gpd.GeoDataFrame:
    ordered = tuple(sorted(pairs, key=lambda pair: pair.scene_id))
    parts = [pair for pair in ordered if region.has_results(region.state(pair.scene_id))]
    write_tables(
        Merge(
            region, ordered, region.state, parts, RULES, False,
            suppression=suppression, addresses=addresses,
        ),
        lambda _: {},
    )  # fmt: skip
    return pyogrio.read_dataframe(region.path / "buildings.gpkg", layer="damage_areas")


def folder(path: Path) -> RegionFolder:
    made = RegionFolder(path / "out")
    made.make()
    return made


def grown(core: Box, apron: int) -> Box:
    row0, col0, row1, col1 = core
    return (
        max(row0 - apron, 0), max(col0 - apron, 0),
        min(row1 + apron, SHAPE[0]), min(col1 + apron, SHAPE[1]),
    )  # fmt: skip


def cores(rng: np.random.Generator, step: int) -> list[Box]:
    """Disjoint boxes that fill the raster: two rows of two, cut at multiples of a step."""

    def cut(length: int) -> list[int]:
        return [0, int(rng.integers(4 * STEP, length - 4 * STEP)) // step * step, length]

    return [
        (top, left, bottom, right)
        for top, bottom in pairwise(cut(SHAPE[0]))
        for left, right in pairwise(cut(SHAPE[1]))
    ]


def shares(rows: gpd.GeoDataFrame) -> np.ndarray:
    """What each two of some squares have in common, as a share of their union."""
    shapes = rows.geometry.to_numpy()
    left, right = np.triu_indices(len(shapes), 1)
    common = shapely.area(shapely.intersection(shapes[left], shapes[right]))
    return common / shapely.area(shapely.union(shapes[left], shapes[right]))


def noise(seed: int, levels: int) -> Scores:
    """Random scores, the same for the same square whatever image it is of; few levels, many equals."""
    values = np.random.default_rng(seed).integers(0, levels, SHAPE) * (250 // (levels - 1))
    return lambda row, col: int(values[row, col])


@pytest.mark.parametrize(
    ("seed", "suppression"),
    [
        (0, Suppression()), (1, Suppression(0.0)), (2, Suppression(1.0)),
        (3, Suppression(0.1, "malisiewicz")), (4, Suppression(0.6, "malisiewicz")),
    ],
)  # fmt: skip
def test_scenes_on_one_grid_have_the_detections_of_the_whole(
    tmp_path: Path, seed: int, suppression: Suppression
) -> None:
    rng, region = np.random.default_rng(seed), folder(tmp_path)
    scores = noise(seed, 126 if seed else 6)
    pairs = [
        scene(region, f"s{k}", grown(core, 2 * STEP), core, scores, suppression)
        for k, core in enumerate(cores(rng, STEP))
    ]
    rows = merged(region, pairs, suppression)
    store, grid = scored(tmp_path, (0, 0, *SHAPE), scores, "EPSG:32637", CORNER)
    whole = detections(store, grid, RULES, suppression, ORIGIN, "whole")
    ours = dict(zip(map(tuple, rows.bounds.to_numpy()), rows["damage_score"], strict=True))
    theirs = dict(zip(map(tuple, whole.bounds.to_numpy()), whole["damage_score"], strict=True))
    assert len(rows) == len(whole) > 20
    assert ours == theirs


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("overlap", [0.05, 0.3])
def test_scenes_on_grids_of_their_own_lose_and_double_nothing(
    tmp_path: Path, seed: int, overlap: float
) -> None:
    """Cut anywhere. A square scores by the brightest of the single spots that it shows."""
    rng, region, suppression = np.random.default_rng(seed), folder(tmp_path), Suppression(overlap)
    spots = np.array(
        [(row, col) for row in range(20, SHAPE[0], 75) for col in range(20, SHAPE[1], 75)]
    ) + rng.integers(-7, 8, (15, 2))
    bright = rng.integers(LEAST, 251, len(spots))

    def scores(row: int, col: int) -> int:
        shown = ((spots >= (row, col)) & (spots < (row + SIDE, col + SIDE))).all(axis=1)
        return int(bright[shown].max(initial=0))

    pairs = [
        scene(region, f"s{k}", grown(core, 35), core, scores, suppression)
        for k, core in enumerate(cores(rng, 1))
    ]
    rows = merged(region, pairs, suppression)
    x, y = CORNER[0] + (spots[:, 1] + 0.5) * GSD, CORNER[1] - (spots[:, 0] + 0.5) * GSD
    at, _ = shapely.STRtree(rows.geometry.to_numpy()).query(shapely.points(x, y), "intersects")
    assert set(at) == set(range(len(spots)))
    assert shares(rows).max() <= overlap + 1e-9
    # Nor is there anything that a scene did not own without need: each tells a spot.
    assert shapely.STRtree(shapely.points(x, y)).query(rows.geometry.to_numpy())[0].size >= len(
        rows
    )


@pytest.mark.parametrize("rule", ["iou", "malisiewicz"])
def test_scenes_may_have_any_names(tmp_path: Path, rule: str) -> None:
    """Who comes first changes nothing, not even among equals."""
    suppression, scores, found = Suppression(0.1, rule), noise(5, 6), []
    for turn in (1, -1):
        region = folder(tmp_path / str(turn))
        names = [f"s{k}" for k in range(4)][::turn]
        pairs = [
            scene(region, name, grown(core, 35), core, scores, suppression)
            for name, core in zip(names, cores(np.random.default_rng(6), 1), strict=True)
        ]
        rows = merged(region, pairs, suppression)
        found.append({tuple(box) for box in rows.bounds.to_numpy()})
    assert len(found[0]) > 20
    assert found[0] == found[1]


WEST, EAST = (0, 0, 210, 210), (0, 210, 210, SHAPE[1])
"""Two cores with an edge on the grid."""


def halves(
    path: Path, west: Scores, east: Scores, starts: tuple[int, int] = (0, 168), **more: object
) -> gpd.GeoDataFrame:
    """The western half, its image 42 px wider, and the eastern one; where their images begin."""
    region, suppression = folder(path), Suppression()
    pairs = [
        scene(region, "west", (0, starts[0], 210, 252), WEST, west, suppression),
        scene(region, "east", (0, starts[1], 210, SHAPE[1]), EAST, east, suppression),
    ]
    return merged(region, pairs, suppression, **more)  # type: ignore[arg-type]


def at(**squares: int) -> Scores:
    """Bytes of squares by their first pixel, as r84c189=240; nothing anywhere else."""
    return lambda row, col: squares.get(f"r{row}c{col}", 0)


def test_what_was_dropped_for_a_neighbours_square_is_told_again(tmp_path: Path) -> None:
    """The western scene left its own square out for a better one, of which the other sees nothing."""
    asked: list[int] = []

    def addresses(lon: np.ndarray, lat: np.ndarray) -> list[str | None]:
        asked.append(len(lon))
        return ["Sokak 1"] * len(lon)

    west = at(r84c189=200, r84c210=240, r0c0=220)
    rows = halves(tmp_path, west, at(r0c315=230), addresses=addresses)
    assert sorted(rows["area_id"]) == ["east-r0c147", "west-r0c0", "west-r84c189"]
    assert asked == [1]  # the other two are in their scenes' tables
    again = rows.set_index("area_id").loc["west-r84c189"]
    assert again["address"] == "Sokak 1"
    assert again["damage_score"] == 0.8
    assert again["scene_id"] == "west"
    other = rows.set_index("area_id").loc["west-r0c0"]
    same = ["method", "weights_sha256", "run_id", "post_image", "post_date", "gsd_m", "det_method"]
    assert again[same].equals(other[same])


def test_what_both_scenes_tell_is_told_once_and_the_better_one(tmp_path: Path) -> None:
    rows = halves(tmp_path, at(r84c189=200), at(r84c210=201))
    assert list(rows["area_id"]) == ["east-r84c42"]


@pytest.mark.parametrize(
    ("west", "east", "starts", "told"),
    [
        # It begins in the western core, and has its middle in the eastern one.
        (at(), at(r84c205=200), (0, 163), ["east-r84c42"]),
        (at(r84c205=200), at(), (16, 168), []),
        # It has its middle in the western core, and ends in the eastern one.
        (at(), at(r84c189=200), (0, 189), []),
        (at(r84c189=200), at(), (0, 168), ["west-r84c189"]),
    ],
)
def test_a_square_is_its_scenes_by_its_centre(
    tmp_path: Path, west: Scores, east: Scores, starts: tuple[int, int], told: list[str]
) -> None:
    assert list(halves(tmp_path, west, east, starts)["area_id"]) == told


def test_a_strip_that_no_owned_square_shows_is_no_gap(tmp_path: Path) -> None:
    """West's last squares have their middles at 204 and 225, east's at 205 + 20 = 225 and more."""
    region, suppression = folder(tmp_path), Suppression()
    core, other = (0, 0, 210, 200), (0, 200, 210, SHAPE[1])
    spot = 199  # the west's squares from 189 on show it, and end at 198 where it owns them
    west: Scores = lambda row, col: 200 * (row == 84 and col <= spot < col + SIDE)  # noqa: E731
    pairs = [
        scene(region, "west", (0, 0, 210, 231), core, west, suppression),
        scene(region, "east", (0, 200, 210, SHAPE[1]), other, at(), suppression),
    ]
    rows = merged(region, pairs, suppression)
    assert list(rows["area_id"]) == ["west-r84c189"]


def test_scenes_of_two_zones_tell_one_place_once(tmp_path: Path) -> None:
    """At 39 degrees east; a spot that both show in squares that do not lie parallel."""
    to_37, to_38 = (
        Transformer.from_crs("EPSG:4326", f"EPSG:326{zone}", always_xy=True) for zone in (37, 38)
    )
    region, suppression = folder(tmp_path), Suppression()
    places = [to.transform(42.0, 37.5) for to in (to_37, to_38)]
    corners = [(x - 105 * GSD, y + 105 * GSD) for x, y in places]
    box, halves_ = (0, 0, 210, 210), ((0, 0, 210, 105), (0, 105, 210, 210))
    middle: Scores = lambda row, col: 240 * (row <= 105 < row + SIDE and col <= 105 < col + SIDE)  # noqa: E731
    pairs = [
        scene(region, f"z{zone}", box, core, middle, suppression, f"EPSG:326{zone}", corner)
        for zone, corner, core in zip((37, 38), corners, halves_, strict=True)
    ]
    # The second core is what the first leaves.
    pairs[1] = dataclasses.replace(pairs[1], core=pairs[1].core - pairs[0].core)
    rows = merged(region, pairs, suppression)
    assert rows.crs.to_epsg() == 4326
    assert rows.geometry.intersects(shapely.Point(42.0, 37.5)).any()
    assert shares(rows.to_crs("EPSG:32637")).max(initial=0) <= 0.1 + 1e-3
    points = pyogrio.read_dataframe(region.path / "buildings.gpkg", layer="damage_points")
    np.testing.assert_allclose(points.geometry.x, rows["lon"], atol=1e-9)
    np.testing.assert_allclose(points.geometry.y, rows["lat"], atol=1e-9)


def test_points_lie_in_the_middle_and_say_what_the_squares_say(tmp_path: Path) -> None:
    rows = halves(tmp_path, noise(1, 6), noise(2, 6))
    file = tmp_path / "out" / "buildings.gpkg"
    points = pyogrio.read_dataframe(file, layer="damage_points")
    assert list(rows.columns) == [*COLUMNS[:-1], "scene_id", "geometry"]
    assert (points.geometry.geom_type == "Point").all()
    assert points["area_id"].equals(rows["area_id"])
    assert points["scene_id"].equals(rows["scene_id"])
    middle = rows.geometry.centroid
    assert points.geometry.distance(middle).max() < 1e-6
    placed = points.to_crs("EPSG:4326").geometry
    np.testing.assert_allclose(
        np.column_stack([placed.x, placed.y]), rows[["lon", "lat"]], atol=1e-7
    )
    with rasterio.open(tmp_path / "out" / "scenes" / "west" / f"{LAYER}.tif") as source:
        assert (source.read(1) != NOT_ANALYSED).all()


def test_nothing_found_is_a_table_and_a_layer_too(tmp_path: Path) -> None:
    rows = halves(tmp_path, at(), at())
    assert rows.empty
    assert list(rows.columns) == [*COLUMNS[:-1], "scene_id", "geometry"]
    assert pyogrio.read_dataframe(tmp_path / "out" / "buildings.gpkg", layer="damage_points").empty


def test_merging_again_gives_the_same_bytes(tmp_path: Path) -> None:
    region, suppression = folder(tmp_path), Suppression()
    pairs = [
        scene(region, name, box, core, noise(3, 6), suppression)
        for name, box, core in (
            ("west", (0, 0, 210, 252), WEST), ("east", (0, 168, 210, SHAPE[1]), EAST),
        )
    ]  # fmt: skip
    seen = []
    for _ in range(2):
        merged(region, pairs, suppression)
        seen.append((region.path / "buildings.gpkg").read_bytes())
    assert seen[0] == seen[1]
    assert not [p for p in region.path.glob(".*") if p.name not in (".region",)]


def test_a_region_run_by_a_network(tmp_path: Path) -> None:
    """From images to the page: every detection on the map, the best of them with their addresses."""
    torch.manual_seed(0)
    network = InceptionWindow("resnet18", 32).eval()
    with torch.no_grad():
        network.head.weight *= 60  # scores that differ
    card = Card(
        method="inception-window", network="inception-window", classes=1, bands=3, core=32, halo=32,
        options={"encoder": "resnet18", "side": 32}, mean=(0.5,) * 3, std=(0.5,) * 3, scan=32,
        resolution=(0.1, 2), nominal_resolution=0.5, stride=1, threshold=0.45,
    )  # fmt: skip
    save(tmp_path / "w", network, card)
    ground, place = texture(150, 330, 3), Affine(GSD, 0, CORNER[0], 0, -GSD, CORNER[1])
    for name, first in (("a", 0), ("b", 130)):
        pixels = np.ascontiguousarray(ground[:, :, first : first + 200])
        write_raster(
            tmp_path / f"{name}.tif", pixels, transform=place @ Affine.translation(first, 0)
        )
    street = shapely.LineString([CORNER, (CORNER[0] + 165, CORNER[1] - 75)])
    names = gpd.GeoDataFrame({"name": ["<i>Cadde</i> & 5"]}, geometry=[street], crs="EPSG:32637")
    names.to_file(tmp_path / "names.gpkg")
    (tmp_path / "pairs.csv").write_text("scene_id,pre,post\na,,a.tif\nb,,b.tif\n")
    (tmp_path / "region.toml").write_text(
        """
        [images]\nkind = "list"\npath = "pairs.csv"
        [assess]\nmethod = "inception-window"\nweights = "w.safetensors"\noverlap = 9
        nms = 0.05\ngazetteer = "names.gpkg"
        [cluster]\nkind = "threads"\nworkers = 1
        """
    )
    run = run_region(tmp_path / "region.toml")
    assert run.exit_code == 0
    rows = run.damage_areas
    assert len(rows) > 8
    assert set(rows["scene_id"]) == {"a", "b"}
    assert shares(rows).max() <= 0.05
    assert (rows["address"] == "<i>Cadde</i> & 5").all()
    page = run.report.read_text()
    assert page.count('<circle class="dot c5"') == len(rows) + 1  # and one in the key
    assert "<i>" not in page
    assert page.count("&lt;i&gt;Cadde&lt;/i&gt; &amp; 5") == min(len(rows), LISTED)
    best = rows.sort_values("damage_score").iloc[-1]
    assert page.index(f"{best['damage_score']:.3f}") < page.index(
        f"{rows['damage_score'].min():.3f}"
    )


def test_dots_lie_in_their_patches_on_both_sides_of_the_antimeridian() -> None:
    cores_ = [shapely.box(179.8, 0, 180, 0.2), shapely.box(-180, 0, -179.8, 0.2)]
    frame = Frame.around([shapely.union_all(cores_)])
    (left, _), (right, _) = frame.dots(np.array([179.9, -179.9]), np.array([0.1, 0.1]))
    assert 0 < left < frame.width / 2 < right < frame.width
    assert left + right == pytest.approx(frame.width, abs=1)
    assert frame.dots(np.zeros(0), np.zeros(0)) == []
    assert len(frame.dots(np.full(9, 179.9), np.full(9, 0.1))) == 1


def test_the_best_of_all_scenes_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aftermap.cluster.regions.best.DRAWN", 5)
    rng, best, every = np.random.default_rng(0), BestDetections(), []
    for scene_id in ("a", "b", "c"):
        rows = empty_table(COLUMNS, "EPSG:32637").reindex(range(4))
        rows = rows.assign(
            area_id=[f"{scene_id}-r{k}c0" for k in range(4)],
            damage_score=rng.integers(6, 10, 4) / 10,
            scene_id=scene_id,
        )
        every += zip(-rows["damage_score"], rows["area_id"], strict=True)
        best.buildings(rows, np.zeros((4, 2)))
    shown = zip(-best.table["damage_score"], best.table["area_id"], strict=True)
    assert list(shown) == sorted(every)[:5]
