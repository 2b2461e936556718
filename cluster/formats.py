"""The formats of an export: each writes one file or folder from a finished run, in pieces."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from ..scenes import cems, fema, unosat
from ..scenes.coco import write_coco
from ..scenes.errors import Refused
from ..scenes.geojson import plain, write_geojson
from ..scenes.layer import NOT_ANALYSED
from ..scenes.legend import TITLE, UNGRADED, VERSION, entry
from ..scenes.lonlat import DECIMALS, points_inside, rounded, to_lonlat
from ..scenes.shapefile import SAME, pack, short_names, write_shapefiles
from ..scenes.vectors import (
    replacing,
    replacing_folder,
    write_csv,
    write_geopackage,
    write_stream,
)
from ..scenes.xbd_tiles import SIDE, XbdTiles, write_labels
from .finished import Finished

Writer: TypeAlias = "Callable[[Finished, Path, list[str]], dict[str, int]]"

ABOUT = "export.json"
"""In every folder that is exported: what it is. It marks a folder that may be replaced."""

_TILE_COLUMNS = (
    "building_id",
    "area_id",
    "source_id",
    "damage_class",
    "damage_name",
    "p_none",
    "p_minor",
    "p_major",
    "p_destroyed",
    "damage_score",
    "valid_frac",
    "area_m2",
)
_ZOOMS = {"MINZOOM": "8", "MAXZOOM": "16"}
"""At zoom 16 the grid of a tile is 15 cm; further in, viewers enlarge."""
_ROOMY = {"MAX_SIZE": "5000000", "MAX_FEATURES": "1000000"}
"""Above these GDAL thins out a tile without a word: 5 MB and a million buildings."""


@dataclass(frozen=True)
class Format:
    """One form in which a run leaves the house."""

    write: Writer
    """Writes it; adds what it leaves out, in words, and returns what it wrote, in numbers."""
    suffixes: tuple[str, ...] = ()
    """What its file's name may end with, the default first; a folder's name is free."""
    needs_buildings: bool = False
    """Whether it says nothing about a run that found areas instead of buildings."""


def _csv(run: Finished, path: Path, left_out: list[str]) -> dict[str, int]:
    counted = _Counter()
    write_csv(path, (_flat(block) for block in counted.watch(run.blocks())))
    left_out += _layers_left(run)
    return {run.table: counted.rows}


def _geojson(run: Finished, path: Path, left_out: list[str]) -> dict[str, int]:
    blocks = map(_named, run.blocks())
    count = write_geojson(path, blocks, about(run, "geojson"))
    left_out += _layers_left(run)
    return {run.table: count}


def _flatgeobuf(run: Finished, path: Path, left_out: list[str]) -> dict[str, int]:
    counted = _Counter()
    with _workshop(path) as (folder, part):
        file = folder / f"{run.table}.fgb"
        blocks = counted.watch(map(_named, run.blocks()))
        write_stream(file, blocks, "FlatGeobuf", run.table, TEMPORARY_DIR=str(folder))
        os.replace(file, part)
    left_out += _layers_left(run)
    return {run.table: counted.rows}


def _pmtiles(run: Finished, path: Path, left_out: list[str]) -> dict[str, int]:
    if not sum(run.counts.values()):
        raise Refused(
            f"The run found no {run.table.replace('_', ' ')}, and PMTiles cannot be empty. Export "
            "with --to geojson or flatgeobuf."
        )
    counted = _Counter()
    described = f"{TITLE}, version {VERSION}; run {run.run_id}"
    with _workshop(path) as (folder, part):
        file = folder / f"{run.table}.pmtiles"
        blocks = (_kept(_named(to_lonlat(block)), _TILE_COLUMNS) for block in run.blocks())
        options = {"NAME": run.table, "DESCRIPTION": described, "TYPE": "overlay"}
        write_stream(
            file, counted.watch(blocks), "PMTiles", run.table, **options, **_ZOOMS, **_ROOMY
        )
        os.replace(file, part)
    left_out.append("columns beyond class, probabilities, score, valid share, area and ids")
    left_out += _layers_left(run)
    return {run.table: counted.rows}


def _shapefile(run: Finished, path: Path, left_out: list[str]) -> dict[str, int]:
    counted = _Counter()
    layers = {
        run.table: counted.watch(run.blocks()),
        "aoi": [run.layer("aoi")],
        "not_analysed": [run.layer("not_analysed")],
    }
    zipped = path.suffix.lower() == ".zip"
    with _workshop(path) if zipped else _folder(path) as (folder, part):
        left_out += write_shapefiles(folder, layers)
        _write_json(folder / ABOUT, about(run, "shapefile") | _fields(run))
        if zipped:
            pack(folder, part)
    left_out.append(f"columns that are the same in every row stand in {ABOUT}")
    return {run.table: counted.rows, "layers": len(layers)}


def _xbd(run: Finished, path: Path, left_out: list[str]) -> dict[str, int]:
    name = str(run.first("post_image") or "scene")
    known = {
        "disaster": name,
        "capture_date": run.first("post_date"),
        "gsd": run.first("gsd_m"),
    }
    counted = _Counter()
    with replacing_folder(path) as folder:
        labels = folder / "labels"
        labels.mkdir()
        tiles = XbdTiles(run.grid, name, run.run_id)
        count = write_labels(labels, counted.watch(run.blocks()), tiles, known)
        _write_json(folder / ABOUT, about(run, "xbd") | {"tile_px": SIDE})
    rows, cols = (-(-side // SIDE) for side in run.grid.shape)
    if rows * cols > count:
        left_out.append(f"{rows * cols - count} of {rows * cols} tiles, which hold no building")
    left_out.append("images, and labels of the time before")
    left_out += [
        f"{run.counts[code]} buildings are un-classified in xBD: {entry(code).name.lower()}"
        for code in (UNGRADED, NOT_ANALYSED)
        if run.counts.get(code)
    ]
    return {"buildings": counted.rows, "labels": count}


def _cems(run: Finished, path: Path, left_out: list[str]) -> dict[str, int]:
    names = {"pre": run.first("pre_image"), "post": run.first("post_image")}
    dates = {"pre": run.first("pre_date"), "post": run.first("post_date")}
    sources = cems.Sources.of(run.record["facts"], names, dates)
    notation = f"{run.method}, aftermap {version('aftermap')}, run {run.run_id}"
    counted = _Counter()
    tables = {
        cems.BUILT_UP: counted.watch(cems.built_up(run.blocks(), sources, notation)),
        cems.AREA: cems.area_of_interest(run.layer("aoi")),
        cems.UNSEEN: cems.unseen(run.layer("not_analysed"), sources),
        cems.SOURCE: sources.table,
    }
    write_geopackage(path, tables, cems.styles())
    if run.counts.get(UNGRADED):
        left_out.append(
            f"that {run.counts[UNGRADED]} buildings called Damaged were not graded (am_class 5)"
        )
    left_out.append("probabilities of the levels; am_id leads back to them")
    return {cems.BUILT_UP: counted.rows, "layers": len(tables)}


def _unosat(run: Finished, path: Path, left_out: list[str]) -> dict[str, int]:
    centre = run.grid.geographic_extent.geom.centroid
    cells = unosat.CellCounts(unosat.metric_crs(centre.x, centre.y))
    rows, counted = _Counter(), _Counter()
    aoi, unseen = run.layer("aoi"), run.layer("not_analysed")
    # Cells are asked for when all sites have been written, and counted on the way.
    tables = {
        unosat.SITES: counted.watch(cells.watch(map(unosat.sites, run.blocks()))),
        unosat.CELLS: rows.watch(_later(lambda: cells.cells(aoi, unseen, run.has_buildings))),
    }
    write_geopackage(path, tables, unosat.styles())
    left_out.append("outlines: a site is a point inside its building")
    if not run.has_buildings:
        left_out.append("damaged shares: the method does not count undamaged buildings")
    return {unosat.SITES: counted.rows, unosat.CELLS: rows.rows}


def _fema(run: Finished, path: Path, left_out: list[str]) -> dict[str, int]:
    counted = _Counter()
    with replacing_folder(path) as folder:
        tables = {fema.LAYER: counted.watch(map(fema.assessed, run.blocks()))}
        write_geopackage(folder / f"{fema.LAYER}.gpkg", tables, fema.styles())
        rows = (fema.assessed(block) for block in run.blocks())
        write_csv(
            folder / f"{fema.LAYER}.csv", (pd.DataFrame(b.drop(columns="geometry")) for b in rows)
        )
        _write_json(folder / ABOUT, about(run, "fema"))
    left_out.append("degrees Affected and Inaccessible, which cannot be seen from above")
    return {"buildings": counted.rows}


def _coco(run: Finished, path: Path, left_out: list[str]) -> dict[str, int]:
    image = str(run.first("post_image") or "scene")
    written = write_coco(path, run.blocks(), run.grid, f"{image}.tif", about(run, "coco"))
    if written.holes:
        left_out.append(f"{written.holes} holes: filled in segmentation, not counted in area")
    left_out += _layers_left(run)
    return {"images": 1, "annotations": written.annotations}


FORMATS: dict[str, Format] = {
    "cems": Format(_cems, (".gpkg",), needs_buildings=True),
    "unosat": Format(_unosat, (".gpkg",)),
    "xbd": Format(_xbd, needs_buildings=True),
    "fema": Format(_fema, needs_buildings=True),
    "coco": Format(_coco, (".json",)),
    "geojson": Format(_geojson, (".geojson", ".json")),
    "flatgeobuf": Format(_flatgeobuf, (".fgb",)),
    "pmtiles": Format(_pmtiles, (".pmtiles",)),
    "shapefile": Format(_shapefile, (".zip",)),
    "csv": Format(_csv, (".csv",)),
}
"""What `--to` may be."""


def about(run: Finished, to: str) -> dict[str, Any]:
    """What an export says of itself, the same for the same run."""
    return {
        "aftermap": version("aftermap"),
        "format": to,
        "legend": f"{TITLE}, version {VERSION}",
        "run_id": run.run_id,
        "method": run.method,
        "table": run.table,
        "rows": sum(run.counts.values()),
        "by_class": {entry(code).name: count for code, count in sorted(run.counts.items())},
    }


class _Counter:
    """Counts rows that pass by."""

    def __init__(self) -> None:
        self.rows = 0

    def watch(self, blocks: Iterable[gpd.GeoDataFrame]) -> Iterator[gpd.GeoDataFrame]:
        for block in blocks:
            self.rows += len(block)
            yield block


@contextmanager
def _workshop(path: Path) -> Iterator[tuple[Path, Path]]:
    """A folder for what a driver leaves lying about, and the part that becomes `path`."""
    folder = path.with_name(f".{path.name}.work")
    with replacing(path) as part:
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir()
            yield folder, part
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _folder(path: Path) -> Iterator[tuple[Path, Path]]:
    """The same where the folder itself is what is wanted."""
    with replacing_folder(path) as folder:
        yield folder, folder


def _later(make: Callable[[], Iterable[gpd.GeoDataFrame]]) -> Iterator[gpd.GeoDataFrame]:
    """An iterable that is only made when its first element is asked for."""
    yield from make()


def _named(block: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The same rows with the class in words behind its code."""
    at = block.columns.get_loc("damage_class") + 1
    names = [entry(code).name for code in block["damage_class"].tolist()]
    named = block.copy()
    named.insert(at, "damage_name", pd.Series(names, block.index, dtype="str"))
    return named


