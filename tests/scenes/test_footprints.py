"""Footprints of every sort are read, repaired or listed, and refused only when none is left."""

import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from aftermap.scenes import footprint_file
from aftermap.scenes.errors import Refused
from aftermap.scenes.footprints import open_footprints
from odc.geo.geobox import GeoBox

WEST, NORTH = 316000.0, 4162000.0
GRID = GeoBox((200, 300), Affine(0.5, 0, WEST, 0, -0.5, NORTH), "EPSG:32637")


GML = """<?xml version="1.0"?>
<c:collection xmlns:c="urn:c" xmlns:gml="http://www.opengis.net/gml">
<gml:featureMember><c:house fid="h1"><c:id>7</c:id><c:shape>
<gml:Polygon srsName="EPSG:32637"><gml:exterior><gml:Ring><gml:curveMember><gml:Curve><gml:segments>
<gml:Arc><gml:posList>{x0} {y0} {xm} {up} {x1} {y0}</gml:posList></gml:Arc>
<gml:Arc><gml:posList>{x1} {y0} {xm} {down} {x0} {y0}</gml:posList></gml:Arc>
</gml:segments></gml:Curve></gml:curveMember></gml:Ring></gml:exterior></gml:Polygon>
</c:shape></c:house></gml:featureMember></c:collection>"""
"""A round house of 10 m, in arcs."""


@dataclass(frozen=True)
class Footprints:
    """Everything that a file gave, block after block."""

    frame: gpd.GeoDataFrame
    problems: pd.DataFrame
    counts: Mapping[str, int]
    path: Path


def read_footprints(path: Path, grid: GeoBox) -> Footprints:
    """All blocks of a file at once."""
    file = open_footprints(path, grid)
    blocks = list(file.blocks())
    frame = gpd.GeoDataFrame(pd.concat([block.frame for block in blocks], ignore_index=True))
    told = [block.problems for block in blocks if len(block.problems)] or [blocks[0].problems]
    counts = sum((Counter(block.counts) for block in blocks), Counter())
    problems = pd.concat(told, ignore_index=True)
    return Footprints(frame, problems, file.counts(counts), path)


def box(x: float, y: float, size: float = 10) -> shapely.Polygon:
    """A square `x`, `y` metres from the grid's upper left corner."""
    return shapely.box(WEST + x, NORTH - y - size, WEST + x + size, NORTH - y)


def saved(path: Path, geometry: list, crs: str | None = "EPSG:32637", **columns: list) -> Path:
    frame = gpd.GeoDataFrame(columns, geometry=geometry, crs=crs)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    return path


def reasons(found: Footprints) -> dict[int, str]:
    return dict(zip(found.problems["position"], found.problems["reason"], strict=True))


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.fgb", "a.shp", "a.parquet"])
def test_formats_agree(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name, [box(5, 5), box(40, 40)], osm_id=[7, 8])
    found = read_footprints(path, GRID)
    # FlatGeobuf reorders features when it is written.
    assert sorted(found.frame["source_id"]) == ["7", "8"]
    assert sorted(found.frame["position"]) == [0, 1]
    assert found.frame.crs == GRID.crs.to_wkt()
    np.testing.assert_allclose(found.frame.geometry.area, 100, rtol=1e-6)
    assert found.counts["kept"] == found.counts["in_file"] == 2
    assert found.problems.empty


def test_a_zipped_shapefile_is_read(tmp_path: Path) -> None:
    saved(tmp_path / "a.shp", [box(5, 5)], id=["x"])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for part in tmp_path.glob("a.[!z]*"):
            archive.write(part, part.name)
    assert read_footprints(tmp_path / "a.zip", GRID).frame["source_id"].tolist() == ["x"]


