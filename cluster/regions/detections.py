"""Detections of a region: the squares of all its scenes, suppressed as if one scene had scored them.

A square belongs to the scene whose core holds its centre. The scenes' own tables do not do here:
what a scene dropped for a better square that turns out to be its neighbour's would be told by
nobody. So all squares that reach the threshold are taken again, in the order of the run's own rule
over the whole region, and dropped only for one that stays. Two guarantees follow: no two
detections have more in common than the rule allows, whichever scenes they are of; and every square
that a scene owns and that reaches the threshold is a detection or has more than that in common
with one. Where the grids of all scenes agree, the region has the detections of one run over all.

Where they do not, a strip along a seam may be shown by none of the squares that a scene owns. The
squares that show it are taken too, after all others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from itertools import compress
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely

from ...kernels.buildings import Origin, Rules, to_map
from ...kernels.detections import (
    COLUMNS,
    LAYER,
    Addresses,
    Squares,
    Suppression,
    detections_table,
    reaching,
    squares_of,
)
from ...kernels.suppression import drops, rivals
from .edges import TurnSpool
from .parts import LONLAT, Part

_ALIKE = 0.99
"""Share from which squares of two scenes are the same square, however much may overlap."""

_STRIP = 0.01
"""Share of a square that is ground and not rounding."""


class DetectionSpool(TurnSpool):
    """Squares of all scenes that reach the threshold, who drops whom, and which stay."""

    tables = (
        "squares (scene integer, row integer, row0 integer, col0 integer, row1 integer, "
        "col1 integer, score real, owned integer, first real, second real, third real, west real, "
        "south real, east real, north real, shape blob, primary key (scene, row)) without rowid",
        *TurnSpool.tables,
    )

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.bounds: dict[int, np.ndarray] = {}
        """Of the squares of each scene; west, south, east, north, EPSG:4326."""

    def add(
        self, scene: int, squares: Squares, owned: np.ndarray, turns: np.ndarray, lonlat: np.ndarray
    ) -> None:
        """Keep the squares of a scene: which it owns, when it is their turn (n, 3), outlines."""
        self.bounds[scene] = shapely.total_bounds(lonlat)
        columns = (squares.boxes, squares.scores, owned, turns, shapely.bounds(lonlat))
        rows = zip(*(column.tolist() for column in columns), shapely.to_wkb(lonlat), strict=True)
        self.insert(
            "squares",
            (
                (scene, number, *box, score, int(mine), *turn, *place, wkb)
                for number, (box, score, mine, turn, place, wkb) in enumerate(rows)
            ),
            16,
        )

    def near(self, bounds: np.ndarray) -> tuple[list[tuple[int, int]], np.ndarray]:
        """Scene and number, and outline (EPSG:4326), of the squares that reach into a box."""
        west, south, east, north = bounds.tolist()
        scenes = [
            scene
            for scene, (left, low, right, high) in self.bounds.items()
            if left <= east and right >= west and low <= north and high >= south
        ]
        found = self.rows.execute(
            f"select scene, row, shape from squares where scene in ({', '.join('?' * len(scenes))}) "
            "and west <= ? and east >= ? and south <= ? and north >= ?",
            [*scenes, east, west, north, south],
        ).fetchall()
        shapes = np.array([shape for *_, shape in found], object)
        return [(scene, row) for scene, row, _ in found], shapely.from_wkb(shapes)

    def decide(self) -> None:
        """Let squares stay, in turn, unless one that stayed drops them."""
        self.rows.execute("create index linked on links (scene, row)")
        self.rows.execute("begin")
        order = self.rows.execute(
            "select scene, row from squares order by owned desc, first, second, third, scene, row"
        )
        for scene, row in order:
            if not self.taken(scene, row):
                self.stay(scene, row)
        self.rows.execute("commit")

    def kept(self, scene: int) -> Squares:
        """The squares of a scene that stay, in the order of their first pixels."""
        found = self.rows.execute(
            "select row0, col0, row1, col1, score from squares join stays using (scene, row) "
            "where scene = ? order by row0, col0",
            (scene,),
        ).fetchall()
        every = np.array(found, float).reshape(-1, 5)
        return Squares(every[:, :4].astype(np.int64), every[:, 4])


def choose_detections(
    path: Path, parts: Iterable[Part], rules: Rules, suppression: Suppression, crs: str
) -> DetectionSpool:
    """Choose among the squares of all scenes; the caller closes the spool.

    Equals have their turn from north to south and west to east in `crs`, that of the region's
    tables. Memory follows the scene with the most squares and its neighbours.
    """
    spool = DetectionSpool(path)
    for part in parts:
        squares, owned = _candidates(part, rules)
        if len(owned):
            _take(spool, part, squares, owned, suppression, crs)
    spool.decide()
    return spool


def detections_of(
    part: Part, spool: DetectionSpool, rules: Rules, addresses: Addresses | None
) -> gpd.GeoDataFrame | None:
    """The detections of a region that are one scene's, sorted by first pixel; None without any.

    Rows are those of the scene's own table. What is not in that one, for a better square that is
    another scene's, is made anew; for these `addresses` are asked for.
    """
    kept = spool.kept(part.number)
    if not len(kept.scores):
        return None
    told = pd.concat([block for _, block in part.blocks("damage_areas", COLUMNS)])
    ids = kept.ids(part.pair.scene_id)
    new = kept.take(~np.isin(ids, told["area_id"]))
    rows = told[told["area_id"].isin(ids)]
    if len(new.scores):
        row0, col0, row1, col1 = part.plan.region
        grid, origin = part.grid[row0:row1, col0:col1], _origin(told)
        made = detections_table(new, grid, part.plan, rules, origin, part.pair.scene_id, addresses)
        rows = pd.concat([rows.set_crs(part.crs, allow_override=True), made])
    return rows.set_index("area_id").loc[ids].reset_index()[list(COLUMNS)]


def _candidates(part: Part, rules: Rules) -> tuple[Squares, np.ndarray]:
    """The squares of a scene that may become detections, and which of them it owns."""
    with rasterio.open(part.run.path / f"{LAYER}.tif") as source:
        squares = squares_of(source.read(1), part.plan)
    centres = shapely.centroid(_on_map(part, squares))
    owned = part.owns(shapely.get_coordinates(gpd.GeoSeries(centres, crs=part.crs).to_crs(LONLAT)))
    hits = reaching(squares, rules.threshold)
    taken = hits & (owned | _alone(part, squares, owned, hits))
    return squares.take(taken), owned[taken]


def _alone(part: Part, squares: Squares, owned: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Which of the hits that others own show ground of the core that no own square shows, bool."""
    core = shapely.transform(part.core, lambda xy: np.column_stack(~part.grid.affine * tuple(xy.T)))
    shapely.prepare(core)
    outlines, found = squares.outlines, hits & ~owned
    found[found] = shapely.intersects(core, outlines[found])
    if not found.any():
        return found
    own = outlines[owned]
    tree = shapely.STRtree(own)
    for number in np.flatnonzero(found).tolist():
        ground = shapely.intersection(outlines[number], core)
        seen = shapely.union_all(own[tree.query(ground)])
        rest = shapely.area(shapely.difference(ground, seen))
        found[number] = rest > _STRIP * shapely.area(outlines[number])
    return found


