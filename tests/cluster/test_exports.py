"""Exports are what the formats' own readers take, say what they leave out, and appear whole."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import math
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely
from aftermap.cluster import formats
from aftermap.cluster.client import connected
from aftermap.cluster.exports import Exported, export
from aftermap.cluster.formats import ABOUT, FORMATS
from aftermap.scenes import lonlat, shapefile
from aftermap.scenes.errors import AftermapError, Refused, UsageError
from aftermap.scenes.legend import entry
from aftermap.scenes.synth import Synth, write
from aftermap.scenes.vectors import read_blocks
from aftermap.scenes.xbd import read_labels, read_xbd
from aftermap.scenes.xbd_tiles import XbdTiles
from pmtiles.reader import MmapSource, Reader
from pycocotools.coco import COCO
from pyproj import Transformer
from runs import GSD, HOSTILE, SHAPE, areas, buildings, finished_run, table
from typer.testing import CliRunner

import aftermap as am
from aftermap.cli import app

TO_DEGREES = Transformer.from_crs("EPSG:32637", "EPSG:4326", always_xy=True)


@pytest.fixture(scope="session")
def assessed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run of the default method on a synthetic scene."""
    folder = tmp_path_factory.mktemp("assessed")
    scene = write(folder / "scene", Synth(size=512, seed=6))
    with connected("threads", workers=1) as client:
        run = am.assess(scene.pre, scene.post, out=folder / "run", client=client)
    assert len(run.buildings) > 10
    return run.path


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A run whose table holds every code and much that is hostile."""
    return finished_run(tmp_path / "run", buildings())


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """A run of a method that finds areas."""
    return finished_run(tmp_path / "bin", found=areas())


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A run that found no building at all."""
    return finished_run(tmp_path / "bare", buildings().iloc[:0])


