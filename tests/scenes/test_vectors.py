"""Vector files are complete, coloured, empty where need be, and the same bytes every time."""

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from aftermap.scenes.errors import AftermapError
from aftermap.scenes.legend import LEGEND
from aftermap.scenes.vectors import (
    read_blocks,
    replacing,
    replacing_folder,
    write_csv,
    write_geopackage,
    write_geoparquet,
    write_stream,
)

CRS = "EPSG:32637"


def buildings(count: int) -> gpd.GeoDataFrame:
    x = np.arange(count) * 20.0
    boxes = shapely.box(500000 + x, 4100000, 500010 + x, 4100010)
    table = pd.DataFrame(
        {
            "building_id": pd.Series([f"s-r{k}c0" for k in range(count)], dtype="str"),
            "damage_class": np.arange(count, dtype=np.int16) % 5,
            "p_none": np.where(np.arange(count) % 3, 0.25, np.nan),
            "pre_date": pd.Series([None] * count, dtype="str"),
        }
    )
    return gpd.GeoDataFrame(table, geometry=shapely.multipolygons(boxes[:, None]), crs=CRS)


def tables(count: int = 5) -> dict[str, pd.DataFrame]:
    frame = buildings(count)
    return {
        "buildings": frame,
        "damage_areas": frame.iloc[:0].rename(columns={"building_id": "area_id"}),
        "sources": pd.DataFrame({"path": ["<b>&'\".tif"], "sha256": [None]}),
        "summary": pd.DataFrame({"figure": ["buildings"], "value": [5.0]}),
    }


def test_the_same_bytes_at_another_time(tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        write_geopackage(tmp_path / f"{name}.gpkg", tables())
        write_geoparquet(tmp_path / f"{name}.parquet", buildings(5))
        files.append([(tmp_path / f"{name}{end}").read_bytes() for end in (".gpkg", ".parquet")])
        time.sleep(1.1)
    assert files[0] == files[1]
    write_geopackage(tmp_path / "a.gpkg", tables())
    assert (tmp_path / "a.gpkg").read_bytes() == files[1][0]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.gpkg", "a.parquet", "b.gpkg", "b.parquet",
    ]  # fmt: skip


