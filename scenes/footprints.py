"""Footprint polygons from any vector file, cleaned, on the run's grid; nothing vanishes unsaid.

A file is gone through block by block and never held whole: once to check it before a run begins,
and once more for the run's tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from odc.geo.geobox import GeoBox

from .errors import Refused
from .footprint_file import Features, Header, read_features, read_header
from .grid import polygonal
from .lonlat import split_antimeridian

_FLAT = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
_COUNTS = ("kept", "repaired", "left_out", "duplicate_ids")


@dataclass(frozen=True, eq=False)
class Block:
    """Some footprints, cleaned."""

    frame: gpd.GeoDataFrame
    """`position` (0-based in the file, int64), `source_id` (text), `geometry` in the grid's CRS."""
    problems: pd.DataFrame
    """`position`, `source_id`, `kept` (bool), `reason`: one row per thing that was not right."""
    counts: Mapping[str, int]
    """`kept`, `repaired`, `left_out`, `duplicate_ids`."""


@dataclass(frozen=True, eq=False)
class FootprintFile:
    """A file that holds usable footprints; they are read when asked for."""

    path: Path
    header: Header
    grid: GeoBox
    """The grid that footprints touch and in whose CRS they are."""
    area: shapely.Geometry | None = None
    """The part of the grid that they touch, in its CRS; None for all of it."""

    def blocks(self) -> Iterator[Block]:
        """The footprints that touch the grid and the area, cleaned, a block at a time."""
        return (found.block() for found in _looked_through(self))

    def counts(self, blocks: Counter[str]) -> dict[str, int]:
        """`in_file`, `kept`, `repaired`, `left_out`, `outside`, `duplicate_ids` of all blocks."""
        total = self.header.total
        counts = {name: blocks[name] for name in _COUNTS}
        outside = total - counts["kept"] - counts["left_out"]
        return {"in_file": total, **counts, "outside": outside}


def open_footprints(
    path: Path, grid: GeoBox, area: shapely.Geometry | None = None
) -> FootprintFile:
    """Go through the polygons of a vector file and make sure that some can be used.

    Any format and CRS; invalid polygons are repaired, and what cannot be used is listed. Features
    of large files that lie outside the grid's bounds are not looked at and count as outside.
    Raises Refused if the file is no local vector file with a CRS, or if no usable polygon touches
    the grid and, where one is given, the area.
    """
    file = FootprintFile(path, read_header(path), grid, area)
    seen = _Seen()
    for found in _looked_through(file):
        seen.add(found)
    seen.refuse_none(file)
    return file


@dataclass(frozen=True, eq=False)
class _Found:
    """A block of features after cleaning, with everything that was found out about them."""

    raw: Features
    reasons: np.ndarray
    """What was wrong, empty for nothing; text."""
    placed: np.ndarray
    """Polygons in the grid's CRS; None where there is none."""
    usable: np.ndarray
    on_grid: np.ndarray
    here: np.ndarray
    """On the grid and in the area, bool."""
    copies: np.ndarray
    """Whose identifier was used before, bool."""
    crs: str

    def block(self) -> Block:
        """What is kept, and what is told."""
        ids = np.array(self.raw.source_id, object)
        frame = gpd.GeoDataFrame(
            {
                "position": self.raw.position[self.here],
                "source_id": pd.Series(ids[self.here], dtype=object),
            },
            geometry=self.placed[self.here],
            crs=self.crs,
        )
        counts = {
            "kept": int(self.here.sum()),
            "repaired": int((self.here & (self.reasons != "")).sum()),
            "left_out": int((~self.usable).sum()),
            "duplicate_ids": int(self.copies.sum()),
        }
        return Block(frame, self._problems(ids), counts)

    def _problems(self, ids: np.ndarray) -> pd.DataFrame:
        """What was not right with features, in the order of the file."""
        told = (self.reasons != "") & (self.here | ~self.usable)
        rows = np.concatenate([np.flatnonzero(told), np.flatnonzero(self.copies)])
        again = np.full(int(self.copies.sum()), "id used before; kept", object)
        table = pd.DataFrame(
            {
                "position": self.raw.position[rows],
                "source_id": pd.Series(ids[rows], dtype=object),
                "kept": self.usable[rows],
                "reason": pd.Series(np.concatenate([self.reasons[told], again]), dtype=object),
            }
        )
        return table.sort_values(["position", "reason"], kind="stable").reset_index(drop=True)


def _looked_through(file: FootprintFile) -> Iterator[_Found]:
    """Every block of a file: cleaned, placed, and compared with the grid and the area."""
    corners, known, crs = _corners(file.grid), _Ids(), file.grid.crs.to_wkt()
    for raw in read_features(file.header, file.grid):
        cleaned, reasons = _clean(raw.geometry)
        if file.header.degrees:
            _cut(cleaned, reasons)
        placed = _project(cleaned, reasons, file.header.crs, file.grid)
        usable = ~shapely.is_missing(placed)
        on_grid = usable & shapely.intersects(placed, corners)
        here = on_grid if file.area is None else on_grid & shapely.intersects(placed, file.area)
        copies = known.again(raw.source_id, here)
        yield _Found(raw, reasons, placed, usable, on_grid, here, copies, crs)


class _Ids:
    """Which identifiers came before, at eight bytes each."""

    def __init__(self) -> None:
        self.known = np.zeros(0, np.uint64)

    def again(self, ids: list[str | None], wanted: np.ndarray) -> np.ndarray:
        """Which of the wanted features repeat an identifier, bool."""
        named = wanted & np.array([value is not None for value in ids], bool)
        texts = np.array([value if value is not None else "" for value in ids], object)
        digests = pd.util.hash_array(texts[named], categorize=False)
        within = pd.Series(digests).duplicated().to_numpy()
        copies = np.zeros(len(ids), bool)
        copies[np.flatnonzero(named)] = within | np.isin(digests, self.known)
        self.known = np.union1d(self.known, digests)
        return copies