def test_another_crs_is_moved_onto_the_grid(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    frame = gpd.GeoDataFrame({"id": [1]}, geometry=[box(20, 30)], crs="EPSG:32637")
    frame.to_crs("EPSG:4326").to_file(path)
    found = read_footprints(path, GRID)
    assert found.frame.geometry[0].hausdorff_distance(box(20, 30)) < 1e-3


def test_what_is_wrong_is_repaired_or_listed(tmp_path: Path) -> None:
    x, y = WEST + 50, NORTH - 50
    bow = shapely.Polygon([(x, y), (x + 10, y - 10), (x + 10, y), (x, y - 10)])
    high = shapely.force_3d(box(5, 5), 12.0)
    mixed = shapely.GeometryCollection([box(100, 5), shapely.Point(x, y)])
    line = shapely.LineString([(x, y), (x + 5, y)])
    flat = shapely.Polygon([(x, y), (x + 5, y), (x, y)])
    shapes = [high, bow, None, shapely.Point(x, y), line, flat, shapely.Polygon(), mixed]
    shapes += [box(20, 20), box(900, 900)]
    ids = [f"b{k}" for k in range(8)] + ["b0", "far"]
    path = saved(tmp_path / "a.geojson", shapes, id=ids)

    found = read_footprints(path, GRID)

    assert found.frame["position"].tolist() == [0, 1, 7, 8]
    assert not found.frame.geometry.has_z.any()
    assert found.frame.geometry.is_valid.all()
    told = reasons(found)
    assert told[1].startswith("invalid")
    assert told[2] == "no geometry"
    assert told[3] == "a Point, not a polygon"
    assert told[4] == "a LineString, not a polygon"
    assert told[5] == "no area"
    assert "empty" in told[6] or "no geometry" in told[6]
    assert told[7] == "a collection; its polygons were kept"
    assert told[8] == "id used before; kept"
    assert dict(found.counts) == {
        "in_file": 10,
        "kept": 4,
        "repaired": 2,
        "left_out": 5,
        "outside": 1,
        "duplicate_ids": 1,
    }


def test_a_large_file_is_read_around_the_grid_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footprint_file, "WHOLE_FILE", 5)
    shapes = [box(5000 + 20 * k, 0) for k in range(20)]
    shapes[11], shapes[17] = box(10, 10), box(60, 60)
    path = saved(tmp_path / "a.gpkg", shapes, name=[f"n{k}" for k in range(20)])
    found = read_footprints(path, GRID)
    assert found.frame["position"].tolist() == [11, 17]
    assert found.counts["outside"] == 18
    assert found.frame["source_id"].tolist() == ["12", "18"]  # GeoPackage numbers from 1


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.shp", "a.parquet"])
def test_blocks_add_up_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    shapes = [box(5 + 4 * (k % 30), 5 + 4 * (k // 30), 3) for k in range(50)]
    shapes[:8] = [box(900, 900)] * 8  # a block of which nothing is kept
    shapes[20] = shapely.Polygon([(WEST, NORTH), (WEST + 9, NORTH - 9), (WEST + 9, NORTH), (WEST, NORTH - 9)])  # fmt: skip
    ids = [k % 40 for k in range(50)]
    path = saved(tmp_path / name, shapes, osm_id=ids)
    whole = read_footprints(path, GRID)
    monkeypatch.setattr(footprint_file, "BLOCK", 7)
    file = open_footprints(path, GRID)
    sizes = [len(block.frame) for block in file.blocks()]
    assert len(sizes) >= 7
    assert (min(sizes), max(sizes)) == (0, 7)
    cut = read_footprints(path, GRID)
    assert cut.frame.equals(whole.frame)
    assert cut.problems.equals(whole.problems)
    assert cut.counts == whole.counts
    assert cut.counts["duplicate_ids"] == 2
    assert cut.frame["source_id"].tolist() == [str(k) for k in ids[8:]]


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32636", "EPSG:3035", "EPSG:4978"])
def test_any_crs_on_the_ground_lands_in_the_same_place(tmp_path: Path, crs: str) -> None:
    frame = gpd.GeoDataFrame({"id": [1, 2]}, geometry=[box(20, 30), box(60, 5)], crs="EPSG:32637")
    path = tmp_path / "a.parquet"
    if crs == "EPSG:4978":  # metres from the middle of the earth: no map
        frame.set_crs(crs, allow_override=True).to_parquet(path)
        with pytest.raises(Refused, match=r"cannot be placed|overlaps"):
            read_footprints(path, GRID)
        return
    frame.to_crs(crs).to_parquet(path)
    found = read_footprints(path, GRID).frame.geometry.to_numpy()
    assert shapely.hausdorff_distance(found, frame.geometry.to_numpy()).max() < 0.01


def test_an_area_without_footprints_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.gpkg", [box(5, 5), box(40, 40)], id=[1, 2])
    found = open_footprints(path, GRID, box(38, 38, 4))
    (block,) = found.blocks()
    assert block.frame["position"].tolist() == [1]
    with pytest.raises(Refused, match=r"None of the 2 footprints .* lies in the area"):
        open_footprints(path, GRID, box(100, 60))


def test_a_house_on_the_antimeridian_is_cut_and_does_not_span_the_earth(tmp_path: Path) -> None:
    jump = shapely.Polygon([(179.9999, -16), (-179.9999, -16), (-179.9999, -16.0002), (179.9999, -16.0002)])  # fmt: skip
    split = shapely.MultiPolygon(
        [shapely.box(179.9999, -16.001, 180, -16.0008), shapely.box(-180, -16.001, -179.9999, -16.0008)]
    )  # fmt: skip
    path = saved(tmp_path / "a.geojson", [jump, split], "EPSG:4326", id=[1, 2])
    grid = GeoBox.from_bbox((176.0, -18.0, 178.0, -15.0), "EPSG:4326", resolution=0.01)
    with pytest.raises(Refused, match="None of the 2 footprints"):
        read_footprints(path, grid)  # it lies two degrees away, and not on every meridian
    beside = GeoBox.from_bbox((179.0, -16.01, 180.0, -15.99), "EPSG:4326", resolution=0.0001)
    found = read_footprints(path, beside)
    assert reasons(found) == {0: "crosses the antimeridian; cut there"}
    np.testing.assert_allclose(found.frame.geometry.area, 2e-4 * 2e-4, rtol=1e-6)
    # Fiji's own grid goes across: there the house is whole.
    fiji = GeoBox.from_bbox((2_000_000, 3_900_000, 2_300_000, 4_300_000), "EPSG:3460", resolution=100)  # fmt: skip
    areas = shapely.area(read_footprints(path, fiji).frame.geometry.to_numpy())
    metres = gpd.GeoSeries([shapely.box(-1e-4, -16.0002, 1e-4, -16)], crs="EPSG:4326")
    truth = metres.to_crs("EPSG:6933").area[0]  # equal area, and the same width at any longitude
    np.testing.assert_allclose(areas, truth, rtol=2e-3)


def test_ids_keep_their_digits(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.gpkg", [box(5, 5), box(20, 5)], uid=[2**60 + 1, 7])
    assert read_footprints(path, GRID).frame["source_id"].tolist() == [str(2**60 + 1), "7"]
    path = saved(tmp_path / "b.gpkg", [box(5, 5), box(20, 5)], uid=[1.5, 2.0])
    assert read_footprints(path, GRID).frame["source_id"].tolist() == ["1.5", "2"]


def test_arcs_become_chains(tmp_path: Path) -> None:
    x, y = WEST + 50, NORTH - 50
    gml = GML.format(x0=x, y0=y, x1=x + 10, xm=x + 5, up=y + 5, down=y - 5)
    path = tmp_path / "a.gml"
    path.write_text(gml)
    found = read_footprints(path, GRID)
    np.testing.assert_allclose(found.frame.geometry.area, np.pi * 25, rtol=2e-3)


def test_the_layer_named_buildings_wins(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    for layer, shape in (("roads", box(0, 0)), ("Buildings", box(30, 30))):
        gpd.GeoDataFrame({"id": [1]}, geometry=[shape], crs="EPSG:32637").to_file(path, layer=layer)
    assert read_footprints(path, GRID).frame.geometry[0].equals(box(30, 30))


def test_whole_numbers_stored_as_floats_stay_whole(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.gpkg", [box(5, 5), box(20, 5)], osm_id=[7.0, np.nan])
    ids = read_footprints(path, GRID).frame["source_id"]
    assert ids[0] == "7"
    assert ids.isna().tolist() == [False, True]


def test_no_overlap_is_refused_with_counts_and_both_extents(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.gpkg", [box(9000, 0), box(9020, 0)], id=[1, 2])
    with pytest.raises(Refused, match="None of the 2 footprints") as refusal:
        read_footprints(path, GRID)
    text = str(refusal.value)
    assert "325000 to 325030" in text
    assert "316000 to 316150" in text
    assert "EPSG:32637" in text
    assert "EPSG:4326" in text
    assert "--footprints" in text
    assert refusal.value.exit_code == 3


def test_no_usable_polygon_is_refused_with_the_reasons(tmp_path: Path) -> None:
    point = shapely.Point(WEST + 5, NORTH - 5)
    path = saved(tmp_path / "a.geojson", [point, point, None], id=[1, 2, 3])
    with pytest.raises(Refused, match=r"Of the 3 features.*2 x a Point, not a polygon"):
        read_footprints(path, GRID)


@pytest.mark.parametrize(
    "text",
    ["https://example.org/a.geojson", "/vsicurl/https://example.org/a", "/vsizip/a.zip", "WFS:/x"],
)
def test_network_and_virtual_paths_are_refused(text: str) -> None:
    with pytest.raises(Refused, match="not a local file"):
        read_footprints(Path(text), GRID)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"footprint file .* does not exist"):
        read_footprints(tmp_path / "none.gpkg", GRID)


@pytest.mark.parametrize("name", ["a.vrt", "a.geojson"])
def test_a_file_that_points_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("\n<OGRVRTDataSource><OGRVRTLayer name='x'/></OGRVRTDataSource>")
    with pytest.raises(Refused, match="points at other data"):
        read_footprints(path, GRID)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, name)
    with pytest.raises(Refused, match="points at other data"):
        read_footprints(tmp_path / "a.zip", GRID)


def test_no_crs_and_no_vector_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.shp", [box(5, 5)], crs=None, id=[1])
    with pytest.raises(Refused, match="do not say which CRS"):
        read_footprints(path, GRID)
    text = tmp_path / "a.gpkg"
    text.write_text("not a database")
    with pytest.raises(Refused, match="could not be read as a vector file"):
        read_footprints(text, GRID)
    empty = tmp_path / "b.geojson"
    empty.write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(Refused, match="--footprints"):
        read_footprints(empty, GRID)
