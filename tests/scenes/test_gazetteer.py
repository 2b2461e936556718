"""Addresses from a written extract of OpenStreetMap, and from plain files of names."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from aftermap.scenes.errors import Refused
from aftermap.scenes.gazetteer import addresses, check_gazetteer

OSM = """<?xml version="1.0" encoding="UTF-8"?>
<osm version="0.6">
 <node id="1" lat="16.4300" lon="-95.0200"/>
 <node id="2" lat="16.4300" lon="-95.0100"/>
 <node id="3" lat="16.4400" lon="-95.0200"/>
 <node id="4" lat="16.4400" lon="-95.0100"/>
 <node id="5" lat="16.4330" lon="-95.0190"><tag k="place" v="town"/><tag k="name" v="Juchitán"/></node>
 <node id="6" lat="16.4301" lon="-95.0150"><tag k="shop" v="bakery"/><tag k="name" v="Pan"/></node>
 <node id="7" lat="16.43005" lon="-95.0120">
  <tag k="addr:street" v="Av. &quot;Juárez&quot;"/><tag k="addr:housenumber" v="7"/></node>
 <way id="10"><nd ref="1"/><nd ref="2"/><tag k="highway" v="residential"/><tag k="name" v="Calle Uno"/></way>
 <way id="11"><nd ref="3"/><nd ref="4"/><tag k="waterway" v="river"/><tag k="name" v="Río"/></way>
</osm>
"""
DEGREE = 111_000.0


@pytest.fixture
def extract(tmp_path: Path) -> Path:
    path = tmp_path / "town.osm"
    path.write_text(OSM, encoding="utf-8")
    return path


def test_streets_numbers_and_places_of_an_extract(extract: Path) -> None:
    lon = np.array([-95.015, -95.01203, -95.015, -95.015, -94.0])
    lat = np.array([16.4302, 16.4300, 16.4385, 16.4300 + 300 / DEGREE, 15.0])
    assert addresses(lon, lat, extract) == [
        "Calle Uno, Juchitán",  # not the bakery
        'Av. "Juárez" 7, Juchitán',
        "Juchitán",  # the river is no street
        "Juchitán",  # 300 m from the street
        None,
    ]


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "shp"])
def test_any_file_of_names(tmp_path: Path, suffix: str) -> None:
    points = gpd.GeoDataFrame(
        {"NAME": ["Far", "Near", None]},
        geometry=gpd.points_from_xy([-95.2, -95.001, -95.0], [16.4, 16.4, 16.4]),
        crs="EPSG:4326",
    )
    points.to_file(tmp_path / f"names.{suffix}")
    found = addresses(
        np.array([-95.0, -95.19]), np.array([16.4, 16.4]), tmp_path / f"names.{suffix}"
    )
    assert found == ["Near", "Far"]


def test_projected_lines(tmp_path: Path) -> None:
    line = gpd.GeoDataFrame(
        {"name": ["Road"]}, geometry=[shapely.LineString([(3e5, 4.1e6), (3e5, 4.2e6)])], crs=32637
    )
    line.to_file(tmp_path / "roads.gpkg")
    at = gpd.GeoSeries.from_xy([3e5 + 240, 3e5 + 260], [4.15e6] * 2, crs=32637).to_crs(4326)
    found = addresses(at.x.to_numpy(), at.y.to_numpy(), tmp_path / "roads.gpkg")
    assert found == ["Road", None]


def test_nothing_to_name_reads_nothing(tmp_path: Path) -> None:
    assert addresses(np.empty(0), np.empty(0), tmp_path / "missing.osm") == []


def test_files_that_are_no_gazetteer(tmp_path: Path) -> None:
    one = np.array([0.0])
    with pytest.raises(Refused, match=r"does not exist. Check --gazetteer"):
        addresses(one, one, tmp_path / "missing.osm")
    (tmp_path / "text.osm").write_text("no extract")
    with pytest.raises(Refused, match="--gazetteer"):
        addresses(one, one, tmp_path / "text.osm")
    nameless = gpd.GeoDataFrame({"a": [1]}, geometry=[shapely.Point(0, 0)], crs=4326)
    nameless.to_file(tmp_path / "nameless.gpkg")
    for ask in (lambda file: addresses(one, one, file), check_gazetteer):
        with pytest.raises(Refused, match="no layer with names"):
            ask(tmp_path / "nameless.gpkg")
        with pytest.raises(Refused, match="--gazetteer"):
            ask(tmp_path)
