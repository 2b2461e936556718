"""Maxar Open Data: the grid of its tiles, and its catalogs in every form that they come in."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from aftermap.scenes.ard import APRON_METRES, CELL_METRES, ArdCell
from aftermap.scenes.catalog_maxar import read_maxar
from aftermap.scenes.errors import Refused
from aftermap.scenes.reading import Reading
from catalogs import ard_feature, write_features
from conftest import REAL

EVENT = REAL / "catalog" / "Kahramanmaras-turkey-earthquake-23"


@pytest.fixture
def event() -> Path:
    """The real event's catalog, without its suffix; the test is skipped where it is absent."""
    if not EVENT.with_suffix(".tsv").exists():
        pytest.skip(f"the real catalog is not at {EVENT}")
    return EVENT


def test_cells_known_from_published_metadata() -> None:
    """Whole tiles of two events, north and south of the equator: their boxes less the apron."""
    north = ArdCell.of("MXRA-Z37-120020230323")
    assert north is not None
    assert (north.epsg, north.place) == (32637, "37/120020230323")
    assert north.bounds[::2] == (604843.75 + 156.25, 610156.25 - 156.25)
    south = ArdCell.of("22/213131112132")
    assert south is not None
    assert south.epsg == 32722
    published = 449843.75, 6739843.75, 455156.25, 6745156.25
    assert south.bounds == tuple(np.add(published, [156.25, 156.25, -156.25, -156.25]))


def test_cells_agree_with_the_publishers_own_grid() -> None:
    grid = pytest.importorskip("maxar_ard_grid", reason="maxar-ard-grid is not installed")
    rng = np.random.default_rng(0)
    for _ in range(300):
        zone, quadkey = int(rng.integers(1, 61)), "".join(map(str, rng.integers(0, 4, 12)))
        theirs, ours = grid.Cell(quadkey, zone=zone), ArdCell(zone, quadkey)
        assert tuple(theirs.bounds) == ours.bounds
        assert theirs.proj == f"EPSG:{ours.epsg}"


def test_neighbours_share_their_corners_to_the_last_bit() -> None:
    row = [ArdCell(37, f"03113301{i}") for i in ("2302", "2303", "2312", "2313")]
    below = [ArdCell(37, f"03113301{i}") for i in ("2320", "2321", "2330", "2331")]
    for west, east in pairwise(row):
        assert west.bounds[2] == east.bounds[0]
        edge = shapely.intersection(west.polygon(), east.polygon())
        assert edge.geom_type == "LineString"
    for above, under in zip(row, below, strict=True):
        edge = shapely.intersection(above.polygon(), under.polygon())
        assert edge.geom_type == "LineString"
    equator = ArdCell(37, "1" + "2" * 11), ArdCell(37, "3" + "0" * 11)
    assert [cell.epsg for cell in equator] == [32637, 32737]
    edge = shapely.intersection(*(cell.polygon() for cell in equator))
    assert edge.length == pytest.approx(0.0449, abs=1e-4)
    assert edge.geom_type == "LineString"


@pytest.mark.parametrize("text", ["37/03113301231", "61/031133012312", "0/031133012312",
                                  "37/031133012314", "MGRS-37SBA", "", "x37/031133012312"])  # fmt: skip
def test_other_names_of_places_are_no_cells(text: str) -> None:
    assert ArdCell.of(text) is None


def test_a_folder_counts_each_acquisition_once(tmp_path: Path) -> None:
    quadkeys = "031133012312", "031133012313"
    for name in ("A1", "B2"):
        features = [ard_feature(q, "2023-02-07", name) for q in quadkeys]
        write_features(tmp_path / f"{name}.geojson", features)
        write_features(tmp_path / f"{name}_union.geojson", features[:1])
        pd.DataFrame([f["properties"] for f in features]).to_csv(
            tmp_path / f"{name}.tsv", sep="\t", index=False
        )
        (tmp_path / f"{name}.json").write_text(json.dumps({"mosaicjson": "0.0.2", "tiles": {}}))
    reading = Reading()
    assert read_maxar(tmp_path, reading)
    assert reading.found == len(reading.images) == 4
    (tmp_path / "B2.geojson").unlink()
    again = Reading()
    read_maxar(tmp_path, again)
    assert [i.place for i in again.images] == [i.place for i in reading.images]


