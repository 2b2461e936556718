"""A table of buildings cut into xBD labels, one per tile of the run's grid."""

from __future__ import annotations

import re
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from .legend import LEGEND
from .lonlat import points_inside, to_lonlat
from .xbd import XbdBuilding, write_xbd

SIDE = 1024
"""Pixels a side of an xBD image."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "aftermap")
_XBD = {row.code: row.xbd for row in LEGEND}


@dataclass(frozen=True)
class XbdTiles:
    """The tiles of a run's grid, counted along rows from the upper left one."""

    grid: GeoBox
    """The run's analysis grid, as in `damage.tif`."""
    scene: str
    """What the files are named after: `<scene>_<8 digits>_post_disaster.json`."""
    run_id: str
    """With `building_id` what a building's uid is made of."""

    def name(self, tile: int) -> str:
        """Stem of a tile's files; names sort as the tiles do."""
        scene = re.sub(r"[^A-Za-z0-9-]+", "-", self.scene).strip("-") or "scene"
        return f"{scene}_{tile:08d}_post_disaster"

    def corner(self, tile: int) -> tuple[int, int]:
        """Row and column of a tile's first pixel."""
        row, col = divmod(tile, self._across)
        return row * SIDE, col * SIDE

    def holding(self, shapes: np.ndarray) -> np.ndarray:
        """The tile that holds a point inside each building, in pixels of the grid; int64."""
        points = points_inside(shapes)
        rows, cols = self.grid.shape
        row = np.clip(np.floor(shapely.get_y(points)), 0, rows - 1).astype(np.int64) // SIDE
        col = np.clip(np.floor(shapely.get_x(points)), 0, cols - 1).astype(np.int64) // SIDE
        return row * self._across + col

    def uid(self, building_id: str) -> str:
        """The same for the same building of the same run."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.run_id}/{building_id}"))

    def metadata(self, tile: int, known: Mapping[str, Any]) -> dict[str, Any]:
        """What is known of a tile; `aftermap` says where on the grid and the earth it lies."""
        (row, col), (rows, cols) = self.corner(tile), self.grid.shape
        height, width = min(SIDE, rows - row), min(SIDE, cols - col)
        here = self.grid[row : row + height, col : col + width]
        return dict(known) | {
            "width": width,
            "height": height,
            "original_width": width,
            "original_height": height,
            "id": f"{self.run_id}-{tile:08d}",
            "img_name": f"{self.name(tile)}.png",
            "aftermap": {
                "run_id": self.run_id,
                "row": row,
                "col": col,
                "crs": self.grid.crs.to_wkt(),
                "transform": list(here.affine)[:6],
            },
        }

    @property
    def _across(self) -> int:
        return -(-self.grid.shape[1] // SIDE)


def write_labels(
    folder: Path,
    blocks: Iterable[gpd.GeoDataFrame],
    tiles: XbdTiles,
    known: Mapping[str, Any],
) -> int:
    """Write a label for every tile that holds a building; returns how many.

    A building belongs to the one tile that holds a point inside it, and is written there whole:
    its outline may reach past the tile's edges. `blocks` may come in any order of tiles; they are
    sorted on disk. `known` is metadata that all tiles share.
    """
    spool = folder / ".tiles.sqlite"
    count = 0
    try:
        with closing(sqlite3.connect(spool, isolation_level=None)) as rows:
            rows.execute("pragma journal_mode = off")
            rows.execute("pragma synchronous = off")
            rows.execute("create table parts (tile integer, uid, subtype, xy blob, degrees blob)")
            for block in blocks:
                rows.execute("begin")
                rows.executemany("insert into parts values (?, ?, ?, ?, ?)", _rows(block, tiles))
                rows.execute("commit")
            rows.execute("create index by_tile on parts (tile)")
            found = rows.execute("select * from parts order by tile, rowid")
            for tile, held in groupby(found, itemgetter(0)):
                write_xbd(
                    folder / f"{tiles.name(tile)}.json",
                    _buildings(held),
                    tiles.metadata(tile, known),
                )
                count += 1
    finally:
        spool.unlink(missing_ok=True)
    return count


def _rows(block: gpd.GeoDataFrame, tiles: XbdTiles) -> Iterator[tuple[Any, ...]]:
    """Tile, uid, subtype and outlines of each building, the outline in pixels of its tile."""
    inverse = ~tiles.grid.affine
    placed = block.to_crs(tiles.grid.crs.to_wkt()).geometry.to_numpy()
    pixels = shapely.transform(placed, lambda xy: np.column_stack(inverse * (xy[:, 0], xy[:, 1])))
    tile = tiles.holding(pixels)
    corners = np.array([tiles.corner(number)[::-1] for number in tile.tolist()], float)
    moved = [
        shapely.transform(shape, lambda xy, by=corner: xy - by)
        for shape, corner in zip(pixels, corners, strict=True)
    ]
    degrees = to_lonlat(block).geometry.to_numpy()
    return zip(
        tile.tolist(),
        map(tiles.uid, block["building_id"]),
        [_XBD[code] for code in block["damage_class"].tolist()],
        map(shapely.to_wkb, moved),
        shapely.to_wkb(degrees),
        strict=True,
    )


def _buildings(rows: Iterable[tuple[Any, ...]]) -> Iterator[XbdBuilding]:
    for _, uid, subtype, xy, degrees in rows:
        yield XbdBuilding(uid, subtype, shapely.from_wkb(xy), shapely.from_wkb(degrees))
