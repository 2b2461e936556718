"""The tables of a region: every scene's rows in order, each building once, in bounded memory.

What a method detects on scanned squares has columns of its own, and a layer of points besides.

Where all scenes share one coordinate system the tables keep it; else they are in EPSG:4326.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from ...kernels.buildings import FLAG_COLUMNS, Rules, empty_table, geodesic_area
from ...kernels.detections import COLUMNS, Addresses, Suppression, centres
from ...scenes.catalog import CatalogImage, ScenePair
from ...scenes.grid import polygonal
from ...scenes.lonlat import to_lonlat
from ...scenes.vectors import read_blocks, write_geopackage, write_geoparquet
from ..spool import BLOCK
from ..totals import Totals
from .detections import DetectionSpool, choose_detections, detections_of
from .edges import EdgeSpool, reconcile
from .folder import MERGED, RegionFolder, SceneState
from .parts import LONLAT, TABLES, Part, as_frame, open_part, to_crs

Unseen: TypeAlias = tuple[shapely.Geometry, str, int, bool]
"""Ground that was not analysed: its outline, why, side of the cells that the outline follows (px),
and whether it follows every pixel."""

Staying: TypeAlias = Callable[[Part], Iterable[tuple[gpd.GeoDataFrame, np.ndarray]]]
"""From a scene to its rows that stay, in order and in blocks, with longitude and latitude of their
anchors."""

_LEAST = 1e-6
"""Share of a core that may lie outside its images unnoticed: rounding."""

_REASONS = 40
"""Reasons that are told apart in the totals."""


class Watcher(Protocol):
    """Who looks at rows as they pass by: totals of districts."""

    def buildings(self, block: gpd.GeoDataFrame, anchors: np.ndarray) -> None:
        """Rows of the table that tells the result, with longitude and latitude of their anchors."""

    def unseen(self, shapes: np.ndarray) -> None:
        """Ground that was not analysed, EPSG:4326."""


@dataclass(eq=False)
class Merged:
    """What is known of a region once its tables are written."""

    crs: str
    """Of the tables, WKT or name."""
    has_buildings: bool
    """Whether buildings are the result; of a binary method without footprints damage areas are."""
    totals: dict[str, Totals] = field(default_factory=dict)
    analysed_m2: float = 0.0
    unseen_m2: dict[str, float] = field(default_factory=dict)
    """Not analysed, by reason."""
    scenes: dict[str, dict[int, int]] = field(default_factory=dict)
    """Buildings (or damage areas) of each scene by damage code."""

    @property
    def table(self) -> str:
        """The table that tells the result."""
        return "buildings" if self.has_buildings else "damage_areas"

    def facts(self) -> dict[str, Any]:
        """Totals as `finish.summarise` takes them."""
        unseen = {reason: round(area / 1e6, 6) for reason, area in self.unseen_m2.items()}
        facts: dict[str, Any] = {name: totals.facts() for name, totals in self.totals.items()}
        facts |= {
            "analysed_km2": round(self.analysed_m2 / 1e6, 6),
            "not_analysed_km2": round(sum(self.unseen_m2.values()) / 1e6, 6),
            "not_analysed": unseen,
            "footprints": None,
        }
        return facts | self.totals["buildings"].expectations()


@dataclass(frozen=True, eq=False)
class Merge:
    """One merge of what is there: pairs in order, and which of them have results."""

    folder: RegionFolder
    pairs: Sequence[ScenePair]
    states: Callable[[str], SceneState | None]
    parts: Sequence[ScenePair]
    """Those of the pairs that have results."""
    rules: Rules
    """By which all scenes were judged."""
    has_buildings: bool
    """Whether the method grades damage, or footprints were supplied."""
    watchers: Sequence[Watcher] = ()
    suppression: Suppression | None = None
    """How scanned squares become detections; None where damage areas are none."""
    addresses: Addresses | None = None
    """Where detections get their addresses from."""

    def columns(self, table: str) -> tuple[str, ...]:
        """The columns of a table of its scenes."""
        return COLUMNS if table == "damage_areas" and self.suppression else TABLES[table]

    def part(self, number: int) -> Part:
        """A scene with results."""
        return open_part(self.folder, self.parts[number], number)

    def every(self) -> Iterator[Part]:
        """All scenes with results, one in memory at a time."""
        return (self.part(number) for number in range(len(self.parts)))


def write_tables(
    merge: Merge, more: Callable[[Merged], Mapping[str, pd.DataFrame | Iterable[pd.DataFrame]]]
) -> Merged:
    """Write `buildings.parquet` and `buildings.gpkg` of a region.

    `more` is asked for further layers (scenes, districts, summary) once the rows have passed by.
    """
    out = merge.folder.path
    merged = _opened(merge)
    with ExitStack() as stack:
        for name in TABLES:
            staying = _staying(merge, merged.crs, name, stack)
            write_geoparquet(_parquet(out, name), _rows(merge, merged, name, staying))
    unseen = out / ".not_analysed.parquet"
    write_geoparquet(unseen, _unseen(merge, merged))
    layers: dict[str, Any] = {name: _written(_parquet(out, name)) for name in TABLES}
    layers |= {"not_analysed": read_blocks(unseen, BLOCK), "sources": _sources(merge)}
    if merge.suppression is not None:
        layers["damage_points"] = map(centres, _written(_parquet(out, "damage_areas")))
    write_geopackage(out / "buildings.gpkg", layers | dict(more(merged)))
    _parquet(out, "damage_areas").unlink()
    unseen.unlink()
    return merged


def wanted_columns(own: Sequence[str]) -> tuple[str, ...]:
    """The columns of a merged table: a run's own, and the scene before the geometry."""
    return (*own[:-1], "scene_id", "geometry")