def test_the_table_gives_the_same_images_as_the_geojson(tmp_path: Path) -> None:
    features = [ard_feature(q, "2023-02-07", "A1") for q in ("031133012312", "120020230323")]
    features[0]["properties"]["proj:geometry"] = {
        "type": "Polygon",
        "coordinates": [
            [[290000, 4090000], [292000, 4090000], [292000, 4095000], [290000, 4090000]]
        ],
    }
    table = pd.DataFrame([f["properties"] for f in features])
    table.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    by_table, by_features = Reading(), Reading()
    read_maxar(tmp_path / "a.tsv", by_table)
    read_maxar(write_features(tmp_path / "b.geojson", features), by_features)
    for one, other in zip(by_table.images, by_features.images, strict=True):
        assert (one.href, one.name, one.place, one.time) == (
            other.href, other.name, other.place, other.time,
        )  # fmt: skip
        assert (one.cloud, one.off_nadir, one.gsd) == (other.cloud, other.off_nadir, other.gsd)
    # The first row has an outline of its own, written as Python writes it; the second only a box.
    areas = [shapely.area(image.outline) for image in by_table.images]
    assert areas[0] == pytest.approx(0.177 * areas[1], rel=0.05)


def test_a_quadkey_that_lost_its_leading_zeros_is_mended() -> None:
    reading = Reading()
    feature = ard_feature("031133012312", "2023-02-07", "A1")
    feature["properties"]["quadkey"] = 31133012312
    feature["properties"]["visual"] = "a.tif"
    feature["assets"] = {"visual": {"href": "a.tif"}}
    reading.take(feature, "/data/a.geojson")
    assert reading.images[0].place == "37/031133012312"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it is empty"),
        ("{", "it is not JSON"),
        ("PK\x03\x04 not text", "it is not JSON"),
        ("[" * 200_000, "it is not JSON"),
        ("[1, 2]", "holds a JSON list"),
        ('{"mosaicjson": "0.0.2", "tiles": {}}', "MosaicJSON, which knows addresses but no dates"),
        ('{"type": "Topology", "objects": {}}', "of type 'Topology'"),
        ('{"name": "aftermap", "version": 1}', "an object with 'name', 'version'"),
        ('{"type": "FeatureCollection"}', "of type 'FeatureCollection'"),
    ],
)
def test_files_that_are_no_catalog_are_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "event.geojson"
    file.write_text(content)
    with pytest.raises(Refused, match=message) as refusal:
        read_maxar(file, Reading())
    assert "event.geojson" in str(refusal.value)


def test_binary_tables_and_foreign_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"\xff\xfe\x00\x01" * 100)
    with pytest.raises(Refused, match="not text in UTF-8"):
        read_maxar(tmp_path / "a.tsv", Reading())
    (tmp_path / "b.tsv").write_text("name\tcolour\nx\tred\n")
    with pytest.raises(Refused, match="no column catalog_id, datetime, proj:bbox, proj:epsg"):
        read_maxar(tmp_path / "b.tsv", Reading())
    (tmp_path / "c.tsv").write_text("")
    with pytest.raises(Refused, match="cannot be read as a table"):
        read_maxar(tmp_path / "c.tsv", Reading())
    with pytest.raises(Refused, match="does not exist"):
        read_maxar(tmp_path / "none.geojson", Reading())
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refused, match=r"holds no \.geojson or \.tsv"):
        read_maxar(tmp_path / "empty", Reading())


def test_a_file_far_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "event.geojson"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(Refused, match="1,099,511,627,776 bytes, and at most 268,435,456 are read"):
        read_maxar(file, Reading())


