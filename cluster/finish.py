"""The last part of a run: from finished layers to rasters, buildings, tables and their totals.

Every step reads the store and replaces a whole file, so that doing it again, after a kill or a
resume, gives the same bytes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from odc.geo.geobox import GeoBox

from ..kernels.buildings import (
    AREA_COLUMNS,
    BUILDING_COLUMNS,
    Origin,
    Rules,
    detected,
    empty_table,
    supplied,
)
from ..kernels.stitch import Components, Pieces, join, pieces_in
from ..kernels.survey import (
    Cells,
    Survey,
    areas_km2,
    cell_side,
    gather,
    inside,
    not_analysed,
    survey_in,
)
from ..kernels.tally import Tally, Task, add_up, names, tally_in, tasks, to_pixels
from ..scenes.cog import write_cog
from ..scenes.footprints import Footprints
from ..scenes.legend import LEGEND, LEVELS, TITLE, UNGRADED, VERSION, entry
from ..scenes.plan import Chunk
from ..scenes.store import Store
from ..scenes.vectors import Table, read_blocks, write_csv, write_geopackage, write_geoparquet

_BLOCK = 20_000
"""Buildings in memory at once."""


class MapChunks(Protocol):
    """`map`, perhaps over a cluster: bounded, and in the order of the items."""

    def __call__(self, function: Callable[[Any], Any], items: Iterable[Any], /) -> Iterator[Any]:
        """Results of a picklable function for picklable items, in order."""


@dataclass(frozen=True, eq=False)
class FinishJob:
    """What is needed to turn a finished store into results."""

    folder: Path
    """The run folder; files in it are replaced."""
    store: Store
    grid: GeoBox
    """The georeference of the plan's region."""
    rules: Rules
    """Graded or binary, the threshold, the least area of a detected building."""
    origin: Origin
    """Method, weights, images, dates, resolution and shift: what every row says."""
    scene_prefix: str
    """What the ids of detected buildings start with."""
    footprints: Footprints | None = None
    footprint_source: str = "detected"
    """Where supplied footprints come from, in words."""
    aoi: gpd.GeoDataFrame | None = None
    """The area of interest, any CRS; None for all of the grid."""
    skipped: Sequence[tuple[Chunk, str]] = ()
    """Chunks that were set aside, each with its reason."""
    sources: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame({"path": pd.Series([], dtype="str")})
    )
    """The inputs, one row each."""


def finish(job: FinishJob, map_chunks: MapChunks) -> dict[str, Any]:
    """Write the rasters, tables and totals of a run into its folder.

    Returns the totals: `buildings` and `damage_areas` (`total`, `area_m2`, and `by_class`: code to
    `count` and `area_m2`), `analysed_km2`, `not_analysed_km2`, `not_analysed` (reason to km2),
    `footprints` (counts, or None), `skipped` (number of chunks), `files`; all fit for JSON but
    `overview`, a small uint8 array of damage codes over the region for the report's picture.
    """
    tags = {"method": job.origin.method, "run_id": job.origin.run_id}
    write = partial(_write_layer, job.store, job.grid, job.folder, tags)
    rasters = list(map_chunks(write, names(job.store.layers)))
    with closing(_Spool(job.folder / ".components.sqlite")) as spool:
        cells, tables = _look(job, map_chunks, spool)
        counted = {name: _Totals() for name in tables}
        for name, blocks in tables.items():
            write_geoparquet(_parquet(job, name), counted[name].watch(blocks))
    wanted = inside(cells, job.grid, job.aoi)
    unseen = not_analysed(cells, job.grid, wanted, job.skipped)
    facts: dict[str, Any] = {name: totals.facts() for name, totals in counted.items()}
    facts |= _area_facts(cells, job, wanted)
    summary = summarise(facts)
    layers: dict[str, Table] = {name: read_blocks(_parquet(job, name), _BLOCK) for name in tables}
    layers |= {"aoi": _outline(job), "not_analysed": unseen, "sources": job.sources}
    if job.footprints is not None and len(job.footprints.problems):
        layers["footprint_problems"] = job.footprints.problems
    write_geopackage(job.folder / "buildings.gpkg", layers | {"summary": summary})
    _parquet(job, "damage_areas").unlink()
    write_csv(job.folder / "summary.csv", summary)
    facts["files"] = [*rasters, "buildings.gpkg", "buildings.parquet", "summary.csv"]
    facts["overview"] = cells.overview
    return facts


