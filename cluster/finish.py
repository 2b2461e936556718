"""The last part of a run: from finished layers to rasters, buildings, tables and their totals.

Every step reads the store and replaces a whole file, so that doing it again, after a kill or a
resume, gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Any, Protocol

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from odc.geo.geobox import GeoBox

from ..kernels.buildings import (
    AREA_COLUMNS,
    BUILDING_COLUMNS,
    FLAG_COLUMNS,
    Origin,
    Rules,
    detected,
    empty_table,
    supplied,
)
from ..kernels.detections import LAYER, Addresses, Suppression, centres, detections
from ..kernels.stitch import Pieces, join, pieces_in
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
from ..kernels.tally import Tally, Task, add_up, chunk_rows, names, tally_in, tasks, to_pixels
from ..scenes.cog import write_cog
from ..scenes.footprints import FootprintFile
from ..scenes.legend import TITLE, VERSION, entry
from ..scenes.plan import Chunk, Plan
from ..scenes.shift_field import Moves, ShiftField
from ..scenes.store import Store
from ..scenes.vectors import Table, read_blocks, write_csv, write_geopackage, write_geoparquet
from .folder import RunFolder
from .futures import check_stop, heed
from .heap import trim
from .spool import BLOCK, ComponentSpool, Counted, FootprintSpool
from .totals import Totals


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
    footprints: FootprintFile | None = None
    footprint_source: str = "detected"
    """Where supplied footprints come from, in words."""
    shifts: ShiftField | None = None
    """The shift between the images from place to place, by which supplied footprints are moved
    before they are counted; None where they lie on the after image already."""
    suppression: Suppression = field(default_factory=Suppression)
    """How scanned squares that lie on each other become one detection."""
    addresses: Addresses | None = None
    """Where scanned squares get their addresses from."""
    aoi: gpd.GeoDataFrame | None = None
    """The area of interest, any CRS; None for all of the grid."""
    skipped: Sequence[tuple[Chunk, str]] = ()
    """Chunks that were set aside, each with its reason."""
    sources: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame({"path": pd.Series([], dtype="str")})
    )
    """The inputs, one row each."""


def finish(job: FinishJob, map_chunks: MapChunks, stop: Event | None = None) -> dict[str, Any]:
    """Write the rasters, tables and totals of a run into its folder.

    Once `stop` is set, Stopped is raised between two parts of the work; what is written is whole.
    Returns the totals: `buildings` and `damage_areas` (`total`, `area_m2`, and `by_class`: code to
    `count` and `area_m2`), `analysed_km2`, `not_analysed_km2`, `not_analysed` (reason to km2),
    `footprints` (counts, or None), `skipped` (number of chunks), `files`; all fit for JSON but
    `overview`, a small uint8 array of damage codes over the region for the report's picture.
    """
    tags = {"method": job.origin.method, "run_id": job.origin.run_id}
    write = partial(_write_layer, job.store, job.grid, job.folder, tags)
    rasters = list(map_chunks(write, names(job.store.layers)))
    counted = {name: Totals(job.rules) for name in ("buildings", "damage_areas")}
    with _pieces(job, map_chunks, stop) as found:
        for name, blocks in found.tables.items():
            write_geoparquet(_parquet(job, name), counted[name].watch(heed(stop, blocks)))
        check_stop(stop)
        cells = found.cells
        wanted = inside(cells, job.grid, job.aoi)
        unseen = not_analysed(cells, job.grid, wanted, job.skipped)
        facts: dict[str, Any] = {name: totals.facts() for name, totals in counted.items()}
        facts |= _area_facts(cells, job, wanted) | {"footprints": found.footprints}
        facts |= counted["buildings"].expectations()
        summary = summarise(facts)
        layers: dict[str, Table] = {
            name: heed(stop, _written(_parquet(job, name))) for name in counted
        }
        layers |= {"aoi": _outline(job), "not_analysed": unseen, "sources": job.sources}
        layers |= found.notes
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
    for code, interval in facts.get("intervals", {}).items():
        name = entry(code).name
        rows.append(("buildings, expected number", code, name, interval["count"], ""))
        rows.append(("buildings, expected number, low (95 %)", code, name, interval["low"], ""))
        rows.append(("buildings, expected number, high (95 %)", code, name, interval["high"], ""))
    rows.append(("analysed area", None, "", facts["analysed_km2"], "km2"))
    rows.append(("not analysed area", 255, entry(255).name, facts["not_analysed_km2"], "km2"))
    for reason, area in facts["not_analysed"].items():
        rows.append((f"not analysed area: {reason}", 255, entry(255).name, area, "km2"))
    table = pd.DataFrame(rows, columns=["figure", "damage_class", "class_name", "value", "unit"])
    return table.astype({"damage_class": "Int16", "value": "float64"})


def _write_layer(store: Store, grid: GeoBox, folder: Path, tags: dict[str, str], name: str) -> str:
    """Write one layer as a COG; the only writer of that file."""
    path = folder / f"{name}.tif"
    run = RunFolder(folder)

    def wanted() -> bool:
        return not run.record.exists() or run.read().get("run_id") == tags["run_id"]

    write_cog(store, name, grid, path, tags, wanted)
    trim()
    return path.name


@dataclass(frozen=True, eq=False)
class _Found:
    """One pass over the chunks: what was seen, and the rows of both tables, in blocks."""

    cells: Cells
    tables: dict[str, Iterable[gpd.GeoDataFrame]]
    footprints: dict[str, int] | None = None
    """Counts of the supplied footprints."""
    notes: dict[str, Table] = field(default_factory=dict)
    """Further layers."""


def _pieces(
    job: FinishJob, map_chunks: MapChunks, stop: Event | None
) -> AbstractContextManager[_Found]:
    """The way from pixels to rows: by supplied footprints, scanned squares, or components."""
    if job.footprints is not None:
        return _count(job, job.footprints, map_chunks, stop)
    scored = LAYER in names(job.store.layers)
    return _scan(job, map_chunks) if scored else _detect(job, map_chunks)


@contextmanager
def _scan(job: FinishJob, map_chunks: MapChunks) -> Iterator[_Found]:
    """Choose among the squares of the whole scene."""
    plan, side = job.store.plan, cell_side(job.store.plan)
    surveys = list(map_chunks(partial(survey_in, job.store, side=side), plan))
    found = detections(
        job.store, job.grid, job.rules, job.suppression, job.origin, job.scene_prefix, job.addresses
    )
    tables = _empty(job) | {"damage_areas": [found]}
    yield _Found(gather(surveys, plan, side), tables, notes={"damage_points": centres(found)})


@contextmanager
def _detect(job: FinishJob, map_chunks: MapChunks) -> Iterator[_Found]:
    """Outline components on the workers, and join them over the seams."""
    plan, side, layers = job.store.plan, cell_side(job.store.plan), names(job.store.layers)
    codes = job.rules.codes
    surveys: list[Survey] = []
    with closing(ComponentSpool(job.folder / ".components.sqlite")) as spool:
        results = map_chunks(partial(_outline_chunk, job.store, side, codes), plan)
        for components in join(_keep(results, surveys), plan):
            spool.add(components)
        make_rows = partial(
            detected,
            layers=layers,
            rules=job.rules,
            origin=job.origin,
            grid=job.grid,
            plan=plan,
            scene_prefix=job.scene_prefix,
        )
        rows = map_chunks(make_rows, spool.blocks())
        name = "buildings" if job.rules.finds_buildings else "damage_areas"
        tables = _empty(job)
        yield _Found(gather(surveys, plan, side), tables | {name: chain(tables[name], rows)})


@contextmanager
def _count(
    job: FinishJob, given: FootprintFile, map_chunks: MapChunks, stop: Event | None
) -> Iterator[_Found]:
    """Count the pixels of supplied footprints on the workers, a row of chunks at a time."""
    plan, side = job.store.plan, cell_side(job.store.plan)
    surveys: list[Survey] = []
    with closing(FootprintSpool(job.folder / ".footprints.sqlite.part")) as spool:
        for block in heed(stop, given.blocks()):
            moves = _moves(job, block.frame)
            moved = None if moves is None else (moves.rows_px, moves.cols_px)
            shapes = to_pixels(block.frame.geometry.to_numpy(), job.grid, plan, moved)
            spool.add(block, shapes, moves, chunk_rows(shapes, plan))
        results = map_chunks(partial(_tally, job.store, side), _tasks(spool, plan))
        for tally in _keep(results, surveys):
            spool.count(tally)
        make_rows = partial(
            _supplied, job.store, job.grid.crs.to_wkt(), job.rules, job.origin, job.footprint_source
        )
        tables = _empty(job) | {"buildings": map_chunks(make_rows, spool.blocks())}
        told = spool.totals["problems"]
        notes: dict[str, Table] = {"footprint_problems": spool.problems()} if told else {}
        counts = given.counts(spool.totals)
        yield _Found(gather(surveys, plan, side), tables, counts, notes)


def _empty(job: FinishJob) -> dict[str, Iterable[gpd.GeoDataFrame]]:
    """Both tables without rows."""
    crs = job.grid.crs.to_wkt()
    return {
        "buildings": [empty_table(BUILDING_COLUMNS, crs)],
        "damage_areas": [empty_table(AREA_COLUMNS, crs)],
    }


def _moves(job: FinishJob, frame: gpd.GeoDataFrame) -> Moves | None:
    """How far each footprint is moved: by the shift at its centroid."""
    if job.shifts is None:
        return None
    middle = to_pixels(shapely.centroid(frame.geometry.to_numpy()), job.grid, job.store.plan)
    return job.shifts.at(shapely.get_y(middle.geometry), shapely.get_x(middle.geometry))


def _tasks(spool: FootprintSpool, plan: Plan) -> Iterator[Task]:
    """Every chunk with its footprints; those of one row of chunks are in memory."""
    down, across = plan.chunk_grid
    for i in range(down):
        yield from tasks(spool.chunk_row(i), [plan.at(i, j) for j in range(across)])


def _supplied(
    store: Store, crs: str, rules: Rules, origin: Origin, source: str, found: Counted
) -> gpd.GeoDataFrame:
    """Rows of the table of supplied footprints."""
    counts = add_up(found.tallies, found.shapes, store)
    frame = found.frame.set_crs(crs)
    return supplied(frame, counts, names(store.layers), rules, origin, source)


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


def _written(path: Path) -> Iterator[gpd.GeoDataFrame]:
    """The rows of a table as they were written, in blocks."""
    kinds = dict.fromkeys(FLAG_COLUMNS, "boolean")  # read back, a flag with gaps is of no type
    return (block.astype(kinds) for block in read_blocks(path, BLOCK))


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
    return {
        "analysed_km2": round(seen, 6),
        "not_analysed_km2": round(sum(unseen.values()), 6),
        "not_analysed": {reason: round(area, 6) for reason, area in unseen.items()},
        "skipped": len(job.skipped),
        "legend": f"{TITLE}, version {VERSION}",
    }