def test_too_many_items_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aftermap.scenes.reading.MAX_ITEMS", 3)
    features = [ard_feature("031133012312", "2023-02-07", f"A{i}") for i in range(4)]
    file = write_features(tmp_path / "a.geojson", features)
    with pytest.raises(Refused, match="more than 3 items"):
        read_maxar(file, Reading())


def test_bad_features_are_left_out_and_the_rest_is_read(tmp_path: Path) -> None:
    good = ard_feature("031133012312", "2023-02-07", "A1")
    undated = ard_feature("031133012312", "2023-02-07", "A2", datetime="last week")
    bare = ard_feature("031133012312", "2023-02-07", "A3", visual=None)
    nowhere = ard_feature("031133012312", "2023-02-07", "A4")
    nowhere["geometry"] = None
    nowhere["properties"].pop("proj:bbox")
    evil = ard_feature("031133012312", "2023-02-07", "A5", visual="/vsicurl/http://10.0.0.1/x")
    features = [good, undated, bare, nowhere, evil, None, 7, {"type": "Feature"}]
    reading = Reading()
    read_maxar(write_features(tmp_path / "a.geojson", features), reading)
    assert [image.name for image in reading.images] == ["A1"]
    assert reading.found == 8
    lines = "\n".join(reading.lines())
    assert "its date is not written like 2023-02-06T01:17Z (A2: 'last week')" in lines
    assert "no assets (A3)" in lines
    assert "no geometry (A4)" in lines
    assert "of a kind that is not read (A5: a virtual or network path)" in lines
    assert "2 images: not a GeoJSON object (item 6, item 7)" in lines
    assert "1 image: no properties (item 8)" in lines


@pytest.mark.real
def test_every_real_box_lies_in_its_cell_and_apron(event: Path) -> None:
    table = pd.read_csv(event.with_suffix(".tsv"), sep="\t", dtype={"quadkey": str})
    assert len(table) == 2115
    boxes = table["proj:bbox"].str.split(",", expand=True).to_numpy(float)
    cells = [ArdCell(z, q) for z, q in zip(table["utm_zone"], table["quadkey"], strict=True)]
    assert [cell.epsg for cell in cells] == table["proj:epsg"].tolist()
    bounds = np.array([cell.bounds for cell in cells])
    beyond = np.maximum(bounds[:, :2] - boxes[:, :2], boxes[:, 2:] - bounds[:, 2:])
    assert beyond.max() == APRON_METRES
    full = (boxes[:, 2:] - boxes[:, :2] == CELL_METRES + 2 * APRON_METRES).all(axis=1)
    assert full.sum() == 878
    assert (beyond[full] == APRON_METRES).all()


@pytest.mark.real
@pytest.mark.parametrize("suffix", [".geojson", ".tsv"])
def test_the_real_event_is_read_whole(event: Path, suffix: str) -> None:
    reading = Reading()
    read_maxar(event.with_suffix(suffix), reading)
    truth = gpd.read_file(event.with_suffix(".geojson"))
    truth["time"] = pd.to_datetime(truth["datetime"], utc=True)
    assert reading.found == len(reading.images) == len(truth) == 2115
    assert not reading.lines()
    days = pd.Series([image.time for image in reading.images])
    assert (days < pd.Timestamp("2023-02-06", tz="UTC")).sum() == 229
    assert sorted(days) == sorted(truth["time"])
    assert {image.epsg for image in reading.images} == {32636, 32637}
    assert {image.href for image in reading.images} == set(truth["visual"])
    assert len({image.place for image in reading.images}) == 1054
    if suffix == ".geojson":
        same = shapely.equals(
            np.array([image.outline for image in reading.images]), truth.geometry.to_numpy()
        )
        assert same.all()


@pytest.mark.real
def test_the_real_acquisitions_are_counted_once(event: Path) -> None:
    reading = Reading()
    read_maxar(event, reading)
    files = [f for f in event.glob("*.geojson") if "_union" not in f.name]
    features = [f for file in files for f in json.loads(file.read_text())["features"]]
    assert reading.found == len(features) == 154
    assert len({image.href for image in reading.images}) == 154