def summarise(facts: dict[str, Any]) -> pd.DataFrame:
    """Totals as a table: one row per figure, with its damage class where it has one, and unit."""
    rows: list[tuple[str, int | None, str, float, str]] = []
    for kind in ("buildings", "damage_areas"):
        label = kind.replace("_", " ")
        rows.append((f"{label}, number", None, "", facts[kind]["total"], ""))
        rows.append((f"{label}, area", None, "", facts[kind]["area_m2"], "m2"))
        for code, figures in facts[kind]["by_class"].items():
            name = entry(code).name
            rows.append((f"{label}, number", code, name, figures["count"], ""))
            rows.append((f"{label}, area", code, name, figures["area_m2"], "m2"))
    rows.append(("analysed area", None, "", facts["analysed_km2"], "km2"))
    rows.append(("not analysed area", 255, entry(255).name, facts["not_analysed_km2"], "km2"))
    for reason, area in facts["not_analysed"].items():
        rows.append((f"not analysed area: {reason}", 255, entry(255).name, area, "km2"))
    table = pd.DataFrame(rows, columns=["figure", "damage_class", "class_name", "value", "unit"])
    return table.astype({"damage_class": "Int16", "value": "float64"})


def _write_layer(store: Store, grid: GeoBox, folder: Path, tags: dict[str, str], name: str) -> str:
    """Write one layer as a COG; the only writer of that file."""
    path = folder / f"{name}.tif"
    write_cog(store, name, grid, path, tags)
    return path.name


def _look(
    job: FinishJob, map_chunks: MapChunks, spool: _Spool
) -> tuple[Cells, dict[str, Iterable[gpd.GeoDataFrame]]]:
    """One pass over the chunks: what was seen, and the rows of both tables, in blocks."""
    plan, side = job.store.plan, cell_side(job.store.plan)
    layers, crs = names(job.store.layers), job.grid.crs.to_wkt()
    surveys: list[Survey] = []
    none: dict[str, Iterable[gpd.GeoDataFrame]] = {
        "buildings": [empty_table(BUILDING_COLUMNS, crs)],
        "damage_areas": [empty_table(AREA_COLUMNS, crs)],
    }
    if job.footprints is not None:
        frame = job.footprints.frame
        shapes = to_pixels(frame.geometry.to_numpy(), job.grid, plan)
        results = map_chunks(partial(_tally, job.store, side), tasks(shapes, plan))
        counts = add_up(_keep(results, surveys), shapes, job.store)
        table = supplied(frame, counts, layers, job.rules, job.origin, job.footprint_source)
        return gather(surveys, plan, side), none | {"buildings": [table]}
    codes = LEVELS if job.rules.graded else (UNGRADED,)
    results = map_chunks(partial(_outline_chunk, job.store, side, codes), plan)
    for components in join(_keep(results, surveys), plan):
        spool.add(components)
    name = "buildings" if job.rules.graded else "damage_areas"
    rows = (
        detected(block, layers, job.rules, job.origin, job.grid, plan, job.scene_prefix)
        for block in spool.blocks()
    )
    return gather(surveys, plan, side), none | {name: _chain(none[name], rows)}


def _tally(store: Store, side: int, task: Task) -> tuple[Survey, Tally]:
    return survey_in(store, task.chunk, side), tally_in(store, task)


def _outline_chunk(
    store: Store, side: int, codes: Sequence[int], chunk: Chunk
) -> tuple[Survey, Pieces]:
    return survey_in(store, chunk, side), pieces_in(store, chunk, codes)