def digest(path: Path) -> str:
    """Of a file, or of all files in a folder."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    named = [(str(p.relative_to(path)), hashlib.sha256(p.read_bytes()).hexdigest()) for p in files]
    return str(named)


def _folder(path: Path) -> Path:
    path.mkdir()
    (path / "x").touch()
    return path


def in_degrees(shape: shapely.Geometry) -> shapely.Geometry:
    return shapely.transform(shape, lambda xy: np.column_stack(TO_DEGREES.transform(*xy.T)))


def same_ground(one: Any, other: Any, tolerance: float = 2e-7) -> bool:
    """Whether two shapes are the same but for rounding."""
    return one.is_valid and one.hausdorff_distance(other) < tolerance


@pytest.mark.parametrize("to", FORMATS)
def test_a_real_run_goes_out_in_every_format_and_gives_the_same_bytes_twice(
    assessed: Path, to: str, tmp_path: Path
) -> None:
    suffix = FORMATS[to].suffixes[0] if FORMATS[to].suffixes else ""
    seen = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        done = export(assessed, to, tmp_path / name / f"out{suffix}")
        assert done.path.exists()
        assert max(done.counts.values()) >= len(gpd.read_parquet(assessed / "buildings.parquet"))
        assert done.left_out
        seen.add(digest(done.path))
        assert [p.name for p in (tmp_path / name).iterdir()] == [f"out{suffix}"]
    assert len(seen) == 1


@pytest.mark.parametrize("to", [name for name in FORMATS if name != "pmtiles"])
def test_a_run_without_buildings_gives_an_empty_file(bare: Path, to: str) -> None:
    done = export(bare, to)
    assert done.path.exists()
    counts = {k: v for k, v in done.counts.items() if k not in ("layers", "images", "cells_500m")}
    assert set(counts.values()) == {0}


def test_empty_tiles_are_refused(bare: Path) -> None:
    with pytest.raises(Refused, match="found no buildings"):
        export(bare, "pmtiles")


def test_the_default_place_is_beside_the_run(odd: Path) -> None:
    assert export(odd, "csv").path == odd.parent / "run-csv.csv"
    assert export(odd, "xbd").path == odd.parent / "run-xbd"


def test_geojson_is_rfc_7946(odd: Path) -> None:
    done = export(odd, "geojson")
    text = done.path.read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert "crs" not in found
    assert found["aftermap"]["by_class"]["Not analysed"] == 1
    assert [f["properties"]["source_id"] for f in found["features"]] == list(HOSTILE)
    assert found["features"][5]["properties"]["p_none"] is None
    for feature, wanted in zip(found["features"], buildings().geometry, strict=True):
        assert same_ground(shapely.geometry.shape(feature["geometry"]), in_degrees(wanted))
        for rings in feature["geometry"]["coordinates"]:
            assert [shapely.LinearRing(ring).is_ccw for ring in rings] == [
                True,
                *[False] * (len(rings) - 1),
            ]
            for x, y in (point for ring in rings for point in ring):
                assert round(x, 7) == x
                assert round(y, 7) == y


def test_csv_gives_no_formula_to_a_spreadsheet_and_every_value_to_a_reader(odd: Path) -> None:
    done = export(odd, "csv")
    with done.path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["source_id"] for row in rows] == [
        f"'{HOSTILE[0]}",
        *HOSTILE[1:5],
        "",
    ]
    assert [int(row["damage_class"]) for row in rows] == [1, 2, 3, 4, 5, 255]
    assert rows[5]["damage_name"] == "Not analysed"
    assert rows[5]["p_none"] == rows[5]["damage_score"] == ""
    for row, wanted in zip(rows, buildings().geometry, strict=True):
        shape = shapely.from_wkt(row["wkt"])
        assert same_ground(shape, in_degrees(wanted))
        assert shape.contains(shapely.Point(float(row["lon"]), float(row["lat"])))


def test_flatgeobuf_is_indexed_and_complete(odd: Path) -> None:
    done = export(odd, "flatgeobuf")
    assert done.path.read_bytes()[:4] == b"fgb\x03"
    info = pyogrio.read_info(done.path)
    assert (info["crs"], info["features"], info["geometry_type"]) == (
        "EPSG:32637",
        6,
        "MultiPolygon",
    )
    back = gpd.read_file(done.path).set_index("building_id").sort_index()
    wanted = buildings().set_index("building_id")
    assert back.geometry.geom_equals(wanted.geometry).all()
    assert back["damage_class"].tolist() == [1, 2, 3, 4, 5, 255]
    assert back["source_id"].tolist()[:5] == list(HOSTILE[:5])
    assert math.isnan(back["p_none"].iloc[5])
    near = gpd.read_file(done.path, bbox=tuple(wanted.geometry.iloc[3].bounds))
    assert near["building_id"].tolist() == ["post-r3c0"]


@pytest.mark.parametrize("name", ["map.zip", "map"])
def test_shapefiles_keep_text_names_and_place(odd: Path, tmp_path: Path, name: str) -> None:
    done = export(odd, "shapefile", tmp_path / name)
    folder = done.path
    if name == "map.zip":
        with zipfile.ZipFile(done.path) as archive:
            assert archive.testzip() is None
            archive.extractall(tmp_path / "out")
        folder = tmp_path / "out"
    assert (folder / "buildings.cpg").read_text() == "UTF-8"
    assert "UTM_Zone_37N" in (folder / "buildings.prj").read_text()
    back = gpd.read_file(folder / "buildings.shp")
    assert back.crs == "EPSG:32637"
    assert all(len(column) <= 10 for column in back.columns.drop("geometry"))
    assert back["dmg_class"].tolist() == [1, 2, 3, 4, 5, 255]
    assert back["source_id"].tolist()[:5] == list(HOSTILE[:5])
    for shape, wanted in zip(back.geometry, buildings().geometry, strict=True):
        assert shape.equals(wanted)
    said = json.loads((folder / ABOUT).read_text())
    assert list(said["fields"].values()) == list(back.columns.drop("geometry"))
    assert set(said["fields"]) | set(said["same_in_every_row"]) | {"geometry"} == set(
        buildings().columns
    )
    assert said["same_in_every_row"]["post_image"] == "nach Beben"
    assert gpd.read_file(folder / "not_analysed.shp")["reason"].tolist() == ["cloud"]


def test_a_shapefile_that_would_be_too_large_is_refused(
    odd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapefile, "LIMIT", 600)
    with pytest.raises(Refused, match="flatgeobuf"):
        export(odd, "shapefile")
    assert [p.name for p in odd.parent.iterdir()] == ["run"]


def test_long_text_is_cut_in_shapefiles_and_said(tmp_path: Path) -> None:
    frame = buildings()
    frame["source_id"] = "ü" * 200
    done = export(finished_run(tmp_path / "run", frame), "shapefile", tmp_path / "map")
    assert gpd.read_file(done.path / "buildings.shp")["source_id"].tolist() == ["ü" * 127] * 6
    assert any("6 texts" in note for note in done.left_out)


def test_pmtiles_by_its_own_reader(odd: Path) -> None:
    done = export(odd, "pmtiles")
    with done.path.open("rb") as file:
        reader = Reader(MmapSource(file))
        header, metadata = reader.header(), reader.metadata()
        assert (header["min_zoom"], header["max_zoom"]) == (8, 16)
        assert header["tile_type"].name == "MVT"
        west, south, east, north = (
            header[f"{k}_e7"] / 1e7 for k in ("min_lon", "min_lat", "max_lon", "max_lat")
        )
        bounds = shapely.box(west, south, east, north).buffer(1e-6)
        point = in_degrees(buildings().geometry.iloc[3].centroid)
        assert bounds.covers(point)
        layer = metadata["vector_layers"][0]
        assert layer["id"] == "buildings"
        assert {"building_id", "damage_class", "damage_name"} <= set(layer["fields"])
        n = 2**16
        x = int((point.x + 180) / 360 * n)
        y = int((1 - math.asinh(math.tan(math.radians(point.y))) / math.pi) / 2 * n)
        tile = gzip.decompress(reader.get(16, x, y))
    assert b"post-r3c0" in tile
    assert b"Destroyed" in tile
    back = gpd.read_file(done.path)
    assert set(back["building_id"]) == set(buildings()["building_id"])


def test_xbd_round_trip_keeps_shapes_classes_and_uids(odd: Path) -> None:
    done = export(odd, "xbd")
    unreadable: list[str] = []
    labels = list(read_labels(sorted((done.path / "labels").iterdir()), unreadable))
    assert not unreadable
    assert [label.problems for label in labels] == [()] * len(labels)
    names = [label.path.stem for label in labels]
    assert names == sorted(names)
    assert names[0] == "nach-Beben_00000000_post_disaster"
    back: dict[str, tuple[int, shapely.Geometry, shapely.Geometry]] = {}
    for label in labels:
        place = label.metadata["aftermap"]
        a, _, c, _, e, f = place["transform"]
        for each in label.buildings:
            assert each.uid not in back
            on_map = shapely.transform(each.xy, lambda xy: xy * (a, e) + (c, f))  # noqa: B023
            back[each.uid] = each.damage_class, on_map, each.lng_lat
    wanted = buildings()
    tiles = XbdTiles(None, "", "0123456789abcdef")  # type: ignore[arg-type]
    assert len(back) == 6
    for _, row in wanted.iterrows():
        code, on_map, degrees = back[tiles.uid(row["building_id"])]
        assert code == (255 if row["damage_class"] == 5 else row["damage_class"])
        assert on_map.normalize().equals_exact(
            shapely.get_parts(row.geometry)[0].normalize()
            if len(row.geometry.geoms) == 1
            else row.geometry.normalize(),
            1e-6 * GSD,
        )
        assert same_ground(degrees, in_degrees(row.geometry), 1e-8)
    # The box from column 1020 to 1080 lies across the border at 1024, with its middle beyond.
    at_border = next(label for label in labels if label.metadata["aftermap"]["col"] == 1024)
    assert any(each.xy.bounds[0] == pytest.approx(1020 - 1024) for each in at_border.buildings)
    assert at_border.size == (1024, 1024)
    last = labels[-1].metadata
    assert (last["height"], last["width"]) == (SHAPE[0] - 1024, 1024)
    assert any("un-classified in xBD: damaged, level" in note for note in done.left_out)


def test_xbd_pixels_and_degrees_are_the_same_place(assessed: Path, tmp_path: Path) -> None:
    done = export(assessed, "xbd", tmp_path / "labels")
    (label,) = (read_xbd(path) for path in sorted((done.path / "labels").iterdir()))
    xy = np.concatenate([shapely.get_coordinates(b.xy.centroid) for b in label.buildings])
    lng_lat = np.concatenate([shapely.get_coordinates(b.lng_lat.centroid) for b in label.buildings])
    fit, *_ = np.linalg.lstsq(np.column_stack([xy, np.ones(len(xy))]), lng_lat, rcond=None)
    left = np.abs(np.column_stack([xy, np.ones(len(xy))]) @ fit - lng_lat)
    assert left.max() < 1e-7


def test_cems_columns_grades_and_sources(odd: Path) -> None:
    done = export(odd, "cems")
    assert dict(pyogrio.list_layers(done.path).tolist()) == {
        "builtUpA_v1": "MultiPolygon",
        "areaOfInterestA_v1": "MultiPolygon",
        "notAnalysedA_v1": "MultiPolygon",
        "source_v1": None,
        "layer_styles": None,
    }
    built = gpd.read_file(done.path, layer="builtUpA_v1")
    assert built.crs == "EPSG:4326"
    assert list(built.columns)[:9] == [
        "obj_type",
        "name",
        "info",
        "damage_gra",
        "det_method",
        "notation",
        "or_src_id",
        "dmg_src_id",
        "cd_value",
    ]
    assert built["damage_gra"].tolist() == [
        "No visible damage",
        "Possibly damaged",
        "Damaged",
        "Destroyed",
        "Damaged",
        "Not Analysed",
    ]
    assert set(built["det_method"]) == {"Automatic extraction"}
    sources = gpd.read_file(done.path, layer="source_v1").set_index("src_id")
    assert sources.loc[built["dmg_src_id"].iloc[0], "source_nam"] == "nach Beben"
    assert sources.loc[built["dmg_src_id"].iloc[0], "src_date"] == "08/02/2023"
    assert sources.loc[built["dmg_src_id"].iloc[0], "sensor_gsd"] == "0.5 m"
    assert sources.loc[built["dmg_src_id"].iloc[0], "files"] == 2
    assert sources.loc[built["or_src_id"].iloc[0], "source_nam"].endswith("footprints.gpkg")
    assert sources["eventphase"].tolist() == ["Pre-event", "Post-event", "Not applicable"]
    assert any("not graded" in note for note in done.left_out)
    assert len(gpd.read_file(done.path, layer="notAnalysedA_v1")) == 1


def test_unosat_cells_count_what_lies_in_them(odd: Path) -> None:
    done = export(odd, "unosat")
    sites = gpd.read_file(done.path, layer="damage_sites")
    assert set(sites.geom_type) == {"Point"}
    numbers = sites["Main_Damage_Site_Class"]
    assert numbers.tolist()[:5] == [6, 3, 2, 1, 13]
    assert numbers.isna().tolist() == [False] * 5 + [True]
    outlines = gpd.GeoSeries(list(map(in_degrees, buildings().geometry)), crs=4326)
    assert outlines.contains(sites.geometry).all()
    cells = gpd.read_file(done.path, layer="cells_500m")
    assert cells.crs == "EPSG:32637"
    assert (cells.area == 500**2).all()
    assert (cells.bounds % 500 == 0).all().all()
    # The grid is 1250 x 750 m from (316000, 4162000): three cells by two, the upper row whole.
    assert len(cells) == 6
    joined = gpd.sjoin(sites.to_crs(cells.crs), cells, predicate="within")
    per_cell = joined.groupby("cell_id")["SiteID"].count()
    counted = cells.set_index("cell_id")["sites"]
    assert counted[counted > 0].to_dict() == per_cell.to_dict()
    by_id = cells.set_index("cell_id")
    # Only the unseen building lies in the lower left cell.
    assert by_id.loc["E316000N4161000", "not_analysed"] == 1
    assert math.isnan(by_id.loc["E316000N4161000", "damaged_share"])
    assert by_id.loc["E316000N4161000", "worst"] == "Not analysed"
    # Upper left: column 0-1000 px; only the undamaged one.
    assert by_id.loc["E316000N4161500", "damaged_share"] == 0.0
    assert by_id.loc["E316500N4161500", "damaged_share"] == 1.0
    assert by_id.loc["E316000N4161500", "seen_share"] == 1.0
    # Half of the lower cells lies below the grid, 130 x 130 m of the left one were not seen.
    assert by_id.loc["E316000N4161000", "seen_share"] == pytest.approx(
        0.5 - 130**2 / 500**2, abs=1e-3
    )


def test_unosat_gives_no_share_where_undamaged_buildings_were_not_counted(binary: Path) -> None:
    done = export(binary, "unosat")
    cells = gpd.read_file(done.path, layer="cells_500m")
    assert cells["damage"].sum() == 3
    assert cells["damaged_share"].isna().all()
    assert any("shares" in note for note in done.left_out)


def test_unosat_gives_no_share_where_most_buildings_were_not_analysed(tmp_path: Path) -> None:
    shapes = [*buildings().geometry[:1]] * 5
    columns = tuple(buildings().columns)
    for codes, share in (([4, 1, 255, 255, 255], None), ([4, 1, 1, 255, 255], 1 / 3)):
        folder = tmp_path / str(share)
        folder.mkdir()
        done = export(finished_run(folder / "run", table(shapes, codes, columns)), "unosat")
        cells = gpd.read_file(done.path, layer="cells_500m").set_index("cell_id")
        found = cells.loc["E316000N4161500", "damaged_share"]
        assert math.isnan(found) if share is None else found == pytest.approx(share, abs=1e-4)


def test_fema_degrees_and_confidence(odd: Path) -> None:
    done = export(odd, "fema")
    with (done.path / "damage_assessment.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["fema_degree"] for row in rows] == [
        "No visible damage",
        "Minor",
        "Major",
        "Destroyed",
        "Damaged, degree not given",
        "Not analysed",
    ]
    assert [row["confidence"] for row in rows] == ["0.7", "0.7", "0.7", "0.7", "1.0", ""]
    assert rows[0]["source_id"].startswith("'=")
    back = gpd.read_file(done.path / "damage_assessment.gpkg")
    for row, shape in zip(rows, back.geometry, strict=True):
        assert shape.contains(shapely.Point(float(row["longitude"]), float(row["latitude"])))


def test_coco_is_read_by_its_own_library(odd: Path) -> None:
    done = export(odd, "coco")
    coco = COCO(str(done.path))
    assert coco.getCatIds() == [1, 2, 3, 4, 5, 255]
    (image,) = coco.loadImgs(coco.getImgIds())
    assert (image["height"], image["width"]) == SHAPE
    found = coco.loadAnns(coco.getAnnIds())
    assert [each["category_id"] for each in found] == [1, 2, 3, 4, 5, 255]
    assert found[5]["score"] is None
    assert found[0]["bbox"] == [10, 10, 20, 20]
    assert found[1]["area"] == 60 * 60 - 20 * 20
    mask = coco.annToMask(found[0])
    assert mask.sum() == 400
    assert mask[10:30, 10:30].all()
    # Two parts; pycocotools draws them as one, the hole of the second building is filled.
    assert coco.annToMask(found[2]).sum() == 20 * 20 + 30 * 30
    assert coco.annToMask(found[1]).sum() == 60 * 60
    assert "1 holes" in done.left_out[0]


@pytest.mark.parametrize("to", ["cems", "xbd", "fema"])
def test_areas_are_not_passed_off_as_buildings(binary: Path, to: str) -> None:
    with pytest.raises(Refused, match=r"about buildings.*3 here.*--footprints"):
        export(binary, to)


@pytest.mark.parametrize("to", ["geojson", "flatgeobuf", "shapefile", "csv", "coco", "pmtiles"])
def test_a_binary_run_gives_its_areas(binary: Path, to: str) -> None:
    done = export(binary, to)
    assert 3 in done.counts.values()


def test_what_is_no_finished_run_is_refused(odd: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not a run folder"):
        export(tmp_path / "nothing", "csv")
    record = json.loads((odd / "run.json").read_text())
    (odd / "run.json").write_text(json.dumps(record | {"state": "running"}))
    with pytest.raises(Refused, match="not finished"):
        export(odd, "csv")
    (odd / "run.json").write_text(json.dumps(record))
    (odd / "buildings.gpkg").unlink()
    with pytest.raises(Refused, match="missing"):
        export(odd, "csv")
    (odd / "run.json").write_text("{")
    with pytest.raises(Refused, match="cannot be read"):
        export(odd, "csv")


def test_places_that_do_not_fit_are_refused(odd: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no format 'kml'"):
        export(odd, "kml")
    with pytest.raises(UsageError, match=r"ends with \.csv"):
        export(odd, "csv", tmp_path / "x.txt")
    with pytest.raises(Refused, match="lies in the run folder"):
        export(odd, "csv", odd / "x.csv")
    with pytest.raises(Refused, match="can be written to"):
        export(odd, "csv", tmp_path / "gone" / "x.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_what_is_there_is_replaced_only_when_told_and_ours(odd: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("mine")
    with pytest.raises(Refused, match="--overwrite"):
        export(odd, "csv", tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == "mine"
    export(odd, "csv", tmp_path / "x.csv", overwrite=True)
    assert (tmp_path / "x.csv").read_text() != "mine"
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_text("mine")
    for to in ("xbd", "fema", "shapefile"):
        with pytest.raises(Refused, match="leaves it alone"):
            export(odd, to, photos, overwrite=True)
    with pytest.raises(Refused, match="leaves it alone"):
        export(odd, "csv", _folder(tmp_path / "dir.csv"), overwrite=True)
    assert (photos / "a.jpg").read_text() == "mine"
    first = export(odd, "xbd", tmp_path / "labels").path
    (first / "labels" / "stale.json").write_text("{}")
    export(odd, "xbd", first, overwrite=True)
    assert not (first / "labels" / "stale.json").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("to", FORMATS)
def test_an_export_that_fails_leaves_the_old_one_and_nothing_else(
    odd: Path, to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = export(odd, to)
    before, names = digest(done.path), sorted(p.name for p in tmp_path.iterdir())

    def failing(*_args: Any) -> Any:
        frames = list(read_blocks(odd / "buildings.parquet", 2))
        yield frames[0]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(formats.Finished, "blocks", failing)
    with pytest.raises(AftermapError, match="No space left"):
        export(odd, to, overwrite=True)
    assert digest(done.path) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == names


@pytest.mark.parametrize("to", ["geojson", "csv", "flatgeobuf", "coco", "xbd", "shapefile"])
def test_blocks_do_not_show(odd: Path, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = digest(export(odd, to).path)
    monkeypatch.setattr("aftermap.cluster.finished.BLOCK", 2)
    assert digest(export(odd, to, overwrite=True).path) == whole


def test_geopackages_carry_styles_for_every_value(odd: Path) -> None:
    for to, layer, column in (
        ("cems", "builtUpA_v1", "damage_gra"),
        ("unosat", "damage_sites", "Damage_Class_Name"),
        ("unosat", "cells_500m", "worst"),
    ):
        path = export(odd, to, overwrite=True).path
        with sqlite3.connect(path) as database:
            ((qml,),) = database.execute(
                "select styleQML from layer_styles where f_table_name = ?", (layer,)
            ).fetchall()
        database.close()
        values = set(gpd.read_file(path, layer=layer)[column]) - {"No sites"}
        assert all(f'value="{value}"' in qml for value in values)
        assert f'attr="{column}"' in qml


def test_the_command_says_what_it_wrote_and_what_not(odd: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(odd), "--to", "xbd"])
    assert done.exit_code == 0
    assert "6 buildings, 4 labels" in done.output
    assert "left out   2 of 6 tiles" in done.output
    as_json = CliRunner().invoke(app, ["export", str(odd), "--to", "xbd", "--overwrite", "--json"])
    assert json.loads(as_json.output)["counts"] == {"buildings": 6, "labels": 4}
    again = CliRunner().invoke(app, ["export", str(odd), "--to", "xbd"])
    assert isinstance(again.exception, Refused)


def test_it_is_there_from_python(odd: Path) -> None:
    done = am.cluster.export(am.Run(odd), "csv")
    assert isinstance(done, Exported)
    assert done.counts == {"buildings": 6}


def test_set_aside_chunks_are_named(tmp_path: Path) -> None:
    chunks = [{"chunk": [0, 0], "reason": "OSError"}]
    run = finished_run(tmp_path / "run", buildings(), state="quarantined", quarantined=chunks)
    assert "1 chunks of the run were set aside" in export(run, "csv").left_out[0]


def test_names_are_the_legends(odd: Path) -> None:
    found = json.loads(export(odd, "geojson").path.read_text(encoding="utf-8"))["features"]
    assert [f["properties"]["damage_name"] for f in found] == [
        entry(code).name for code in (1, 2, 3, 4, 5, 255)
    ]


def test_a_run_across_the_antimeridian_is_cut_there() -> None:
    frame = buildings().iloc[:1]
    degrees = gpd.GeoSeries([shapely.box(179.9999, -17.0, 180.0001, -16.9999)], crs=4326)
    frame = frame.set_geometry(degrees.to_crs("EPSG:32660").to_list(), crs="EPSG:32660")
    # In UTM zone 60 the box is one piece; in degrees it must become two.
    assert frame.geometry.iloc[0].area < 1000
    placed = lonlat.to_lonlat(frame).geometry.iloc[0]
    assert len(placed.geoms) == 2
    assert placed.area == pytest.approx(0.0002 * 0.0001, rel=0.01)
