"""Addresses without a network: the nearest street and place of a file that the user has."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely

from .errors import Refused
from .vector_file import check_vector_file, offline

STREET_REACH_M, NUMBER_REACH_M, PLACE_REACH_M = 250.0, 40.0, 30_000.0
"""How far the nearest street, house number and place may be to name a point, m."""

SETTLEMENTS = (
    "city", "town", "village", "hamlet", "suburb", "quarter", "neighbourhood", "locality",
    "isolated_dwelling", "borough", "municipality",
)  # fmt: skip
"""Kinds of OpenStreetMap's places that people say they are in."""

_NAMES = ("name", "full_name", "fullname", "street", "road_name", "label", "asciiname")
_MARGIN = PLACE_REACH_M / 111_000
_Found = TypeVar("_Found")
_TAG = re.compile(r'"((?:[^"\\]|\\.)*)"=>"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, eq=False)
class _Named:
    """Names on the earth, in metres around a centre."""

    names: np.ndarray
    shapes: np.ndarray

    @classmethod
    def of(cls, frames: Sequence[tuple[pd.Series, gpd.GeoSeries]], crs: str) -> _Named:
        names = [np.asarray(n, object) for n, _ in frames]
        shapes = [np.asarray(s.to_crs(crs), object) for _, s in frames]
        none = np.empty(0, object)
        return cls(np.concatenate([none, *names]), np.concatenate([none, *shapes]))

    def nearest(self, points: np.ndarray, reach: float) -> list[str]:
        """The name that is nearest to each point, empty beyond the reach."""
        found = [""] * len(points)
        if not len(self.shapes):
            return found
        tree = shapely.STRtree(self.shapes)
        which, there = tree.query_nearest(points, max_distance=reach, all_matches=False)
        for point, name in zip(which.tolist(), self.names[there], strict=True):
            found[point] = str(name)
        return found


def addresses(lon: np.ndarray, lat: np.ndarray, file: Path) -> list[str | None]:
    """The address of each point, degrees, by an extract of OpenStreetMap or a gazetteer.

    Any vector file that GDAL reads will do, .osm and .osm.pbf among them. Lines with a name are
    streets, points with a name places; where columns `highway` and `place` tell more, only
    streets and settlements count, and house numbers of OpenStreetMap name their street. Says
    "street number, place", what of it is near enough (`STREET_REACH_M` and others), else None.
    Raises Refused for a file that is none, or that names nothing.
    """
    if not len(lon):
        return []
    check_gazetteer(file)
    box = lon.min() - _MARGIN, lat.min() - _MARGIN, lon.max() + _MARGIN, lat.max() + _MARGIN
    frames = _read(file, box)
    crs = f"+proj=aeqd +lat_0={lat.mean()} +lon_0={lon.mean()} +units=m"
    points = np.asarray(gpd.GeoSeries.from_xy(lon, lat, crs="EPSG:4326").to_crs(crs))
    houses = _Named.of(_houses(frames), crs).nearest(points, NUMBER_REACH_M)
    streets = _Named.of(_streets(frames), crs).nearest(points, STREET_REACH_M)
    places = _Named.of(_places(frames), crs).nearest(points, PLACE_REACH_M)
    told = (
        (house or street, place)
        for house, street, place in zip(houses, streets, places, strict=True)
    )
    return [", ".join(filter(None, parts)) or None for parts in told]


def check_gazetteer(file: Path) -> None:
    """Refuse a file that is no gazetteer, by what its layers say of themselves; see `addresses`."""
    check_vector_file(file, "gazetteer", "--gazetteer")
    if not _guarded(file, lambda: _named_layers(file)):
        raise Refused(
            f"The gazetteer {file} has no layer with names (a column {', '.join(_NAMES[:3])} ...) and "
            f"places. Give --gazetteer an extract of OpenStreetMap or another file of names."
        )


def _read(file: Path, box: tuple[float, float, float, float]) -> list[gpd.GeoDataFrame]:
    """What each layer has near a box, degrees, with a column `name`."""
    return _guarded(file, lambda: [_layer(file, *named, box) for named in _named_layers(file)])


def _guarded(file: Path, read: Callable[[], list[_Found]]) -> list[_Found]:
    """What is read of a file, without following links; Refused where that cannot be."""
    try:
        with offline():
            return read()
    except Exception as error:  # pyogrio and GDAL each raise their own kinds
        raise Refused(
            f"The gazetteer {file} cannot be read: {error}. Check --gazetteer."
        ) from error


def _named_layers(file: Path) -> list[tuple[str, str]]:
    """Layers on the earth that have names, and the column that holds them."""
    found = []
    for layer, kind in pyogrio.list_layers(file):
        if kind is None:
            continue
        info = pyogrio.read_info(file, layer=str(layer))
        fields = {str(field).lower(): str(field) for field in info["fields"]}
        name = next((fields[key] for key in _NAMES if key in fields), None)
        if name is not None and info["crs"] is not None:
            found.append((str(layer), name))
    return found


def _layer(
    file: Path, layer: str, name: str, box: tuple[float, float, float, float]
) -> gpd.GeoDataFrame:
    info = pyogrio.read_info(file, layer=layer)
    fields = {str(field).lower(): str(field) for field in info["fields"]}
    kept = [name, *(fields[key] for key in ("highway", "place", "other_tags") if key in fields)]
    near = gpd.GeoSeries([shapely.box(*box)], crs="EPSG:4326").to_crs(info["crs"]).total_bounds
    frame = pyogrio.read_dataframe(file, layer=layer, columns=kept, bbox=tuple(near))
    frame = frame[frame.geometry.notna() & ~frame.geometry.is_empty]
    return frame.rename(columns={name: "name"}).rename(columns=str.lower)


def _streets(frames: Sequence[gpd.GeoDataFrame]) -> list[tuple[pd.Series, gpd.GeoSeries]]:
    found = []
    for frame in frames:
        wanted = (frame.geometry.map(shapely.get_dimensions) == 1) & _told(frame.name)
        if "highway" in frame:
            wanted &= frame.highway.notna()
        found.append((frame.name[wanted], frame.geometry[wanted]))
    return found


def _places(frames: Sequence[gpd.GeoDataFrame]) -> list[tuple[pd.Series, gpd.GeoSeries]]:
    found = []
    for frame in frames:
        wanted = (frame.geometry.map(shapely.get_dimensions) == 0) & _told(frame.name)
        if "place" in frame:
            wanted &= frame.place.isin(SETTLEMENTS)
        found.append((frame.name[wanted], frame.geometry[wanted]))
    return found


def _houses(frames: Sequence[gpd.GeoDataFrame]) -> list[tuple[pd.Series, gpd.GeoSeries]]:
    """Street and number of whatever has both among its further tags."""
    found = []
    for frame in frames:
        if "other_tags" not in frame:
            continue
        tags = frame.other_tags.fillna("").map(_tags)
        streets, numbers = (
            tags.map(lambda t, key=key: t.get(key, ""))
            for key in ("addr:street", "addr:housenumber")
        )
        wanted = (streets != "") & (numbers != "")
        found.append((streets[wanted] + " " + numbers[wanted], frame.geometry[wanted]))
    return found


def _tags(text: str) -> dict[str, str]:
    """GDAL's further tags by name: "key"=>"value" with a backslash before quotation marks."""
    return {key: re.sub(r"\\(.)", r"\1", value) for key, value in _TAG.findall(text)}


def _told(names: pd.Series) -> pd.Series:
    return names.notna() & (names.astype(str).str.strip() != "")
