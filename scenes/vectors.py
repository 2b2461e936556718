"""Vector files that appear whole or not at all, byte for byte the same every time.

A table is a frame, or an iterable of frames that hold its rows in order; large tables are written
block by block, so that memory does not follow the number of buildings.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely

from .errors import AftermapError
from .gdal_options import vector_options
from .legend import TITLE, VERSION
from .styles import Style, default_styles

Table: TypeAlias = "pd.DataFrame | Iterable[pd.DataFrame]"

ROW_GROUP = 65_536
"""Rows per row group of a GeoParquet file, and per block when it is read back."""

_DATE = "2000-01-01T00:00:00.000Z"
"""The date that GDAL writes into every GeoPackage, so that two runs give the same bytes."""

_FAILURES = (
    OSError,
    pa.ArrowException,
    sqlite3.Error,
    pyogrio.errors.DataSourceError,
    pyogrio.errors.DataLayerError,
    pyogrio.errors.FeatureError,
)
"""What writing raises when the disk is full or the folder is gone."""

_STYLES = "layer_styles"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@contextmanager
def replacing(path: Path, mark: str = "") -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when all went well and removed otherwise.

    `mark` in its name keeps writers apart who may be at it at the same time.
    """
    part = path.with_name(f".{path.stem}{mark}.part{path.suffix}")
    try:
        _remove(part)
        yield part
        os.replace(part, path)
    except _FAILURES as error:
        raise AftermapError(
            f"{str(path)!r} could not be written: {error}. Free space on the disk or make the "
            f"folder writable, and run the same command again; what is finished is kept."
        ) from error
    finally:
        _remove(part)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path` that takes its place when all went well, else is removed.

    A folder that stood there is removed with all that is in it: the caller has looked inside.
    """
    old = path.with_name(f".{path.name}.old")
    with replacing(path) as part:
        part.mkdir(parents=True)
        yield part
        _remove(old)
        if path.exists():
            os.replace(path, old)
    _remove(old)


def write_geopackage(
    path: Path, tables: Mapping[str, Table], styles: Mapping[str, Style] | None = None
) -> None:
    """Write tables as layers of one GeoPackage, in order, with styles for QGIS and others.

    Frames without a geometry become plain tables, frames of points layers of points, all others
    layers of multipolygons. `styles` maps layers to styles, which land in `layer_styles`; by
    default every table that has a style here gets it.
    """
    with replacing(path) as part, _fixed_date():
        located: dict[str, str | None] = {}
        for name, table in tables.items():
            located[name] = _write_layer(part, name, table)
        known = default_styles() if styles is None else styles
        rows = [
            _style_row(name, column, known[name])
            for name, column in located.items()
            if name in known and column
        ]
        if rows:
            pyogrio.write_dataframe(
                pd.DataFrame(rows), part, layer=_STYLES, driver="GPKG", append=True, FID="id"
            )


def write_geoparquet(path: Path, table: Table, row_group: int = ROW_GROUP) -> None:
    """Write a table with a geometry column as GeoParquet 1.1 with bounding boxes per row."""
    with replacing(path) as part:
        writer: pq.ParquetWriter | None = None
        extent, crs = np.array([np.inf, np.inf, -np.inf, -np.inf]), None
        try:
            for block in _regrouped(_blocks(table), row_group):
                crs = block.crs
                bounds = shapely.bounds(block.geometry.to_numpy())
                rows = _arrow(block, bounds)
                if writer is None:
                    writer = pq.ParquetWriter(part, rows.schema, compression="zstd")
                writer.write_table(rows, row_group_size=row_group)
                if len(block):
                    low, high = np.nanmin(bounds[:, :2], axis=0), np.nanmax(bounds[:, 2:], axis=0)
                    extent[:2] = np.minimum(extent[:2], low)
                    extent[2:] = np.maximum(extent[2:], high)
            if writer is None:
                raise ValueError("a table without a single frame has no columns")
            writer.add_key_value_metadata({"geo": json.dumps(_geo(crs, extent), sort_keys=True)})
        finally:
            if writer is not None:
                writer.close()


def read_blocks(path: Path, rows: int = ROW_GROUP) -> Iterator[gpd.GeoDataFrame]:
    """The rows of a GeoParquet file in order, at most one block in memory at a time."""
    with pq.ParquetFile(path) as file:
        geo = json.loads(file.metadata.metadata[b"geo"])
        crs = geo["columns"]["geometry"]["crs"]
        names = [name for name in file.schema_arrow.names if name != "bbox"]
        schema = pa.schema([file.schema_arrow.field(name) for name in names])
        batches = file.iter_batches(rows, columns=names) if file.metadata.num_rows else ()
        yield from (_frame(pa.Table.from_batches([batch]), crs) for batch in batches)
        if not file.metadata.num_rows:
            yield _frame(schema.empty_table(), crs)


def write_csv(path: Path, table: Table) -> None:
    """Write a plain table as CSV; text that a spreadsheet would run as a formula is quoted off."""
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        for number, block in enumerate(_blocks(table)):
            safe = pd.DataFrame({name: block[name].map(_cell) for name in block.columns})
            safe.to_csv(file, index=False, header=number == 0, lineterminator="\n")


def write_stream(
    path: Path, blocks: Iterable[gpd.GeoDataFrame], driver: str, layer: str, **options: str
) -> None:
    """Write frames as one layer with a GDAL driver that cannot append, a block at a time.

    `options` are GDAL's creation options. The first frame says the columns and the CRS. The file
    is written where it is told to be: the caller replaces what was there.
    """
    feed = iter(blocks)
    first = next(feed)
    rows = _wkb_table(first)

    failures: list[Exception] = []

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from rows.to_batches()
            for block in feed:
                yield from _wkb_table(block).cast(rows.schema).to_batches()
        except Exception as error:
            failures.append(error)
            raise

    with _fixed_date(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Normalized/laundered field name", RuntimeWarning)
        try:
            pyogrio.raw.write_arrow(
                pa.RecordBatchReader.from_batches(rows.schema, batches()),
                path,
                layer=layer,
                driver=driver,
                geometry_name="geometry",
                geometry_type="MultiPolygon",
                crs=first.crs.to_wkt(),
                **options,
            )
        except Exception as error:
            # GDAL says only that the stream broke; what broke it says why.
            raise failures[0] if failures else error from error


def _cell(value: object) -> object:
    """A CSV cell that no spreadsheet takes for a formula."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _fixed_date() -> AbstractContextManager[None]:
    return vector_options({"OGR_CURRENT_DATE": _DATE})


def _blocks(table: Table) -> Iterable[pd.DataFrame]:
    return [table] if isinstance(table, pd.DataFrame) else table


def _write_layer(path: Path, name: str, table: Table) -> str | None:
    """Write one layer block by block; returns its geometry column, None for a plain table."""
    column: str | None = None
    for number, block in enumerate(_blocks(table)):
        options: dict[str, object] = {"driver": "GPKG", "layer": name}
        options["append"] = path.exists() if number == 0 else True
        if isinstance(block, gpd.GeoDataFrame):
            column = "geom"
            points = len(block) > 0 and bool((block.geom_type == "Point").all())
            kind = "Point" if points else "MultiPolygon"
            options |= {"geometry_type": kind, "promote_to_multi": not points}
        pyogrio.write_dataframe(_plain_types(block), path, **options)
    return column


def _plain_types(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of nothing but None become text, which every format can hold."""
    blank = [
        name
        for name in frame.columns
        if frame[name].dtype == object and not len(frame[name].dropna())
    ]
    return frame.astype(dict.fromkeys(blank, "str")) if blank else frame


def _style_row(layer: str, column: str, style: Style) -> dict[str, object]:
    """A row of the table in which QGIS and GeoServer look for a layer's default style."""
    return {
        "f_table_catalog": "",
        "f_table_schema": "",
        "f_table_name": layer,
        "f_geometry_column": column,
        "styleName": layer,
        "styleQML": style.qml,
        "styleSLD": style.sld,
        "useAsDefault": True,
        "description": f"{TITLE}, version {VERSION}",
        "owner": "",
        "ui": "",
        "update_time": pd.Timestamp(_DATE),
    }


def _regrouped(blocks: Iterable[pd.DataFrame], rows: int) -> Iterator[gpd.GeoDataFrame]:
    """The same rows in blocks of `rows`, so that a file does not tell how it was fed."""
    held: list[pd.DataFrame] = []
    count = full = 0
    for block in blocks:
        # Of empty blocks one is enough, for its columns.
        held = [block] if not count else [*held, block] if len(block) else held
        count += len(block)
        if count < rows:
            continue
        whole = held[0] if len(held) == 1 else pd.concat(held, ignore_index=True)
        while len(whole) >= rows:
            yield whole.iloc[:rows]
            whole = whole.iloc[rows:]
            full += 1
        held, count = [whole], len(whole)
    if held and (count or not full):
        yield held[0] if len(held) == 1 else pd.concat(held, ignore_index=True)


def _arrow(block: gpd.GeoDataFrame, bounds: np.ndarray) -> pa.Table:
    """A block as an Arrow table: plain columns, WKB, and the bounds of each row."""
    table = _plain_arrow(block)
    wkb = pa.array(shapely.to_wkb(block.geometry.to_numpy()), pa.binary())
    corners = [pa.array(bounds[:, k], pa.float64()) for k in range(4)]
    box = pa.StructArray.from_arrays(corners, ["xmin", "ymin", "xmax", "ymax"])
    return table.append_column("geometry", wkb).append_column("bbox", box)


def _wkb_table(block: gpd.GeoDataFrame) -> pa.Table:
    """A block as GDAL takes it from Arrow: plain columns and multipolygons marked as WKB."""
    shapes = block.geometry.to_numpy()
    parts, owner = shapely.get_parts(shapes, return_index=True)
    multi = np.full(len(shapes), shapely.MultiPolygon(), dtype=object)
    if len(parts):
        kept = np.unique(owner)
        multi[kept] = shapely.multipolygons(parts, indices=owner)[kept]
    mark = {"ARROW:extension:name": "geoarrow.wkb"}
    field = pa.field("geometry", pa.binary(), metadata=mark)
    return _plain_arrow(block).append_column(field, pa.array(shapely.to_wkb(multi), pa.binary()))


def _plain_arrow(block: gpd.GeoDataFrame) -> pa.Table:
    """The columns without geometry, text as text."""
    plain = pd.DataFrame(_plain_types(block.drop(columns=block.geometry.name)))
    table = pa.Table.from_pandas(plain, preserve_index=False).replace_schema_metadata(None)
    fields = [pa.field(name, _narrow(table.schema.field(name).type)) for name in table.column_names]
    return table.cast(pa.schema(fields))


def _narrow(kind: pa.DataType) -> pa.DataType:
    """Text as plain strings whatever pandas holds it in; columns of None as text."""
    text = pa.types.is_large_string(kind) or pa.types.is_null(kind)
    return pa.string() if text else kind


def _geo(crs: object, extent: np.ndarray) -> dict[str, object]:
    """The GeoParquet 1.1 header."""
    column: dict[str, object] = {
        "encoding": "WKB",
        "geometry_types": ["MultiPolygon", "Polygon"],
        "crs": crs.to_json_dict() if hasattr(crs, "to_json_dict") else None,
        "covering": {
            "bbox": {key: ["bbox", key] for key in ("xmin", "ymin", "xmax", "ymax")},
        },
    }
    if np.isfinite(extent).all():
        column["bbox"] = extent.tolist()
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def _frame(table: pa.Table, crs: object) -> gpd.GeoDataFrame:
    """An Arrow table read back as a frame with geometry."""
    # As "boolean", for with a null among them True and False would become objects.
    kinds = {pa.bool_(): pd.BooleanDtype()}
    plain = table.drop_columns(["geometry"]).to_pandas(types_mapper=kinds.get)
    shapes = shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False))
    return gpd.GeoDataFrame(plain, geometry=shapes, crs=crs)


def _remove(part: Path) -> None:
    """Remove a temporary file and what SQLite may have left beside it."""
    for leftover in (part, part.with_name(f"{part.name}-journal")):
        if leftover.is_dir():
            shutil.rmtree(leftover)
            continue
        # A parent that is a file is said by whoever writes.
        with suppress(FileNotFoundError, NotADirectoryError):
            leftover.unlink()