def _take(
    spool: DetectionSpool,
    part: Part,
    squares: Squares,
    owned: np.ndarray,
    suppression: Suppression,
    crs: str,
) -> None:
    """Keep the squares of a scene, and who drops whom among them and those of earlier scenes."""
    number, outlines = part.number, squares.outlines
    on_map = gpd.GeoSeries(_on_map(part, squares), crs=part.crs)
    lonlat = on_map.to_crs(LONLAT).to_numpy()
    names, others = spool.near(shapely.total_bounds(lonlat))
    turns = _turns(on_map.to_crs(crs), squares.scores, suppression.rule)
    spool.add(number, squares, owned, turns, lonlat)
    mine = [(number, row) for row in range(len(outlines))]
    pairs = rivals(squares.boxes[:, [1, 0, 3, 2]], suppression.overlap, suppression.rule)
    for left, right in (pairs, pairs[::-1]):
        spool.link([mine[k] for k in left.tolist()], [mine[k] for k in right.tolist()])
    if names:
        _meet(spool, mine, outlines, names, _in_pixels(part, others), suppression)


def _meet(
    spool: DetectionSpool,
    mine: list[tuple[int, int]],
    outlines: np.ndarray,
    names: list[tuple[int, int]],
    others: np.ndarray,
    suppression: Suppression,
) -> None:
    """Note which squares of a scene and of others drop each other; outlines in the same pixels."""
    overlap, rule = min(suppression.overlap, _ALIKE), suppression.rule
    left, right = shapely.STRtree(others).query(outlines, predicate="intersects")
    ours, theirs = [mine[k] for k in left.tolist()], [names[k] for k in right.tolist()]
    lost = drops(others[right], outlines[left], overlap, rule)
    spool.link(compress(ours, lost), compress(theirs, lost))
    lost = drops(outlines[left], others[right], overlap, rule)
    spool.link(compress(theirs, lost), compress(ours, lost))


def _turns(squares: gpd.GeoSeries, scores: np.ndarray, rule: str) -> np.ndarray:
    """When it is a square's turn, by three keys (n, 3): as `suppressed` takes boxes."""
    west, south, _, north = squares.bounds.to_numpy().round(8 if squares.crs.is_geographic else 3).T
    if rule == "malisiewicz":
        return np.column_stack([np.zeros(len(squares)), south, -west])
    return np.column_stack([-scores, -north, west])


def _on_map(part: Part, squares: Squares) -> np.ndarray:
    """The outlines of squares in their scene's coordinate system."""
    row0, col0, row1, col1 = part.plan.region
    return to_map(squares.outlines, part.grid[row0:row1, col0:col1], part.plan)


def _in_pixels(part: Part, lonlat: np.ndarray) -> np.ndarray:
    """Outlines of other scenes in the pixels of this one."""
    placed = gpd.GeoSeries(lonlat, crs=LONLAT).to_crs(part.crs).to_numpy()
    turn = ~part.grid.affine
    return shapely.transform(placed, lambda xy: np.column_stack(turn * tuple(xy.T)))


def _origin(told: gpd.GeoDataFrame) -> Origin:
    """What all rows of a scene have in common."""
    row = told.iloc[0]
    known = {field.name: row[field.name] for field in fields(Origin)}
    values: dict[str, Any] = {k: None if pd.isna(v) else v for k, v in known.items()}
    return Origin(**values)
