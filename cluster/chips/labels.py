"""Labels: what is known of the damage at each chip, from polygons, a raster of codes, or masks."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from distributed import Client
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.features import rasterize
from rasterio.warp import reproject

from ...models.metrics import DAMAGED
from ...scenes.errors import Refused
from ...scenes.grid import read_polygons
from ...scenes.handles import GDAL_ERRORS, handle
from ...scenes.layer import NOT_ANALYSED
from ...scenes.legend import LEVELS, UNGRADED
from ...scenes.places import Label
from ...scenes.raster import Raster, open_raster
from ..calibrate import level_code, level_codes, read_labels
from ..fingerprint import fingerprint_file, parts_of
from ..futures import Failure, run_bounded
from .plan import Cut, Spot
from .request import ChipsRequest

# rasterio warns of arrays that it has just put in memory itself, as they have no place on the earth.
warnings.filterwarnings(
    "ignore", category=NotGeoreferencedWarning, module=r"rasterio\.(features|warp)"
)

KNOWN = 0.95
"""Share of a chip that must be known to be intact for it to be called so."""

_RASTERS = (".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg")
_CODES = (0, *LEVELS, UNGRADED, NOT_ANALYSED)
_PER_TASK = 64


class Labels(Protocol):
    """A source of labels; small, and picklable."""

    def codes(self, cut: Cut) -> np.ndarray | None:
        """Damage codes on a chip's pixels, uint8 (h, w), 255 where nothing is known; None: no mask."""
        ...

    def facts(self) -> Any:
        """What identifies the source."""
        ...


@dataclass(frozen=True)
class Area:
    """Polygons inside which everything was looked at."""

    path: Path

    def inside(self, grid: GeoBox) -> np.ndarray:
        """Which pixels of a chip were looked at: bool (h, w)."""
        area = _area(self.path, _stamp(self.path), grid.crs.to_wkt())
        near = shapely.clip_by_rect(area, *grid.extent.geom.bounds)
        return _burnt([(near, 1)], grid).astype(bool) if near.area else np.zeros(grid.shape, bool)


@dataclass(frozen=True)
class Polygons:
    """Polygons of damage, with or without a level each.

    Without an area nothing is known of chips that no polygon of damage touches, and all is known of
    those that one does.
    """

    path: Path
    column: str | None
    area: Area | None

    def codes(self, cut: Cut) -> np.ndarray | None:
        """See Labels."""
        grid = cut.patches.patch(cut.index)
        tree, levels = _polygons(self.path, _stamp(self.path), self.column, grid.crs.to_wkt())
        hits = tree.query(grid.extent.geom, predicate="intersects")
        # The last one drawn is seen: known levels over damage without one, the worst on top.
        order = hits[np.lexsort((hits, levels[hits] % UNGRADED))]
        shapes = [(tree.geometries[i], int(levels[i])) for i in order]
        codes = _burnt(shapes, grid) if shapes else np.zeros(grid.shape, np.uint8)
        if self.area is not None:
            return np.where(self.area.inside(grid), codes, np.uint8(NOT_ANALYSED))
        return codes if np.isin(codes, DAMAGED).any() else None

    def facts(self) -> Any:
        """See Labels."""
        return _files(self.path, self.area)


@dataclass(frozen=True)
class Codes:
    """A raster of damage codes; what is nodata in it is not known."""

    raster: Raster
    area: Area | None

    def codes(self, cut: Cut) -> np.ndarray | None:
        """See Labels; raises Refused for values that are no damage codes."""
        grid = cut.patches.patch(cut.index)
        codes = np.full(grid.shape, NOT_ANALYSED, np.uint8)
        nodata = self.raster.nodata
        reproject(
            rasterio.band(handle(self.raster), 1),
            codes,
            dst_transform=grid.affine,
            dst_crs=grid.crs.to_wkt(),
            src_nodata=NOT_ANALYSED if nodata is None else nodata,
            dst_nodata=NOT_ANALYSED,
            resampling=Resampling.nearest,
            tolerance=0,  # so that a pixel is judged alike in every chip
        )
        odd = sorted(set(np.unique(codes).tolist()) - set(_CODES))
        if odd:
            raise Refused(
                f"--labels {self.raster.path} holds the values {odd[:8]}, which are no damage codes "
                f"({', '.join(map(str, _CODES))}). Give a raster of those."
            )
        if self.area is not None:
            codes = np.where(self.area.inside(grid), codes, np.uint8(NOT_ANALYSED))
        return codes

    def facts(self) -> Any:
        """See Labels."""
        return _files(Path(self.raster.path), self.area)