def test_layers_read_back_with_their_types(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    write_geopackage(path, tables())
    names = dict(pyogrio.list_layers(path).tolist())
    assert names["buildings"] == names["damage_areas"] == "MultiPolygon"
    assert names["summary"] is None
    back = gpd.read_file(path, layer="buildings")
    pd.testing.assert_frame_equal(
        pd.DataFrame(back.drop(columns=["geometry", "pre_date"])),
        pd.DataFrame(buildings(5).drop(columns=["geometry", "pre_date"])),
        check_dtype=False,
    )
    assert back["pre_date"].isna().all()
    assert back.geometry.geom_equals(buildings(5).geometry).all()
    empty = gpd.read_file(path, layer="damage_areas")
    assert len(empty) == 0
    assert list(empty.columns) == ["area_id", "damage_class", "p_none", "pre_date", "geometry"]
    assert gpd.read_file(path, layer="sources")["path"][0] == "<b>&'\".tif"


def test_blocks_give_the_bytes_of_the_whole(tmp_path: Path) -> None:
    frame = buildings(1000)

    def blocks(size: int) -> Iterator[gpd.GeoDataFrame]:
        yield frame.iloc[:0]
        for start in range(0, 1000, size):
            yield frame.iloc[start : start + size]

    seen = set()
    for size in (1000, 64, 333):
        write_geoparquet(tmp_path / "a.parquet", blocks(size), row_group=128)
        seen.add((tmp_path / "a.parquet").read_bytes())
    assert len(seen) == 1
    write_geopackage(tmp_path / "a.gpkg", {"buildings": read_blocks(tmp_path / "a.parquet", 100)})
    back = gpd.read_file(tmp_path / "a.gpkg", layer="buildings")
    assert back["building_id"].tolist() == frame["building_id"].tolist()


def test_geoparquet_says_where_its_rows_are(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_geoparquet(path, buildings(300), row_group=100)
    file = pq.ParquetFile(path)
    assert file.num_row_groups == 3
    geo = json.loads(file.metadata.metadata[b"geo"])
    assert geo["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    near = gpd.read_parquet(path, bbox=(500000, 4100000, 500025, 4100001))
    assert near["building_id"].tolist() == ["s-r0c0", "s-r1c0"]
    whole = gpd.read_parquet(path)
    assert whole.crs == CRS
    assert whole.geometry.geom_equals(buildings(300).geometry).all()


def test_a_table_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_geoparquet(path, buildings(0))
    assert list(gpd.read_parquet(path).columns)[:3] == ["building_id", "damage_class", "p_none"]
    (block,) = read_blocks(path)
    assert len(block) == 0
    assert block.crs == CRS
    write_geopackage(tmp_path / "a.gpkg", {"buildings": read_blocks(path)})
    assert "damage_class" in gpd.read_file(tmp_path / "a.gpkg", layer="buildings").columns


def test_qgis_finds_a_style_for_every_class(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    write_geopackage(path, tables())
    with sqlite3.connect(path) as database:
        rows = database.execute(
            "select f_table_name, f_geometry_column, useAsDefault, styleQML from layer_styles"
        ).fetchall()
    database.close()
    assert [row[:3] for row in rows] == [("buildings", "geom", 1), ("damage_areas", "geom", 1)]
    root = ElementTree.fromstring(rows[0][3].split("?>")[-1])
    labels = {c.get("value"): c.get("label") for c in root.iter("category")}
    assert labels == {str(e.code): e.name for e in LEGEND if e.code}
    assert len(list(root.iter("symbol"))) == len(labels)


def test_formulas_in_csv_are_quoted_off(tmp_path: Path) -> None:
    frame = pd.DataFrame({"name": ["=1+1", "@x", "-2", "+3", 'plain, "q"'], "value": [-1.5] * 5})
    write_csv(tmp_path / "a.csv", frame)
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[1:5] == ["'=1+1,-1.5", "'@x,-1.5", "'-2,-1.5", "'+3,-1.5"]
    assert lines[5] == '"plain, ""q""",-1.5'


def test_csv_in_blocks_has_one_head(tmp_path: Path) -> None:
    frame = pd.DataFrame({"name": ["=a", "b", None], "value": [1.5, np.nan, 3.0]})
    write_csv(tmp_path / "whole.csv", frame)
    write_csv(tmp_path / "parts.csv", (frame.iloc[k : k + 1] for k in range(3)))
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert (tmp_path / "whole.csv").read_text() == "name,value\n'=a,1.5\nb,\n,3.0\n"


def test_flags_with_a_null_among_them_stay_flags(tmp_path: Path) -> None:
    frame = buildings(3)
    frame["likely"] = pd.array([True, None, False], dtype="boolean")
    write_geoparquet(tmp_path / "a.parquet", frame)
    (block,) = read_blocks(tmp_path / "a.parquet")
    assert block["likely"].dtype == "boolean"
    write_geopackage(tmp_path / "a.gpkg", {"buildings": [block]})
    info = pyogrio.read_info(tmp_path / "a.gpkg", layer="buildings")
    kinds = dict(zip(info["fields"], info["ogr_subtypes"], strict=True))
    assert kinds["likely"] == "OFSTBoolean"


def test_a_new_folder_takes_the_place_of_the_old_one_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / "old").touch()

    def run_out_of_space() -> None:
        with replacing_folder(path) as part:
            (part / "new").touch()
            raise OSError(28, "No space left on device")

    with pytest.raises(AftermapError, match="Free space on the disk"):
        run_out_of_space()
    assert [p.name for p in path.iterdir()] == ["old"]
    with replacing_folder(path) as part:
        (part / "new").touch()
    assert [p.name for p in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_stream_says_why_it_broke(tmp_path: Path) -> None:
    def blocks() -> Iterator[gpd.GeoDataFrame]:
        yield buildings(2)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_stream(tmp_path / "a.fgb", blocks(), "FlatGeobuf", "a")


def test_a_failed_write_leaves_the_old_file_and_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")

    def run_out_of_space() -> None:
        with replacing(path) as part:
            part.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(AftermapError, match="Free space on the disk"):
        run_out_of_space()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(AftermapError, match="could not be written"):
        write_geopackage(tmp_path / "gone" / "a.gpkg", tables())
    with pytest.raises(AftermapError, match="could not be written"):
        write_csv(path / "b.csv", tables()["summary"])
