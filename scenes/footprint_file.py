"""A vector file of footprints as it is: its layer, its CRS, its features block by block."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely
from odc.geo.geobox import GeoBox

from .errors import Refused
from .vector_file import check_vector_file, offline

ID_COLUMNS = (
    "source_id",
    "building_id",
    "bldg_id",
    "osm_id",
    "osm_way_id",
    "uid",
    "uuid",
    "gml_id",
    "full_plus_code",
    "id",
    "@id",
    "objectid",
    "ogc_fid",
    "fid",
)
"""Names of columns that hold an identifier, best first; case does not matter."""

WHOLE_FILE = 200_000
"""Up to this many features a file is read whole; above, only what the grid's bounds touch."""

BLOCK = 20_000
"""Features in memory at once."""

_LONLAT = "OGC:CRS84"
"""What GeoParquet means where it names no CRS."""


@dataclass(frozen=True)
class Header:
    """What a file says about itself."""

    path: Path
    crs: str
    total: int
    """Features in the file."""
    layer: str | None
    """Layer to read; None for GeoParquet."""
    id_column: str | None
    """The column with each feature's identifier; None for the feature's number."""
    bounds: tuple[float, ...] | None
    """Bounds of all features in the file's CRS; None where they are not stored."""

    @property
    def degrees(self) -> bool:
        """Whether coordinates are longitudes and latitudes."""
        return bool(gpd.GeoSeries([], crs=self.crs).crs.is_geographic)


@dataclass(frozen=True, eq=False)
class Features:
    """Some features of a file, as they are in it."""

    position: np.ndarray
    """0-based positions in the file, int64."""
    source_id: list[str | None]
    """Each feature's own identifier as text."""
    geometry: np.ndarray
    """Geometries of any kind in the file's CRS; None where there is none."""


def read_header(path: Path) -> Header:
    """Look at a footprint file; refused if it is no local vector file with geometry and a CRS."""
    check_vector_file(path, "footprint", "--footprints")
    try:
        with offline():
            found = _parquet_header(path) if _is_parquet(path) else _header(path)
    except Refused:
        raise
    except Exception as error:  # pyogrio, pyarrow and geopandas each raise their own kinds
        raise _unreadable(path, error) from error
    return found


def read_features(header: Header, grid: GeoBox) -> Iterator[Features]:
    """The features of a file near a grid, in blocks, as they come.

    Above `WHOLE_FILE` features only those within the grid's bounds are read.
    """
    try:
        with offline():
            if header.layer is None:
                yield from _parquet_features(header)
            else:
                yield from _layer_features(header, grid)
    except Refused:
        raise
    except Exception as error:  # as above
        raise _unreadable(header.path, error) from error


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".geoparquet")


def _header(path: Path) -> Header:
    layer = _layer(path)
    info = pyogrio.read_info(path, layer=layer, force_feature_count=True, force_total_bounds=True)
    _refuse_no_crs(path, info["crs"])
    bounds = info["total_bounds"]
    kept = None if bounds is None else tuple(float(value) for value in bounds)
    return Header(path, info["crs"], int(info["features"]), layer, _id(info["fields"]), kept)


def _parquet_header(path: Path) -> Header:
    if not _plain(path):
        frame = gpd.read_parquet(path)
        _refuse_no_crs(path, frame.crs)
        crs, bounds = frame.crs.to_wkt(), tuple(frame.total_bounds.tolist())
        return Header(path, crs, len(frame), None, _id(frame.columns), bounds)
    with pq.ParquetFile(path) as file:
        geo = json.loads(file.metadata.metadata[b"geo"])
        crs = geo["columns"][geo["primary_column"]].get("crs", _LONLAT)
        _refuse_no_crs(path, crs)
        total, names = file.metadata.num_rows, file.schema_arrow.names
    wkt = gpd.GeoSeries([], crs=json.dumps(crs) if isinstance(crs, dict) else crs).crs.to_wkt()
    return Header(path, wkt, total, None, _id(names), None)


def _plain(path: Path) -> bool:
    """Whether a GeoParquet file holds WKB, which can be read row group by row group."""
    if not path.is_file():
        return False
    with pq.ParquetFile(path) as file:
        geo = json.loads((file.metadata.metadata or {}).get(b"geo", b"{}"))
    column = geo.get("columns", {}).get(geo.get("primary_column"), {})
    return column.get("encoding") == "WKB"