def open_labels(request: ChipsRequest) -> Polygons | Codes | None:
    """The source of labels that was asked for, checked; raises Refused for one that cannot be used."""
    if request.labels is None:
        return None
    area = None if request.labelled_area is None else Area(request.labelled_area.absolute())
    if area is not None:
        read_polygons(area.path, "EPSG:4326", "--labelled-area")
    path = request.labels.absolute()
    if path.suffix.lower() in _RASTERS:
        raster = open_raster(path, bands=(1,), crs=request.read_as.crs)
        if raster.dtype != "uint8" or request.column is not None:
            raise Refused(
                f"--labels {path} is a raster of {raster.dtype}; damage codes are uint8, and have "
                "no --column."
            )
        return Codes(raster, area)
    found = Polygons(path, request.column, area)
    _polygons(path, _stamp(path), request.column, "EPSG:4326")
    return found


def unread_levels(labels: Labels) -> list[str]:
    """A note where polygons all count as damaged, though a column of theirs may tell levels."""
    if not isinstance(labels, Polygons) or labels.column is not None:
        return []
    frame = read_labels(labels.path)
    columns = {name: frame[name].dropna() for name in frame.columns if name != frame.geometry.name}
    told = [
        name
        for name, values in columns.items()
        if len(values) and np.isin(values.map(level_code), (*LEVELS, UNGRADED)).all()
    ]
    return [
        f"every polygon of {labels.path.name} counts as damaged; should its column {name!r} tell how "
        f"much, give --column {name}"
        for name in told[:1]
    ]


def labelled(client: Client, spots: Sequence[Spot], labels: Labels) -> list[Spot]:
    """The spots with what the labels say of them; batches of them go to the workers."""
    starts = range(0, len(spots), _PER_TASK)
    batches = [_Batch(tuple(spots[i : i + _PER_TASK])) for i in starts]
    known: dict[int, Label] = {}
    for result in run_bounded(client, _judged, batches, labels, fatal=(Refused,)):
        if isinstance(result, Failure):
            raise Refused(f"The labels cannot be read: {result.error}") from result.error
        known.update(result)
    return [replace(s, place=replace(s.place, label=known[s.ground])) for s in spots]


def label_of(codes: np.ndarray | None) -> Label:
    """Damaged where any pixel is; intact where nearly all of a chip is known, and nothing is."""
    if codes is None:
        return ""
    if np.isin(codes, DAMAGED).any():
        return "damaged"
    return "intact" if (codes != NOT_ANALYSED).mean() >= KNOWN else ""


@dataclass(frozen=True, eq=False)
class _Batch:
    spots: tuple[Spot, ...]


def _judged(labels: Labels, batch: _Batch) -> dict[int, Label]:
    """The label of each spot's ground."""
    try:
        return {s.ground: label_of(labels.codes(s.afters[0])) for s in batch.spots}
    except GDAL_ERRORS as error:  # which cannot travel
        raise Refused(f"--labels cannot be read: {error}") from None


def _burnt(shapes: Sequence[tuple[shapely.Geometry, int]], grid: GeoBox) -> np.ndarray:
    return rasterize(shapes, grid.shape, transform=grid.affine, dtype="uint8")


def _files(path: Path, area: Area | None) -> dict[str, Any]:
    known = {"labels": [fingerprint_file(part) for part in parts_of(path)]}
    return known | (
        {} if area is None else {"area": [fingerprint_file(part) for part in parts_of(area.path)]}
    )


def _stamp(path: Path) -> tuple[int, int]:
    found = os.stat(path) if path.exists() else os.stat_result((0,) * 10)
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=16)
def _area(path: Path, stamp: tuple[int, int], crs: str) -> shapely.Geometry:
    area = read_polygons(path, crs, "--labelled-area")
    shapely.prepare(area)
    return area


@lru_cache(maxsize=16)
def _polygons(
    path: Path, stamp: tuple[int, int], column: str | None, crs: str
) -> tuple[shapely.STRtree, np.ndarray]:
    """The polygons of a file in a coordinate system, and the code of each (255: level not known)."""
    frame = read_labels(path)
    codes = _levels(path, frame, column)
    shapes = frame.to_crs(crs).geometry.force_2d().make_valid().to_numpy()
    kept = np.array([s is not None and shapely.area(s) > 0 for s in shapes], bool)
    if not kept.any():
        raise Refused(f"--labels {path} holds {len(frame)} features, none of them a polygon.")
    return shapely.STRtree(shapes[kept]), codes[kept]


def _levels(path: Path, frame: gpd.GeoDataFrame, column: str | None) -> np.ndarray:
    if column is None:
        return np.full(len(frame), UNGRADED)
    codes = level_codes(path, frame, column)
    return np.where(np.isfinite(codes), codes, NOT_ANALYSED).astype(int)
