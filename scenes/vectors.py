"""Vector files that appear whole or not at all, byte for byte the same every time.

A table is a frame, or an iterable of frames that hold its rows in order; large tables are written
block by block, so that memory does not follow the number of buildings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias
from xml.sax.saxutils import quoteattr

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely

from .errors import AftermapError
from .legend import LEGEND, TITLE, VERSION, Entry

Table: TypeAlias = "pd.DataFrame | Iterable[pd.DataFrame]"

ROW_GROUP = 65_536
"""Rows per row group of a GeoParquet file, and per block when it is read back."""

_DATE = "2000-01-01T00:00:00.000Z"
"""The date that GDAL writes into every GeoPackage, so that two runs give the same bytes."""

_STYLES = "layer_styles"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when all went well and removed otherwise."""
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        _remove(part)
        yield part
        os.replace(part, path)
    except (OSError, pyogrio.errors.DataSourceError, pa.ArrowException) as error:
        raise AftermapError(
            f"{str(path)!r} could not be written: {error}. Free space on the disk or make the "
            f"folder writable, and run the same command again; finished chunks are kept."
        ) from error
    finally:
        _remove(part)


def write_geopackage(
    path: Path, tables: Mapping[str, Table], styles: Mapping[str, str] | None = None
) -> None:
    """Write tables as layers of one GeoPackage, in order, with QGIS styles.

    Frames without a geometry become plain tables. `styles` maps layers to QML, which lands in
    `layer_styles`; by default every table that has a style here gets it.
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


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a plain table as CSV; text that a spreadsheet would run as a formula is quoted off."""
    with replacing(path) as part:
        safe = frame.apply(lambda column: column.map(_cell))
        safe.to_csv(part, index=False, lineterminator="\n")


def default_styles() -> dict[str, str]:
    """QML for the layers of a run, from the legend."""
    classes = [entry for entry in LEGEND if entry.code != 0]
    ungraded = [entry for entry in LEGEND if entry.code == 5]
    return {
        "buildings": _qml(classes),
        "damage_areas": _qml(ungraded),
        "not_analysed": _single_qml(LEGEND[-1]),
    }


def _cell(value: object) -> object:
    """A CSV cell that no spreadsheet takes for a formula."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


@contextmanager
def _fixed_date() -> Iterator[None]:
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _DATE})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})


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
            options |= {"geometry_type": "MultiPolygon", "promote_to_multi": True}
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


def _style_row(layer: str, column: str, qml: str) -> dict[str, object]:
    """A row of the table in which QGIS looks for a layer's default style."""
    return {
        "f_table_catalog": "",
        "f_table_schema": "",
        "f_table_name": layer,
        "f_geometry_column": column,
        "styleName": layer,
        "styleQML": qml,
        "styleSLD": "",
        "useAsDefault": True,
        "description": f"{TITLE}, version {VERSION}",
        "owner": "",
        "ui": "",
        "update_time": pd.Timestamp(_DATE),
    }


def _qml(entries: list[Entry]) -> str:
    """A QGIS style that colours by `damage_class`."""
    categories = "".join(
        f'<category value="{entry.code}" type="long" symbol="{k}" render="true" '
        f"label={quoteattr(entry.name)}/>"
        for k, entry in enumerate(entries)
    )
    symbols = "".join(_symbol(str(k), entry) for k, entry in enumerate(entries))
    return _document(
        f'<renderer-v2 type="categorizedSymbol" attr="damage_class" enableorderby="0">'
        f"<categories>{categories}</categories><symbols>{symbols}</symbols></renderer-v2>"
    )


def _single_qml(entry: Entry) -> str:
    """A QGIS style that draws everything like one row of the legend."""
    return _document(
        f'<renderer-v2 type="singleSymbol"><symbols>{_symbol("0", entry)}</symbols></renderer-v2>'
    )


def _document(renderer: str) -> str:
    doctype = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
    return f'{doctype}<qgis version="3.28.0" styleCategories="Symbology">{renderer}</qgis>'


def _symbol(name: str, entry: Entry) -> str:
    """A fill in the entry's colour, or stripes in it."""
    red, green, blue = entry.rgb
    options = {
        "color": f"{red},{green},{blue},{255 if entry.hatched else 190}",
        "style": "b_diagonal" if entry.hatched else "solid",
        "outline_color": f"{red // 2},{green // 2},{blue // 2},255",
        "outline_width": "0.2",
        "outline_width_unit": "MM",
        "outline_style": "solid",
    }
    listed = "".join(
        f'<Option name={quoteattr(key)} type="QString" value={quoteattr(value)}/>'
        for key, value in options.items()
    )
    return (
        f'<symbol type="fill" name="{name}" alpha="1"><layer class="SimpleFill" enabled="1">'
        f'<Option type="Map">{listed}</Option></layer></symbol>'
    )


def _regrouped(blocks: Iterable[pd.DataFrame], rows: int) -> Iterator[gpd.GeoDataFrame]:
    """The same rows in blocks of `rows`, so that a file does not tell how it was fed."""
    held: pd.DataFrame | None = None
    full = 0
    for block in blocks:
        if held is None or not len(held):
            held = block
        elif len(block):
            held = pd.concat([held, block], ignore_index=True)
        while len(held) >= rows:
            yield held.iloc[:rows]
            held = held.iloc[rows:]
            full += 1
    if held is not None and (len(held) or not full):
        yield held


def _arrow(block: gpd.GeoDataFrame, bounds: np.ndarray) -> pa.Table:
    """A block as an Arrow table: plain columns, WKB, and the bounds of each row."""
    plain = pd.DataFrame(_plain_types(block.drop(columns=block.geometry.name)))
    table = pa.Table.from_pandas(plain, preserve_index=False).replace_schema_metadata(None)
    fields = [pa.field(name, _narrow(table.schema.field(name).type)) for name in table.column_names]
    table = table.cast(pa.schema(fields))
    wkb = pa.array(shapely.to_wkb(block.geometry.to_numpy()), pa.binary())
    corners = [pa.array(bounds[:, k], pa.float64()) for k in range(4)]
    box = pa.StructArray.from_arrays(corners, ["xmin", "ymin", "xmax", "ymax"])
    return table.append_column("geometry", wkb).append_column("bbox", box)


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
    plain = table.drop_columns(["geometry"]).to_pandas()
    shapes = shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False))
    return gpd.GeoDataFrame(plain, geometry=shapes, crs=crs)


def _remove(part: Path) -> None:
    """Remove a temporary file and what SQLite may have left beside it."""
    for leftover in (part, part.with_name(f"{part.name}-journal")):
        leftover.unlink(missing_ok=True)
