"""Patches: images cut into squares, each a piece of ground that other images may show as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS

from .ard import APRON_METRES, CELL_METRES, ArdCell
from .places import Box, transformer

SIZE = 1024
"""Side of a patch in paper 001, px."""

ARD_PIXELS = 17_408
"""Side of a whole ARD tile, px: its cell and an apron of 512 px on every side."""

_SAME = 0.02
"""Patches lie on the same ground if their sides differ by at most this, px."""


@dataclass(frozen=True, eq=False)
class PatchGrid:
    """A north-up grid cut into squares without overlap, counted by rows: patch = cols * row + col.

    What is left at the right and lower edge belongs to no patch. An ARD tile has 17 x 17 of 1,024 px.
    """

    grid: GeoBox
    size: int
    """Side of a patch, px."""

    @property
    def rows(self) -> int:
        """Patches from north to south."""
        return self.grid.shape[0] // self.size

    @property
    def cols(self) -> int:
        """Patches from west to east."""
        return self.grid.shape[1] // self.size

    def __len__(self) -> int:
        return self.rows * self.cols

    def __reduce__(self) -> tuple[type[PatchGrid], tuple[GeoBox, int]]:
        return PatchGrid, (self.grid, self.size)  # tasks need not carry all boxes

    def window(self, index: int) -> tuple[int, int, int, int]:
        """First row and column of a patch and those after its last, px of the grid."""
        row, col = divmod(index, self.cols)
        return (
            row * self.size,
            col * self.size,
            (row + 1) * self.size,
            (col + 1) * self.size,
        )

    def patch(self, index: int) -> GeoBox:
        """The pixels of a patch on the earth."""
        row0, col0, row1, col1 = self.window(index)
        return self.grid[row0:row1, col0:col1]

    def box(self, index: int) -> Box:
        """West, south, east, north of a patch in the grid's CRS."""
        west, south, east, north = self.boxes[index].tolist()
        return west, south, east, north

    @cached_property
    def boxes(self) -> np.ndarray:
        """West, south, east, north of all patches: (n, 4)."""
        row, col = np.array(np.divmod(np.arange(len(self)), max(self.cols, 1))) * self.size
        step, affine = self.size, self.grid.affine
        return np.column_stack(
            [
                affine.c + affine.a * col,
                affine.f + affine.e * (row + step),
                affine.c + affine.a * (col + step),
                affine.f + affine.e * row,
            ]
        )

    @property
    def crs(self) -> str:
        """The coordinate system: an EPSG code, or WKT where it has none."""
        return _crs_name(self.grid.crs.to_wkt())

    def touching(self, area: shapely.Geometry) -> np.ndarray:
        """Which patches show something of an area in EPSG:4326: bool (n,)."""
        corners = _corners(self.boxes)
        degrees = transformer(self.crs, "EPSG:4326").transform(corners[..., 0], corners[..., 1])
        return shapely.intersects(shapely.polygons(np.stack(degrees, axis=-1)), area)


@dataclass(frozen=True)
class Grounds:
    """Which pieces of ground the patches of several grids show."""

    of: tuple[np.ndarray, ...]
    """For each grid the ground of each patch, int; -1 where the patch is left out."""
    owners: tuple[tuple[int, int], ...]
    """For each ground the first grid and patch that shows it."""
    overlapping: int
    """Patches left out because they show a part of an earlier grid's patch."""

    @property
    def repeated(self) -> int:
        """Patches that show the very ground of an earlier grid's patch."""
        return sum(int((of >= 0).sum()) for of in self.of) - len(self.owners)