def _opened(merge: Merge) -> Merged:
    """The tables to be, empty, in the common coordinate system."""
    systems = {part.crs for part in merge.every()}
    totals = {name: Totals(merge.rules) for name in TABLES}
    return Merged(systems.pop() if len(systems) == 1 else LONLAT, merge.has_buildings, totals)


def _staying(merge: Merge, crs: str, table: str, stack: ExitStack) -> Staying:
    """What gives a table's rows that stay, scene by scene; its spool is closed with the stack."""
    path = merge.folder.path / f".edges-{table}.sqlite.part"
    if table == "damage_areas" and merge.suppression is not None:
        chosen = choose_detections(path, merge.every(), merge.rules, merge.suppression, crs)
        stack.enter_context(closing(chosen))
        return partial(_detected, merge, chosen)
    edges = stack.enter_context(closing(reconcile(path, merge.parts, merge.part, table)))
    return partial(_owned, edges, table)


def _owned(
    spool: EdgeSpool, table: str, part: Part
) -> Iterator[tuple[gpd.GeoDataFrame, np.ndarray]]:
    """The rows whose anchors a scene owns, but for what was decided along its core's edge."""
    gone, back = spool.changes(part.number)
    for first, block in part.blocks(table, TABLES[table]):
        anchors = part.anchors(block)
        row = np.arange(first, first + len(block))
        stays = (part.owns(anchors) & ~np.isin(row, gone)) | np.isin(row, back)
        yield block[stays], anchors[stays]


def _detected(
    merge: Merge, spool: DetectionSpool, part: Part
) -> Iterator[tuple[gpd.GeoDataFrame, np.ndarray]]:
    """The detections that are a scene's, with their centres."""
    rows = detections_of(part, spool, merge.rules, merge.addresses)
    if rows is not None:
        yield rows, rows[["lon", "lat"]].to_numpy()


def _rows(merge: Merge, merged: Merged, table: str, staying: Staying) -> Iterator[gpd.GeoDataFrame]:
    """The rows that stay, scene by scene, counted as they pass by."""
    columns = list(wanted_columns(merge.columns(table)))
    yield _typed(empty_table(merge.columns(table), merged.crs).assign(scene_id=""), columns)
    for part in merge.every():
        if table == merged.table:
            merged.scenes[part.pair.scene_id] = {}
        for block, anchors in staying(part):
            rows = _typed(_placed(block, part, merged.crs), columns)
            if table == merged.table:
                _count(merged, part.pair.scene_id, rows)
                for watcher in merge.watchers:
                    watcher.buildings(rows, anchors)
            yield from merged.totals[table].watch([rows])


def _placed(block: gpd.GeoDataFrame, part: Part, crs: str) -> gpd.GeoDataFrame:
    """Rows of a scene in the region's coordinate system, with their scene and its dates."""
    rows = block.set_crs(part.crs, allow_override=True)
    if crs != part.crs:
        rows = to_lonlat(rows) if crs == LONLAT else rows.to_crs(crs)
    pair = part.pair
    for name, image in (("pre_date", pair.pre), ("post_date", pair.post)):
        known = _day(image)
        if known is not None:
            rows = rows.assign(**{name: known})
    return rows.assign(scene_id=pair.scene_id)


def _typed(rows: gpd.GeoDataFrame, columns: list[str]) -> gpd.GeoDataFrame:
    text = dict.fromkeys(("pre_date", "post_date", "scene_id"), "str")
    return rows.astype(text)[columns].reset_index(drop=True)


def _day(image: CatalogImage | None) -> str | None:
    return None if image is None or image.time is None else image.time.date().isoformat()


def _count(merged: Merged, scene: str, rows: gpd.GeoDataFrame) -> None:
    known = merged.scenes[scene]
    for code, count in rows["damage_class"].value_counts().items():
        known[int(code)] = known.get(int(code), 0) + int(count)


