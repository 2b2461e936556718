"""Buildings along the edges of scenes' cores: each once, whichever scene saw it where.

Two scenes that overlap were made of other images, and may disagree by a pixel about a building's
anchor: both would keep it, or neither. So rows near the edge of their scene's core are looked at
again. Two rows of different scenes are the same building when they share half of the smaller one,
or when they are the same supplied footprint. Taken in turn, a row stays unless it is the same
building as one that stayed: first those that the edge of their image does not cut, of these first
those whose anchor their scene owns, and of these the larger ones first. Such rows are few; they pass through a throw-away SQLite file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from ...scenes.catalog import ScenePair
from ..spool import Spool
from .parts import LONLAT, TABLES, Part

NEAR_M = 2.0
"""Rows at most this far from their core's edge are looked at again: images lie that far apart."""

SAME = 0.5
"""Share of the smaller of two rows that both cover, from which they are one building."""

_AROUND = 0.003
"""How far around a core others count as its neighbours, degrees: a large building."""


class TurnSpool(Spool):
    """Rows of scenes that are taken in turn, and which of them stand in each other's way."""

    tables: tuple[str, ...] = (
        "links (scene integer, row integer, scene2 integer, row2 integer)",
        "stays (scene integer, row integer, primary key (scene, row)) without rowid",
    )

    def link(self, rows: Iterable[tuple[int, int]], others: Iterable[tuple[int, int]]) -> None:
        """Note for each row, scene and number, another one that takes its place by staying."""
        self.insert("links", (a + b for a, b in zip(rows, others, strict=True)), 4)

    def taken(self, scene: int, row: int) -> bool:
        """Whether one that stays has taken a row's place; `links` has an index by then."""
        found = self.rows.execute(
            "select 1 from links join stays on scene2 = stays.scene and row2 = stays.row "
            "where links.scene = ? and links.row = ? limit 1",
            (scene, row),
        )
        return found.fetchone() is not None

    def stay(self, scene: int, row: int) -> None:
        """Let a row stay."""
        self.rows.execute("insert into stays values (?, ?)", (scene, row))


