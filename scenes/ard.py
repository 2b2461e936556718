"""Maxar's analysis-ready tiles: which ground a quadkey stands for, without the apron of its file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import shapely
from pyproj import Transformer

from .lonlat import split_antimeridian

CELL_METRES = 5000.0
"""Side of a tile's cell; its file has 16,384 px of it."""

APRON_METRES = 156.25
"""What a tile's file shows beyond its cell on every side, 512 px: neighbours overlap by twice that."""

_ZOOM = 12
_HALF = CELL_METRES * 2 ** (_ZOOM - 1)
"""Half the side of a zone's square, which lies around the crossing of its meridian and the equator."""

_EASTING, _SOUTHERN = 500_000.0, 10_000_000.0
_PLACE = re.compile(r"(?:MXRA-Z|Z)?(\d{1,2})[-/]([0-3]{12})")


@dataclass(frozen=True)
class ArdCell:
    """One 5 km cell of a UTM zone's own quadtree (which is not the quadtree of web maps)."""

    zone: int
    """UTM zone, 1 to 60."""
    quadkey: str
    """Twelve digits 0-3, from the coarsest: 0 north-west, 1 north-east, 2 south-west, 3 south-east."""

    def __post_init__(self) -> None:
        if not 1 <= self.zone <= 60:
            raise ValueError(f"UTM zone {self.zone} does not exist")
        if not re.fullmatch(f"[0-3]{{{_ZOOM}}}", self.quadkey):
            raise ValueError(f"{self.quadkey[:40]!r} is not a quadkey of {_ZOOM} digits")

    @classmethod
    def of(cls, text: str) -> ArdCell | None:
        """The cell that "37/031133012312" or "MXRA-Z37-031133012312" names; None for other text."""
        found = _PLACE.fullmatch(text)
        if not found or not 1 <= int(found[1]) <= 60:
            return None
        return cls(int(found[1]), found[2])

    @property
    def place(self) -> str:
        """Zone and quadkey, as in the addresses of the files."""
        return f"{self.zone:02d}/{self.quadkey}"

    @property
    def epsg(self) -> int:
        """The coordinate system of the tile's file: the southern UTM zone south of the equator."""
        return (32600 if self.quadkey[0] in "01" else 32700) + self.zone

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north of the cell in `epsg`, m."""
        west, north = self._corner()
        shift = _SOUTHERN if self.epsg > 32700 else 0.0
        return west, north - CELL_METRES + shift, west + CELL_METRES, north + shift

    def polygon(self) -> shapely.Geometry:
        """The cell in EPSG:4326; neighbours share their corners to the last bit.

        Edges are straight in degrees, so the outline leaves that of the UTM square by up to 0.4 m
        (at 40 degrees north), in the same way on both sides of an edge.
        """
        west, north = self._corner()
        east, south = west + CELL_METRES, north - CELL_METRES
        ring = [
            _lonlat(self.zone, x, y)
            for x, y in ((west, south), (east, south), (east, north), (west, north))
        ]
        whole = np.array([shapely.Polygon(ring)], dtype=object)
        return split_antimeridian(whole)[0]

    def _corner(self) -> tuple[float, float]:
        """The north-west corner in the zone's northern system, on both sides of the equator."""
        column = int("".join(str(int(digit) & 1) for digit in self.quadkey), 2)
        row = int("".join(str(int(digit) >> 1) for digit in self.quadkey), 2)
        return _EASTING - _HALF + column * CELL_METRES, _HALF - row * CELL_METRES


@lru_cache(maxsize=1 << 16)
def _lonlat(zone: int, x: float, y: float) -> tuple[float, float]:
    lon, lat = _to_degrees(zone).transform(x, y)
    if not (abs(lon) <= 180 and abs(lat) <= 90):
        raise ValueError(f"easting {x:g}, northing {y:g} of UTM zone {zone} is no place on earth")
    return lon, lat


@lru_cache(maxsize=60)
def _to_degrees(zone: int) -> Transformer:
    return Transformer.from_crs(32600 + zone, 4326, always_xy=True)
