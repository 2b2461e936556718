"""The buildings (or damage areas) of a catalogued run, found by place, class and score."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import mapping

from ...scenes.errors import Refused
from ...scenes.geojson import records
from ...scenes.vectors import write_geoparquet
from ..finished import Finished
from .catalog import Catalog
from .scene_grid import grid_of, pixels_lonlat, to_pixels
from .tables import Run, Scene
from .turns import Turns

LEVELS = ("p_none", "p_minor", "p_major", "p_destroyed")

_SHOWN = ("damage_class", "damage_score", *LEVELS, "valid_frac", "area_m2", "lon", "lat", "address")
"""What is told of a building, where the run's table has it."""

_COPYING = Turns()

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""


@dataclass(frozen=True)
class Wanted:
    """Which buildings."""

    box: Box | None = None
    classes: Collection[int] | None = None
    least_score: float | None = None
    among: Collection[str] | None = None
    """Only these ids."""
    without: Collection[str] = ()
    """None of these ids."""


@dataclass(frozen=True, eq=False)
class Buildings:
    """The result of a run as a table on disk."""

    finished: Finished
    path: Path
    """GeoParquet with bounding boxes."""
    grid: GeoBox
    """In whose pixels places are told: the catalogued image's, else the run's own."""

    @property
    def key(self) -> str:
        """The column that names a building."""
        return "building_id" if self.finished.has_buildings else "area_id"

    @property
    def extent(self) -> list[float]:
        """Where the run lies: x0, y0, x1, y1 in pixels."""
        own = self.finished.grid
        return [
            round(value, 2)
            for value in to_pixels(own.extent.geom, own.crs.to_wkt(), self.grid).bounds
        ]

    def find(self, wanted: Wanted, limit: int) -> gpd.GeoDataFrame:
        """The first of those wanted, in the table's order, with geometries in pixels."""
        columns = [
            name for name in (self.key, *_SHOWN, "geometry") if name in self._table.schema.names
        ]
        rows = self._table.scanner(columns=columns, filter=self._filter(wanted)).head(limit)
        shapes = shapely.from_wkb(rows["geometry"].to_numpy(zero_copy_only=False))
        plain = rows.drop_columns(["geometry"]).to_pandas()
        return gpd.GeoDataFrame(plain, geometry=list(to_pixels(shapes, self._crs, self.grid)))

    def features(self, found: gpd.GeoDataFrame) -> list[dict[str, Any]]:
        """Rows as GeoJSON features in pixels; `lon` and `lat` say where each lies."""
        shapes = found.geometry.to_numpy()
        middles = (
            shapely.get_coordinates(shapely.point_on_surface(shapes))
            if len(found)
            else np.zeros((0, 2))
        )
        places = np.round(pixels_lonlat(middles, self.grid), 7).tolist()
        rounded = shapely.transform(shapes, lambda xy: np.round(xy, 2))
        return [
            {
                "type": "Feature",
                "id": row.pop(self.key),
                "geometry": mapping(shape),
                "properties": {"lon": lon, "lat": lat}
                | {k: v for k, v in row.items() if v is not None or k not in ("lon", "lat")},
            }
            for row, shape, (lon, lat) in zip(records(found), rounded, places, strict=True)
        ]

    def ids(self, order: str) -> Sequence[str]:
        """All ids in the table's order, or the most uncertain first."""
        return _ids(self.path, _stamp(self.path), self.key, order)

    @property
    def _table(self) -> ds.Dataset:
        return ds.dataset(self.path, format="parquet")

    @property
    def _crs(self) -> str:
        return str(self.finished.grid.crs.to_wkt())

    def _filter(self, wanted: Wanted) -> pc.Expression | None:
        clauses = []
        if wanted.box is not None:
            x0, y0, x1, y1 = self._on_the_ground(wanted.box)
            clauses += [
                (pc.field("bbox", "xmin") <= x1) & (pc.field("bbox", "xmax") >= x0),
                (pc.field("bbox", "ymin") <= y1) & (pc.field("bbox", "ymax") >= y0),
            ]
        if wanted.classes is not None:
            clauses.append(pc.field("damage_class").isin(list(wanted.classes)))
        if wanted.least_score is not None:
            clauses.append(pc.field("damage_score") >= wanted.least_score)
        if wanted.among is not None:
            clauses.append(pc.field(self.key).isin(pa.array(list(wanted.among), pa.string())))
        if wanted.without:
            clauses.append(~pc.field(self.key).isin(pa.array(list(wanted.without), pa.string())))
        if not clauses:
            return None
        whole = clauses[0]
        for clause in clauses[1:]:
            whole = whole & clause
        return whole

    def _on_the_ground(self, box: Box) -> Box:
        """A box in pixels as bounds in the table's CRS."""
        there = shapely.segmentize(shapely.box(*box), max(box[2] - box[0], box[3] - box[1], 1) / 8)
        ground = shapely.transform(
            there, lambda xy: np.column_stack(self.grid.affine * (xy[:, 0], xy[:, 1]))
        )
        plain = GeoBox((1, 1), Affine.identity(), self._crs)
        found: Box = tuple(to_pixels(ground, self.grid.crs.to_wkt(), plain).bounds)
        return found