def _parquet_features(header: Header) -> Iterator[Features]:
    if not _plain(header.path):
        frame = gpd.read_parquet(header.path)
        for start in range(0, len(frame), BLOCK):
            part = frame.iloc[start : start + BLOCK]
            ids = [] if header.id_column is None else part[header.id_column].tolist()
            yield _features(np.arange(start, start + len(part)), ids, part.geometry.to_numpy())
        return
    with pq.ParquetFile(header.path) as file:
        geo = json.loads(file.metadata.metadata[b"geo"])
        names = [name for name in (header.id_column, geo["primary_column"]) if name is not None]
        start = 0
        for batch in file.iter_batches(BLOCK, columns=names):
            ids = [] if header.id_column is None else batch[header.id_column].to_pylist()
            shapes = shapely.from_wkb(_blobs(batch[geo["primary_column"]]))
            yield _features(np.arange(start, start + len(batch)), ids, shapes)
            start += len(batch)


def _layer_features(header: Header, grid: GeoBox) -> Iterator[Features]:
    path, layer = header.path, header.layer
    bounds = _bounds_in(grid, header.crs) if header.total > WHOLE_FILE else None
    columns = [] if header.id_column is None else [header.id_column]
    every = None if bounds is None else _all_fids(path, layer)
    options = {"bbox": bounds, "batch_size": BLOCK, "return_fids": True, "use_pyarrow": True}
    start = 0
    with pyogrio.open_arrow(path, layer=layer, columns=columns, **options) as (meta, batches):
        for batch in batches:
            # By place: a file's own column may have the name that GDAL gives to its numbers.
            fids = np.asarray(batch.column(0).to_numpy(), np.int64)
            blobs = _blobs(batch[meta["geometry_name"] or "wkb_geometry"])
            position = np.arange(start, start + len(fids))
            if every is not None:
                order, values = every
                position = order[np.searchsorted(values, fids)]
            ids = fids.tolist() if not columns else batch.column(1).to_pylist()
            yield _features(position, ids, _shapes(header, fids, blobs))
            start += len(fids)


def _shapes(header: Header, fids: np.ndarray, blobs: list[bytes | None]) -> np.ndarray:
    """Geometries from WKB; arcs, which shapely does not know, as the chains GDAL makes of them."""
    try:
        return shapely.from_wkb(np.array(blobs, object))
    except (NotImplementedError, shapely.errors.GEOSException):
        frame = pyogrio.read_dataframe(header.path, layer=header.layer, columns=[], fids=fids)
        return frame.geometry.to_numpy()


def _blobs(column: pa.Array) -> list[bytes | None]:
    return column.to_pylist()


def _features(position: np.ndarray, ids: list[object], geometry: np.ndarray) -> Features:
    """Features with their identifiers as text; their position where they have none."""
    texts = [_text(value) for value in (ids or position.tolist())]
    return Features(position.astype(np.int64), texts, np.asarray(geometry, object))


def _text(value: object) -> str | None:
    """An identifier as text; whole numbers stored as floats stay whole."""
    if value is None or value != value:
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _id(names: object) -> str | None:
    """The column that holds an identifier, if one does."""
    known = {str(name).lower(): str(name) for name in names}  # type: ignore[attr-defined]
    return next((known[name] for name in ID_COLUMNS if name in known), None)


def _layer(path: Path) -> str:
    """The layer to read: `buildings` if there is one, else the first with polygons."""
    layers = pyogrio.list_layers(path)
    spatial = [name for name, kind in layers if kind is not None]
    polygonal = [name for name, kind in layers if kind and ("Polygon" in kind or "Unknown" in kind)]
    if not spatial:
        raise Refused(
            f"The footprints {str(path)!r} hold no geometry. Give a file with polygons to "
            f"--footprints."
        )
    candidates = polygonal or spatial
    return next((name for name in candidates if name.lower() == "buildings"), candidates[0])


def _all_fids(path: Path, layer: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the file in the order of the feature ids, and those ids, ascending."""
    _, every, _, _ = pyogrio.raw.read(
        path, layer=layer, columns=[], read_geometry=False, return_fids=True
    )
    order = np.argsort(every, kind="stable")
    return order, every[order]


def _bounds_in(grid: GeoBox, crs: str) -> tuple[float, float, float, float] | None:
    """The grid's bounds in a file's CRS; None where they wrap around the earth."""
    box = grid.extent.to_crs(crs, resolution=max(grid.shape) * abs(grid.affine.a) / 50).boundingbox
    if not np.isfinite(box.bbox).all() or (box.crs and box.crs.geographic and box.span_x > 180):
        return None
    return tuple(box.bbox)


def _refuse_no_crs(path: Path, crs: object) -> None:
    if crs is None:
        raise Refused(
            f"The footprints {str(path)!r} do not say which CRS their coordinates are in. Save "
            f"them with one (for a shapefile, add its .prj) and give that file to --footprints."
        )


def _unreadable(path: Path, error: Exception) -> Refused:
    return Refused(
        f"The footprints {str(path)!r} could not be read as a vector file: {error}. "
        f"Give a file with polygons to --footprints."
    )