def _kept(block: gpd.GeoDataFrame, names: Iterable[str]) -> gpd.GeoDataFrame:
    return block[[*(name for name in names if name in block.columns), block.geometry.name]]


def _flat(block: gpd.GeoDataFrame) -> pd.DataFrame:
    """A block without geometry: a point inside each row's shape, and the shape as WKT, degrees."""
    placed = to_lonlat(_named(block))
    shapes = placed.geometry.to_numpy()
    points = points_inside(shapes)
    table = pd.DataFrame(placed.drop(columns=placed.geometry.name))
    table["lon"] = np.round(shapely.get_x(points), DECIMALS)
    table["lat"] = np.round(shapely.get_y(points), DECIMALS)
    table["wkt"] = shapely.to_wkt(rounded(shapes), rounding_precision=DECIMALS)
    return table


def _fields(run: Finished) -> dict[str, Mapping[str, Any]]:
    """What a shapefile's short names mean, and what is the same in every row."""
    first = next(run.blocks())
    same = {name: plain(run.first(name)) for name in SAME if name in first.columns}
    names = short_names(first.columns.drop(first.geometry.name))
    return {"fields": names, "same_in_every_row": same}


def _layers_left(run: Finished) -> list[str]:
    """The layers that a single table has no place for."""
    unseen = run.record["totals"]["not_analysed_km2"]
    return [f"the outline of what was not analysed ({unseen:g} km2); RUN/buildings.gpkg has it"]


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