def open_buildings(catalog: Catalog, run: Run, scene: Scene | None) -> Buildings:
    """The table of a run; Refused where its folder is gone, or holds another run by now.

    Damage areas, which lie in the run's GeoPackage, are copied once into the catalog's cache.
    """
    folder = Path(run.path).resolve()
    stamp = _stamp(folder / "run.json")
    finished = _opened(folder, stamp)
    if finished.run_id != run.run_id:
        raise Refused(
            f"{run.path} holds another run now ({finished.run_id[:12]}). Add it with `aftermap catalog add`."
        )
    grid = None if scene is None else grid_of(scene)
    path = folder / "buildings.parquet"
    if not finished.has_buildings:
        path = _copied_areas(catalog.folder / "cache", finished, stamp)
    return Buildings(finished, path, finished.grid if grid is None else grid)


def _copied_areas(cache: Path, finished: Finished, stamp: tuple[int, int]) -> Path:
    """The areas of a run as GeoParquet; a run that went on has another stamp, and is copied anew."""
    path = cache / f"areas-{finished.run_id}-{stamp[0]:x}-{stamp[1]:x}.parquet"
    with _COPYING.of(path):
        if not path.exists():
            cache.mkdir(exist_ok=True)
            write_geoparquet(path, finished.blocks())
            for old in cache.glob(f"areas-{finished.run_id}*.parquet"):
                if old != path:
                    old.unlink(missing_ok=True)
    return path


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise Refused(f"The run's {path} cannot be read: {error.strerror}.") from error
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=32)
def _opened(folder: Path, stamp: tuple[int, int]) -> Finished:
    return Finished.open(folder)


@lru_cache(maxsize=8)
def _ids(path: Path, stamp: tuple[int, int], key: str, order: str) -> tuple[str, ...]:
    known = ds.dataset(path, format="parquet").schema.names
    columns = [key, *(name for name in (*LEVELS, "damage_score") if name in known)]
    rows = ds.dataset(path, format="parquet").to_table(columns=columns)
    ids = rows[key].to_pylist()
    if order == "uncertain":
        ids = [ids[k] for k in np.argsort(-_uncertainty(rows), kind="stable")]
    return tuple(ids)


def _uncertainty(rows: pa.Table) -> np.ndarray:
    """How little the run is sure of a building: one less its best probability; -1 where it has none."""
    score = rows["damage_score"].to_numpy(zero_copy_only=False).astype(float)
    best = np.maximum(score, 1 - score)
    if set(LEVELS) <= set(rows.column_names):
        levels = np.column_stack(
            [rows[name].to_numpy(zero_copy_only=False).astype(float) for name in LEVELS]
        )
        best = np.where(np.isnan(levels).any(axis=1), best, levels.max(axis=1))
    return np.nan_to_num(1 - best, nan=-1.0)