def share_grounds(
    grids: Sequence[PatchGrid], wanted: Sequence[np.ndarray] | None = None
) -> Grounds:
    """Tell which patches of different grids show the same ground.

    A patch on the very ground of an earlier grid's patch, in the same CRS, is the same place: so
    are column 16 of an ARD tile and column 0 of its eastern neighbour. One that shows a part of an
    earlier patch, in whatever CRS, is left out. `wanted` is bool (patches,) for each grid.
    """
    near = shapely.STRtree([grid.grid.geographic_extent.geom for grid in grids])
    found: list[np.ndarray] = []
    owners: list[tuple[int, int]] = []
    overlapping = 0
    for number, grid in enumerate(grids):
        earlier = np.sort(near.query(near.geometries[number]))
        mine = np.full(len(grid), -1)
        clash = np.zeros(len(grid), bool)
        for other in earlier[earlier < number]:
            same, cut = _compare(grid, grids[other], found[other])
            mine = np.where(mine < 0, same, mine)
            clash |= cut
        wish = np.ones(len(grid), bool) if wanted is None else wanted[number]
        new = np.flatnonzero(wish & (mine < 0) & ~clash)
        overlapping += int((wish & (mine < 0) & clash).sum())
        mine[~wish] = -1
        mine[new] = len(owners) + np.arange(len(new))
        owners += [(number, int(index)) for index in new]
        found.append(mine)
    return Grounds(tuple(found), tuple(owners), overlapping)


def ard_grid(cell: ArdCell, pixels: int = ARD_PIXELS) -> GeoBox:
    """The whole ARD tile of a cell, apron included, `pixels` a side."""
    west, _, _, north = cell.bounds
    metres = (CELL_METRES + 2 * APRON_METRES) / pixels
    affine = Affine(metres, 0, west - APRON_METRES, 0, -metres, north + APRON_METRES)
    return GeoBox((pixels, pixels), affine, f"EPSG:{cell.epsg}")


def whole_tile(grid: GeoBox, cell: ArdCell) -> GeoBox:
    """The whole tile that an image was cut from; the image's own grid where it does not lie on it."""
    pixels = (CELL_METRES + 2 * APRON_METRES) / grid.affine.a
    tile = ard_grid(cell, max(1, round(pixels)))
    relative = ~tile.affine * grid.affine
    off = max(abs(v - round(v)) for v in (relative.c, relative.f, pixels))
    alike = grid.crs == tile.crs and abs(relative.e - 1) < _SAME / pixels
    return tile if alike and off <= _SAME else grid


def _compare(
    grid: PatchGrid, earlier: PatchGrid, taken: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The earlier ground that each patch shows exactly (-1: none), and which show a part of one."""
    corners = _corners(grid.boxes)
    if grid.crs != earlier.crs:
        moved = transformer(grid.crs, earlier.crs).transform(corners[..., 0], corners[..., 1])
        corners = np.stack(moved, axis=-1)
    inverse, size = ~earlier.grid.affine, earlier.size
    pixels = np.stack(inverse * (corners[..., 0], corners[..., 1]), axis=-1)
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    first = np.floor((low + _SAME) / size)
    last = np.ceil((high - _SAME) / size)
    exact = (
        (np.abs(low - first * size) <= _SAME).all(axis=1)
        & (np.abs(high - (first + 1) * size) <= _SAME).all(axis=1)
        & (grid.crs == earlier.crs)
    )
    shape = np.array([earlier.cols, earlier.rows])
    c0, r0 = np.clip(first, 0, shape).astype(int).T
    c1, r1 = np.clip(last, 0, shape).astype(int).T
    held = np.zeros((earlier.rows + 1, earlier.cols + 1), int)
    field = taken.reshape(earlier.rows, earlier.cols)
    held[1:, 1:] = (field >= 0).cumsum(axis=0).cumsum(axis=1)
    shared = held[r1, c1] - held[r0, c1] - held[r1, c0] + held[r0, c0]
    some = (shared > 0) & (r1 > r0) & (c1 > c0)
    same = np.full(len(grid), -1)
    both = exact & some
    same[both] = field[r0[both], c0[both]]
    return same, some & ~exact


def _corners(boxes: np.ndarray) -> np.ndarray:
    """Corners of boxes (n, 4): x and y, (n, 4, 2)."""
    west, south, east, north = boxes.T
    x, y = np.stack([west, east, east, west], -1), np.stack([south, south, north, north], -1)
    return np.stack([x, y], axis=-1)


@lru_cache(maxsize=64)
def _crs_name(wkt: str) -> str:
    code = CRS.from_wkt(wkt).to_epsg()
    return f"EPSG:{code}" if code else wkt