def _unseen(merge: Merge, merged: Merged) -> Iterator[gpd.GeoDataFrame]:
    """The ground that no scene with results has seen, with reasons; areas are summed on the way."""
    yield _unseen_frame([], "", merged.crs)
    numbers = {pair.scene_id: number for number, pair in enumerate(merge.parts)}
    for pair in merge.pairs:
        if pair.scene_id in numbers:
            frame = _unseen_of(merge.part(numbers[pair.scene_id]), merged)
        else:
            frame = _unseen_core(pair, merge.states(pair.scene_id), merged.crs)
        for reason, area in zip(frame["reason"], frame["area_m2"], strict=True):
            _add_reason(merged, reason, float(area))
        seen = float(geodesic_area(np.array([pair.core], object), LONLAT)[0])
        merged.analysed_m2 += max(0.0, seen - float(frame["area_m2"].sum()))
        lonlat = frame.geometry.to_crs(LONLAT).to_numpy()
        for watcher in merge.watchers:
            watcher.unseen(lonlat)
        yield frame


def _unseen_of(part: Part, merged: Merged) -> gpd.GeoDataFrame:
    """What one scene could not see of its core."""
    found, core = part.run.layer("not_analysed"), part.core
    rows: list[Unseen] = [
        (polygonal(shapely.intersection(shape, core)), str(reason), int(cell), bool(exact))
        for shape, reason, cell, exact in zip(
            found.geometry.make_valid(),
            found["reason"],
            found["cell_px"],
            found["exact"],
            strict=True,
        )
    ]
    beyond = polygonal(shapely.difference(core, part.run.grid.extent.geom))
    if beyond.area > _LEAST * core.area:
        rows.append((beyond, "outside the images", 1, True))
    rows = [row for row in rows if row[0].area > 0]
    if merged.crs != part.crs:
        placed = to_lonlat(as_frame([row[0] for row in rows], part.crs)).geometry
        rows = [(shape, *row[1:]) for shape, row in zip(placed, rows, strict=True)]
    return _unseen_frame(rows, part.pair.scene_id, merged.crs)


def _unseen_core(pair: ScenePair, state: SceneState | None, crs: str) -> gpd.GeoDataFrame:
    """The whole core of a scene without results."""
    known = "missing" if state is None else state.state
    reason = {
        "failed": f"the scene failed: {state.reason if state else ''}",
        "nothing": "no pixel of the scene could be analysed",
        **dict.fromkeys(MERGED, "the scene's results are gone or cannot be read"),
    }.get(known, "the scene has not been assessed yet")
    return _unseen_frame([(to_crs(pair.core, LONLAT, crs), reason, 1, True)], pair.scene_id, crs)


def _unseen_frame(rows: list[Unseen], scene: str, crs: str) -> gpd.GeoDataFrame:
    shapes, reasons, cells, exact = zip(*rows, strict=True) if rows else ((), (), (), ())
    frame = as_frame(
        shapes,
        crs,
        reason=pd.Series(reasons, dtype="str"),
        scene_id=pd.Series([scene] * len(rows), dtype="str"),
        cell_px=np.array(cells, np.int32),
        exact=np.array(exact, bool),
        area_m2=0.0,
    )
    frame["area_m2"] = np.round(geodesic_area(frame.geometry.to_numpy(), crs), 2)
    return frame.astype({"area_m2": "float64"})


def _add_reason(merged: Merged, reason: str, area: float) -> None:
    """Add to a reason's area; what scenes failed of is told scene by scene, not here."""
    short = reason.partition(":")[0] if reason.startswith("the scene failed") else reason
    if short not in merged.unseen_m2 and len(merged.unseen_m2) >= _REASONS:
        short = "further reasons"
    merged.unseen_m2[short] = merged.unseen_m2.get(short, 0.0) + area


def _sources(merge: Merge) -> Iterator[pd.DataFrame]:
    """The inputs of every scene, one row each."""
    columns = {"scene_id": "str", "role": "str", "path": "str", "bytes": "int64"}
    columns |= {"sampled_sha256": "str"}
    rows = (
        {"scene_id": part.pair.scene_id, "role": role}
        | {name: file.get(name) for name in ("path", "bytes", "sampled_sha256")}
        for part in merge.every()
        for role, files in sorted(part.run.record["facts"]["inputs"].items())
        for file in files
    )
    yield pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in columns.items()})
    while some := list(islice(rows, BLOCK)):
        yield pd.DataFrame(some, columns=list(columns)).astype(columns)


def _written(path: Path) -> Iterator[gpd.GeoDataFrame]:
    """The rows of a table as they were written, in blocks."""
    kinds = dict.fromkeys(FLAG_COLUMNS, "boolean")
    return (block.astype(kinds) for block in read_blocks(path, BLOCK))


def _parquet(out: Path, name: str) -> Path:
    return out / ("buildings.parquet" if name == "buildings" else f".{name}.parquet")