def _keep(results: Iterable[tuple[Survey, Any]], surveys: list[Survey]) -> Iterator[Any]:
    """Pass on the second of each pair and keep the first."""
    for survey, other in results:
        surveys.append(survey)
        yield other


def _chain(first: Iterable[Any], second: Iterable[Any]) -> Iterator[Any]:
    yield from first
    yield from second


def _parquet(job: FinishJob, name: str) -> Path:
    """Buildings are a result of their own; damage areas pass through a hidden file."""
    return job.folder / ("buildings.parquet" if name == "buildings" else f".{name}.parquet")


def _outline(job: FinishJob) -> gpd.GeoDataFrame:
    """The area of interest on the grid's CRS, or the outline of the grid."""
    crs = job.grid.crs.to_wkt()
    if job.aoi is None:
        shape, name = shapely.Polygon(job.grid.extent.exterior.coords), "analysed grid"
        shapes = [shape]
    else:
        shapes, name = list(job.aoi.to_crs(crs).geometry), "area of interest"
    multi = [shapely.multipolygons(shapely.get_parts(shape)) for shape in shapes if shape]
    named = pd.Series([name] * len(multi), dtype="str")
    return gpd.GeoDataFrame({"name": named}, geometry=gpd.GeoSeries(multi, crs=crs))


def _area_facts(cells: Cells, job: FinishJob, wanted: np.ndarray) -> dict[str, Any]:
    """Analysed and not analysed area, the latter by reason; km2."""
    seen, unseen = areas_km2(cells, job.grid, wanted, job.skipped)
    found = job.footprints
    return {
        "analysed_km2": round(seen, 6),
        "not_analysed_km2": round(sum(unseen.values()), 6),
        "not_analysed": {reason: round(area, 6) for reason, area in unseen.items()},
        "skipped": len(job.skipped),
        "footprints": None if found is None else dict(found.counts),
        "legend": f"{TITLE}, version {VERSION}",
    }


class _Totals:
    """Counts and areas per class, gathered while rows pass by."""

    def __init__(self) -> None:
        self.count = np.zeros(256, np.int64)
        self.area = np.zeros(256)

    def watch(self, blocks: Iterable[gpd.GeoDataFrame]) -> Iterator[gpd.GeoDataFrame]:
        for block in blocks:
            classes = block["damage_class"].to_numpy()
            self.count += np.bincount(classes, minlength=256)
            self.area += np.bincount(classes, weights=block["area_m2"], minlength=256)
            yield block

    def facts(self) -> dict[str, Any]:
        by_class = {
            row.code: {
                "count": int(self.count[row.code]),
                "area_m2": round(float(self.area[row.code]), 2),
            }
            for row in LEGEND
            if self.count[row.code]
        }
        total = round(float(self.area.sum()), 2)
        return {"total": int(self.count.sum()), "area_m2": total, "by_class": by_class}


class _Spool:
    """Components on disk, given back in the order of their first pixel."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        self.rows = sqlite3.connect(path, isolation_level=None)
        self.rows.execute("pragma journal_mode = off")
        self.rows.execute("pragma synchronous = off")
        self.rows.execute("create table parts (first integer primary key, counts blob, shape blob)")

    def add(self, components: Components) -> None:
        rows = zip(
            components.first.tolist(),
            (row.tobytes() for row in components.counts),
            shapely.to_wkb(components.geometry),
            strict=True,
        )
        self.rows.execute("begin")
        self.rows.executemany("insert into parts values (?, ?, ?)", rows)
        self.rows.execute("commit")

    def blocks(self) -> Iterator[Components]:
        found = self.rows.execute("select first, counts, shape from parts order by first")
        while rows := found.fetchmany(_BLOCK):
            first, counts, shapes = zip(*rows, strict=True)
            yield Components(
                np.array(first, np.int64),
                np.frombuffer(b"".join(counts), np.int64).reshape(len(rows), -1),
                shapely.from_wkb(np.array(shapes, object)),
            )

    def close(self) -> None:
        self.rows.close()
        self.path.unlink(missing_ok=True)
