"""A region's totals per district, its report, and what both do with hostile names."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from aftermap.cluster.client import connected
from aftermap.cluster.regions.districts import ELSEWHERE, DistrictTotals, read_districts
from aftermap.cluster.regions.map import Frame
from aftermap.cluster.regions.region import RegionRun, run_region
from aftermap.cluster.regions.report import scene_row
from aftermap.kernels.buildings import BUILDING_COLUMNS
from aftermap.scenes.catalog import CatalogImage, ScenePair
from aftermap.scenes.errors import Refused
from pyproj import Geod
from rasters import texture, write_raster
from regions import GSD, ZONES, write_pair, write_region
from runs import table

HOSTILE = "=<script>alert('1')</script>\"&"
CODES = ("no_damage", "minor", "major", "destroyed", "damaged_not_graded", "not_analysed")


@pytest.fixture(scope="module")
def threads() -> Any:
    with connected("threads", workers=2) as client:
        yield client


def squares(zone: int, count: int, side: float, step: float) -> gpd.GeoDataFrame:
    """A row of squares over a zone's images, from 10 m inside their upper left corner."""
    x, y = ZONES[zone]
    boxes = [
        shapely.box(x + 10 + k * step, y - 10 - side, x + 10 + k * step + side, y - 10)
        for k in range(count)
    ]
    return gpd.GeoDataFrame(geometry=boxes, crs=f"EPSG:326{zone}").to_crs("EPSG:4326")


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory, threads: Any) -> RegionRun:
    """Footprints in two zones, two districts, and a scene that fails."""
    folder = tmp_path_factory.mktemp("report")
    pairs = [
        (name, *write_pair(folder, name, zone, col))
        for name, zone, col in (("a", 36, 0), ("b", 36, 1), ("c", 37, 0))
    ]
    deep = texture(640, 640, 3).astype(np.uint16)
    from affine import Affine

    place = Affine(GSD, 0, ZONES[37][0] + 600, 0, -GSD, ZONES[37][1])
    files = [
        write_raster(folder / f"d-{when}.tif", deep, "EPSG:32637", place)
        for when in ("pre", "post")
    ]
    pairs.append(("d", *files))
    footprints = pd.concat([squares(36, 26, 15, 20), squares(37, 14, 15, 20)])
    footprints["osm_id"] = [f"w{k}" for k in range(len(footprints))]
    footprints.to_file(folder / "footprints.gpkg")
    districts = gpd.GeoDataFrame(
        {"title": [HOSTILE, "South"]},
        geometry=[
            shapely.buffer(squares(36, 1, 200, 1).geometry.iloc[0], 0.0002),
            squares(37, 1, 4000, 1).geometry.iloc[0],
        ],
        crs="EPSG:4326",
    )
    districts.to_file(folder / "districts.geojson")
    file = write_region(
        folder,
        pairs,
        assess='method = "difference"\nchunk = 256\nfootprints = "footprints.gpkg"',
        districts='path = "districts.geojson"\ncolumn = "title"',
    )
    return run_region(file, client=threads)


def test_districts_count_the_buildings_whose_anchor_they_hold(region: RegionRun) -> None:
    assert region.exit_code == 4
    totals = region.districts.set_index("district")
    assert list(totals.index) == [
        f"'{HOSTILE}",
        "South",
        ELSEWHERE,
    ]  # no spreadsheet runs the first
    buildings = region.buildings
    assert len(buildings) == 40
    centres = buildings.to_crs("EPSG:32636").centroid.to_crs("EPSG:4326")
    polygons = gpd.read_file(region.path.parent / "districts.geojson")
    for (_, row), shape in zip(totals.iloc[:2].iterrows(), polygons.geometry, strict=True):
        inside = buildings[centres.within(shape)]
        assert row["buildings"] == len(inside)
        known = inside["damage_class"].value_counts()
        assert [row[name] for name in CODES] == [known.get(k, 0) for k in (1, 2, 3, 4, 5, 255)]
    assert totals["buildings"].sum() == 40
    assert totals.loc[ELSEWHERE, "buildings"] > 0


def test_what_a_district_has_and_no_scene_saw_is_not_analysed(region: RegionRun) -> None:
    polygons = gpd.read_file(region.path.parent / "districts.geojson").geometry
    totals = region.districts
    geod = Geod(ellps="WGS84")
    cores = gpd.read_file(region.path / "buildings.gpkg", layer="scenes").to_crs("EPSG:4326")
    good = shapely.union_all(cores[cores["state"] == "done"].geometry)
    for k, shape in enumerate(polygons):
        area = abs(geod.geometry_area_perimeter(shape)[0]) / 1e6
        seen = abs(geod.geometry_area_perimeter(shapely.intersection(shape, good))[0]) / 1e6
        assert totals.loc[k, "area_km2"] == pytest.approx(area, rel=1e-3)
        assert totals.loc[k, "analysed_km2"] == pytest.approx(seen, rel=2e-3)
        assert totals.loc[k, "not_analysed_km2"] == pytest.approx(area - seen, rel=5e-3)


@pytest.mark.parametrize(
    ("set_aside", "by_class", "has_buildings", "paint"),
    [
        (0, {1: 3}, True, "s0"),
        (0, {}, True, "s0"),
        (1, {}, True, "unseen"),
        (1, {255: 7}, True, "unseen"),
        (0, {255: 7}, True, "unseen"),
        (1, {1: 3, 255: 7}, True, "s0"),
        (1, {}, False, "unseen"),
        (0, {}, False, "s0"),
        (1, {5: 2}, False, "found"),
    ],
)
def test_what_was_not_seen_is_never_painted_as_undamaged(
    set_aside: int, by_class: dict[int, int], has_buildings: bool, paint: str
) -> None:
    ground = shapely.box(35, 36, 35.1, 36.1)
    image = CatalogImage("i.tif", "i", None, None, ground)
    pair = ScenePair("s", image, image, ground, "")
    facts = {"state": "quarantined" if set_aside else "done", "quarantined": set_aside}
    assert scene_row(pair, facts, by_class, has_buildings, None).paint == paint