class EdgeSpool(TurnSpool):
    """Rows near edges, which of them are one building, and what is decided."""

    tables = (
        "rows (scene integer, row integer, cut integer, kept integer, may integer, source text, "
        "area real, shape blob, primary key (scene, row)) without rowid",
        "changes (scene integer, row integer, stays integer, primary key (scene, row)) "
        "without rowid",
        *TurnSpool.tables,
    )

    def near(self, scenes: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scene, row and outline (EPSG:4326) of the rows near the edges of some scenes."""
        marks = ", ".join("?" * len(scenes))
        found = self.rows.execute(
            f"select scene, row, shape from rows where shape is not null and scene in ({marks}) "
            "order by scene, row",
            list(scenes),
        ).fetchall()
        scene, row, shapes = zip(*found, strict=True) if found else ((), (), ())
        wkb = np.array(shapes, object)
        return np.array(scene, np.int64), np.array(row, np.int64), shapely.from_wkb(wkb)

    def numbers(self, scene: int) -> set[int]:
        """Rows near the edge of one scene."""
        return {
            row for (row,) in self.rows.execute("select row from rows where scene = ?", (scene,))
        }

    def changes(self, scene: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a scene that go although it owns their anchors, and rows that come back."""
        found = self.rows.execute(
            "select row, stays from changes where scene = ? order by row", (scene,)
        ).fetchall()
        every = np.array(found, np.int64).reshape(-1, 2)
        return every[every[:, 1] == 0, 0], every[every[:, 1] == 1, 0]

    def decide(self) -> None:
        """Let rows stay, in turn, unless they are the same building as one that stayed."""
        run = self.rows.execute
        run("create index linked on links (scene, row)")
        run("create index named on rows (source) where source is not null")
        run(
            "insert into links select a.scene, a.row, b.scene, b.row from rows a join rows b "
            "on a.source = b.source and a.scene <> b.scene where a.source is not null"
        )
        run("begin")
        order = run(
            "select scene, row, kept, may from rows order by cut, kept desc, area desc, scene, row"
        )
        for scene, row, kept, may in order:
            stays = bool(may) and not self.taken(scene, row)
            if stays:
                self.stay(scene, row)
            if stays != bool(kept):
                run("insert into changes values (?, ?, ?)", (scene, row, int(stays)))
        run("commit")


def reconcile(
    path: Path,
    pairs: Sequence[ScenePair],
    open_at: Callable[[int], Part],
    table: str,
) -> EdgeSpool:
    """Look at a table's rows along the edges of all cores, and decide which stay.

    `open_at` opens the part of a pair by its number. The caller closes the spool.
    """
    spool = EdgeSpool(path)
    cores = shapely.STRtree([pair.core for pair in pairs])
    for number in range(len(pairs)):
        _find_near(spool, cores, open_at(number), table)
    for number, pair in enumerate(pairs):
        around = cores.query(shapely.buffer(pair.core, _AROUND))
        others = sorted(int(k) for k in around if k != number)
        if others:
            _find_same(spool, others, open_at(number), table)
    spool.decide()
    return spool


def _find_near(spool: EdgeSpool, cores: shapely.STRtree, part: Part, table: str) -> None:
    """Keep the rows of one scene that come near the edge of its core."""
    edge = shapely.buffer(part.core.boundary, NEAR_M * part.units_per_metre)
    # Where an image ends, so do the buildings that it shows.
    rim = shapely.buffer(part.run.grid.extent.geom.boundary, part.pixel)
    shapely.prepare(edge)
    shapely.prepare(rim)
    shapely.prepare(part.core)
    for first, block in part.blocks(table, TABLES[table]):
        shapes = block.geometry.to_numpy()
        near = np.flatnonzero(shapely.intersects(edge, shapes))
        if not len(near):
            continue
        rows, shapes = block.iloc[near], shapes[near]
        anchors = part.anchors(rows)
        kept = part.owns(anchors)
        # What lies wholly beyond the edge comes back only where some scene answers for the ground.
        owned = np.zeros(len(near), bool)
        owned[cores.query(shapely.points(anchors), predicate="intersects")[0]] = True
        may = kept | owned | shapely.intersects(part.core, shapes)
        cut = shapely.intersects(rim, shapes)
        lonlat = gpd.GeoSeries(shapes, crs=part.crs).to_crs(LONLAT).to_numpy()
        given = _given(rows)
        spool.insert(
            "rows",
            zip(
                [part.number] * len(near),
                (first + near).tolist(),
                cut.tolist(),
                kept.tolist(),
                may.tolist(),
                given,
                rows["area_m2"].tolist(),
                # A footprint is known by its name, and two that overlap are two buildings.
                [None if g else w for g, w in zip(given, shapely.to_wkb(lonlat), strict=True)],
                strict=True,
            ),
            8,
        )


def _find_same(spool: EdgeSpool, others: list[int], part: Part, table: str) -> None:
    """Link the rows of one scene with those near its neighbours' edges that are the same."""
    scene, row, outlines = spool.near(others)
    if not len(scene):
        return
    placed = gpd.GeoSeries(outlines, crs=LONLAT).to_crs(part.crs).to_numpy()
    placed = shapely.make_valid(placed)
    tree = shapely.STRtree(placed)
    mine = spool.numbers(part.number)
    for first, block in part.blocks(table, TABLES[table]):
        shapes = block.geometry.to_numpy()
        left, right = tree.query(shapes, predicate="intersects")
        if not len(left):
            continue
        shared = shapely.area(shapely.intersection(shapes[left], placed[right]))
        least = np.minimum(shapely.area(shapes[left]), shapely.area(placed[right]))
        same = shared >= SAME * least
        left, right = left[same], right[same]
        unique = np.unique(left)
        rows = block.iloc[unique]
        kept = part.owns(part.anchors(rows)) if len(rows) else np.zeros(0, bool)
        known = np.array([first + k in mine for k in unique.tolist()], bool)
        counts = kept | known
        here = counts[np.searchsorted(unique, left)]
        left, right = left[here], right[here]
        fresh = kept & ~known
        added = rows[fresh]
        spool.insert(
            "rows",
            (
                (part.number, first + k, 0, 1, 1, None, area, None)
                for k, area in zip(unique[fresh].tolist(), added["area_m2"].tolist(), strict=True)
            ),
            8,
        )
        there = list(zip(scene[right].tolist(), row[right].tolist(), strict=True))
        ours = [(part.number, first + k) for k in left.tolist()]
        spool.link(ours, there)
        spool.link(there, ours)


def _given(rows: gpd.GeoDataFrame) -> list[str | None]:
    """The ids of supplied footprints, which are the same in every scene; None for detected ones."""
    if "footprint_source" not in rows:
        return [None] * len(rows)
    supplied = (rows["footprint_source"] != "detected").tolist()
    names = rows.iloc[:, 0].tolist()
    return [name if given else None for name, given in zip(names, supplied, strict=True)]