@dataclass
class _Seen:
    """What opening a file has to know of all its features."""

    usable: int = 0
    on_grid: int = 0
    here: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    bounds: np.ndarray = field(default_factory=lambda: np.full(4, np.nan))

    def add(self, found: _Found) -> None:
        self.usable += int(found.usable.sum())
        self.on_grid += int(found.on_grid.sum())
        self.here += int(found.here.sum())
        self.reasons.update(found.reasons[~found.usable].tolist())
        bounds = shapely.bounds(found.raw.geometry)
        low, high = np.fmin.reduce(bounds[:, :2]), np.fmax.reduce(bounds[:, 2:])
        self.bounds[:2] = np.fmin(self.bounds[:2], low)
        self.bounds[2:] = np.fmax(self.bounds[2:], high)

    def refuse_none(self, file: FootprintFile) -> None:
        """Refuse a file of which nothing is left, or nothing touches the grid or the area."""
        if self.here:
            return
        path, total = str(file.path), file.header.total
        if self.on_grid:
            raise Refused(
                f"None of the {self.on_grid} footprints of {path!r} on the image lies in the area "
                "asked for. Check --footprints, --bbox and --aoi."
            )
        if self.reasons and not self.usable:
            listed = "; ".join(f"{n} x {reason}" for reason, n in sorted(self.reasons.items()))
            raise Refused(
                f"Of the {total} features in {path!r} none is a usable polygon ({listed}). "
                f"Give polygons to --footprints."
            )
        extent = _extent(file.header.bounds or self.bounds, file.header.crs)
        mine = _extent(tuple(_corners(file.grid).bounds), file.grid.crs)
        world = _extent(tuple(file.grid.geographic_extent.boundingbox.bbox), "EPSG:4326")
        raise Refused(
            f"None of the {total} footprints in {path!r} overlaps the images: the footprints "
            f"span {extent}; the images span {mine}, which is {world}. Check --footprints."
        )


def _clean(geometry: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flat, valid polygons, None where there is none; and a reason wherever something was wrong."""
    reasons = np.full(len(geometry), "", object)
    missing = shapely.is_missing(geometry)
    reasons[missing] = "no geometry"
    empty = ~missing & shapely.is_empty(geometry)
    reasons[empty] = "empty geometry"
    good = geometry.copy()
    good[empty] = None
    good = shapely.force_2d(good)
    kinds = shapely.get_type_id(good)
    mixed = kinds == shapely.GeometryType.GEOMETRYCOLLECTION
    good[mixed] = [polygonal(item) for item in good[mixed]]
    reasons[mixed] = "a collection; its polygons were kept"
    for row in np.flatnonzero(~missing & ~empty & ~mixed & ~np.isin(kinds, _FLAT)):
        reasons[row] = f"a {good[row].geom_type}, not a polygon"
        good[row] = None
    wild = ~shapely.is_missing(good) & ~np.isfinite(shapely.bounds(good)).all(axis=1)
    good[wild], reasons[wild] = None, "coordinates that are not finite"
    torn = ~shapely.is_missing(good) & ~shapely.is_valid(good)
    for row in np.flatnonzero(torn):
        reasons[row] = f"invalid ({shapely.is_valid_reason(good[row])}); repaired"
        good[row] = polygonal(shapely.make_valid(good[row]))
    flat = ~shapely.is_missing(good) & ~(shapely.area(good) > 0)
    good[flat], reasons[flat] = None, "no area"
    lost = shapely.is_missing(good) & (reasons == "a collection; its polygons were kept")
    reasons[lost] = "a collection without polygons"
    return good, reasons


def _cut(geometry: np.ndarray, reasons: np.ndarray) -> None:
    """Cut polygons in degrees that jump across the antimeridian, which else span the earth."""
    there = np.flatnonzero(~shapely.is_missing(geometry))
    cut = split_antimeridian(geometry[there])
    changed = there[cut != geometry[there]]
    geometry[there] = cut
    plain = changed[reasons[changed] == ""]
    reasons[plain] = "crosses the antimeridian; cut there"


def _project(geometry: np.ndarray, reasons: np.ndarray, crs: object, grid: GeoBox) -> np.ndarray:
    """Polygons in the grid's CRS; what has no place there becomes None with a reason."""
    placed = gpd.GeoSeries(geometry, crs=crs).to_crs(grid.crs.to_wkt()).to_numpy().copy()
    had = ~shapely.is_missing(geometry)
    off = had & ~np.isfinite(shapely.bounds(placed)).all(axis=1)
    placed[off], reasons[off] = None, "cannot be placed in the images' CRS"
    torn = ~shapely.is_missing(placed) & ~shapely.is_valid(placed)
    placed[torn] = [polygonal(shapely.make_valid(item)) for item in placed[torn]]
    return placed


def _corners(grid: GeoBox) -> shapely.Geometry:
    """The grid's outline in its own CRS."""
    return shapely.Polygon([tuple(point) for point in grid.extent.exterior.coords])


def _extent(bounds: object, crs: object) -> str:
    """Bounds in words, with their CRS by name."""
    name = gpd.GeoSeries([], crs=str(crs)).crs
    label = ":".join(name.to_authority() or (name.name,))
    values = np.ravel(np.asarray(bounds, dtype=float)) if bounds is not None else np.full(4, np.nan)
    west, south, east, north = (f"{value:.6g}" for value in values)
    return f"{west} to {east}, {south} to {north} ({label})"