def test_a_building_counts_in_each_district_that_holds_it() -> None:
    left, right = shapely.box(0, 0, 2, 1), shapely.box(1, 0, 3, 1)
    totals = DistrictTotals(_districts([left, right]), [])
    rows = table([shapely.box(0, 0, 1, 1)] * 4, [1, 4, 255, 3], BUILDING_COLUMNS)
    anchors = np.array([[0.5, 0.5], [1.5, 0.5], [2.5, 0.5], [9.0, 9.0]])
    totals.buildings(rows, anchors)
    found = totals.table(buildings=True)
    assert list(found["buildings"]) == [2, 2, 1]
    assert list(found["destroyed"]) == [1, 1, 0]
    assert list(found["damaged_share"]) == [0.5, 1.0, 1.0]
    assert list(found["district"]) == ["A", "B", ELSEWHERE]


def _districts(shapes: list[Any]) -> Any:
    from aftermap.cluster.regions.districts import Districts

    return Districts(["A", "B"][: len(shapes)], np.array(shapes, object))


@pytest.mark.parametrize(
    ("content", "column", "words"),
    [
        ("nothing at all", "name", "cannot be read"),
        ('{"type": "FeatureCollection", "features": []}', "name", "column|no polygon|none"),
        (
            '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": '
            '{"name": 1}, "geometry": {"type": "Point", "coordinates": [36, 37]}}]}',
            "name",
            "none of them is a polygon",
        ),
        (
            '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": '
            '{"name": 1}, "geometry": {"type": "Point", "coordinates": [36, 37]}}]}',
            "title",
            "column = 'title'.*it has name",
        ),
    ],
)
def test_what_are_no_districts_is_refused(
    tmp_path: Path, content: str, column: str, words: str
) -> None:
    file = tmp_path / "districts.geojson"
    file.write_text(content)
    with pytest.raises(Refused, match=words):
        read_districts(file, column)


def test_a_region_in_which_nothing_could_be_analysed_tells_what_its_method_would(
    tmp_path: Path, threads: Any
) -> None:
    """A binary method without footprints knows damage areas, and no share of buildings."""
    pre, post = write_pair(tmp_path, "a", 36, 0)
    with rasterio.open(post) as source:
        place = source.transform
    post.unlink()
    write_raster(post, np.zeros((3, 640, 640), np.uint8), "EPSG:32636", place, nodata=0)
    squares(36, 1, 200, 1).assign(name="All").to_file(tmp_path / "districts.gpkg")
    file = write_region(tmp_path, [("a", pre, post)], districts='path = "districts.gpkg"')
    run = run_region(file, client=threads)
    assert dict(run.counts) == {"nothing": 1}
    assert "damage_areas" in run.districts
    assert "buildings" not in run.districts
    words = Page(run.report.read_text()).words
    assert "Damage areas" in words
    assert "Damaged share" not in words


class Page(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_report_is_one_file_that_loads_nothing(region: RegionRun) -> None:
    text = region.report.read_text()
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "img", "link", "iframe", "object"}
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "style" not in {name for _, attributes in page.tags for name in attributes}
    links = {a["href"] for tag, a in page.tags if tag == "a"}
    assert links == {f"scenes/{name}/report.html" for name in "abc"}
    assert all((region.path / str(link)).is_file() for link in links)
    assert "http" not in text.replace("http-equiv", "")


def test_the_report_tells_totals_districts_failures_and_choices(region: RegionRun) -> None:
    page = Page(region.report.read_text())
    words = re.sub(r"\s+", " ", page.words)
    assert "1 of 4 scenes failed" in words
    assert "uint16" in words
    assert HOSTILE in words
    assert "Given as a pair in the list." in words
    assert "damage-32636.vrt" in words
    cores = [a for tag, a in page.tags if tag == "path" and "core" in str(a["class"])]
    assert len(cores) == 4
    assert sum("failed" in str(a["class"]) for a in cores) == 1


def test_the_map_is_true_to_scale_and_turns_the_right_way() -> None:
    box = shapely.box(36.0, 60.0, 36.2, 60.1)  # 11.1 km wide and high
    frame = Frame.around([box])
    assert frame.height == pytest.approx(frame.width, rel=0.06)
    south = frame.outline(shapely.box(36.0, 60.0, 36.2, 60.01))
    west = frame.outline(shapely.box(36.0, 60.0, 36.02, 60.1))
    assert south.y > frame.height * 0.8
    assert west.x < frame.width * 0.2
    length, name = frame.scale_bar()
    assert name == "1 km"
    assert length * frame.metres == pytest.approx(1000, rel=0.01)


def test_the_map_holds_together_across_the_antimeridian() -> None:
    east, west = shapely.box(179.9, -17, 180, -16.9), shapely.box(-180, -17, -179.9, -16.9)
    frame = Frame.around([shapely.union_all([east, west])])
    assert frame.metres < 100
    image = CatalogImage("i.tif", "i", None, None, east)
    pair = ScenePair("s", image, image, shapely.union_all([east, west]), "")
    assert "M" in frame.outline(pair.core).path
