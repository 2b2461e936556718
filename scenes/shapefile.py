"""A set of shapefiles in a zip archive or a folder: short names, said in words beside it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from .errors import Refused
from .vectors import write_stream

SHORT = {
    "building_id": "bldg_id",
    "footprint_source": "footprints",
    "damage_class": "dmg_class",
    "p_destroyed": "p_destroyd",
    "damage_score": "dmg_score",
    "damage_frac": "dmg_frac",
    "likely_damaged": "likely_dmg",
    "possibly_damaged": "possib_dmg",
}
"""Names of at most ten characters for columns whose own are longer."""

SAME = ("pre_image", "post_image", "pre_date", "post_date", "gsd_m", "method", "weights_sha256")
"""Columns that are the same in every row of a run: they stand in the text beside the files."""

LIMIT = 2**31 - 1
"""Bytes that one of the files may have: most readers count no further."""

_WIDEST = 254
"""Bytes that a text may have in a dBASE table."""
_RECORD, _RING, _POINT = 52, 4, 16


def write_shapefiles(folder: Path, layers: Mapping[str, Iterable[gpd.GeoDataFrame]]) -> list[str]:
    """Write each layer as a shapefile in its CRS; returns what got lost, in words.

    Text is UTF-8 (`.cpg`). Raises Refused where a file would pass two gigabytes.
    """
    lost: list[str] = []
    for name, blocks in layers.items():
        path = folder / f"{name}.shp"
        cut = _Cut()
        write_stream(
            path,
            _within_limit(cut.watch(blocks), path),
            "ESRI Shapefile",
            name,
            ENCODING="UTF-8",
            RESIZE="YES",
            DBF_DATE_LAST_UPDATE="2000-01-01",
        )
        table = path.with_suffix(".dbf")
        if table.stat().st_size > LIMIT:
            raise _too_large(table)
        if cut.texts:
            lost.append(f"{cut.texts} texts of {name} were cut to {_WIDEST} bytes")
    return lost


def pack(folder: Path, path: Path) -> None:
    """Put a folder's files into a zip archive, the same bytes for the same files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(file.name, (2000, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with file.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                while piece := source.read(1 << 20):
                    target.write(piece)


def short_names(columns: Iterable[str]) -> dict[str, str]:
    """Each column's name in a shapefile: of at most ten characters, none twice."""
    names: dict[str, str] = {}
    for column in columns:
        if column in SAME:
            continue
        name, number = SHORT.get(column, column[:10]), 1
        while name in names.values():
            name, number = f"{column[:8]}_{number}", number + 1
        names[column] = name
    return names


class _Cut:
    """Cuts texts to what the format holds, and counts them."""

    def __init__(self) -> None:
        self.texts = 0

    def watch(self, blocks: Iterable[gpd.GeoDataFrame]) -> Iterator[gpd.GeoDataFrame]:
        """Blocks with the short names, and no text too long."""
        for block in blocks:
            short = block.drop(columns=[name for name in SAME if name in block.columns])
            short = short.rename(columns=short_names(short.columns.drop(short.geometry.name)))
            for name in short.columns.drop(short.geometry.name):
                if short[name].dtype.kind != "O" and str(short[name].dtype) != "str":
                    continue
                short[name] = short[name].map(self._short, na_action="ignore").astype("str")
            yield short

    def _short(self, text: object) -> str:
        coded = str(text).encode()
        self.texts += len(coded) > _WIDEST
        return coded[:_WIDEST].decode(errors="ignore")


def _within_limit(blocks: Iterable[gpd.GeoDataFrame], path: Path) -> Iterator[gpd.GeoDataFrame]:
    """Pass blocks on while their shapes fit into one file."""
    size = 100
    for block in blocks:
        shapes = block.geometry.to_numpy()
        rings = shapely.get_parts(shapely.get_parts(shapes))
        size += _RECORD * len(shapes) + _POINT * int(shapely.get_num_coordinates(shapes).sum())
        size += _RING * int(np.sum(shapely.get_num_interior_rings(rings) + 1))
        if size > LIMIT:
            raise _too_large(path)
        yield block


def _too_large(path: Path) -> Refused:
    return Refused(
        f"{path.name} would pass {LIMIT / 1e9:.1f} GB, which is as far as a shapefile goes. "
        "Export with --to flatgeobuf, or use the run's own buildings.gpkg."
    )
