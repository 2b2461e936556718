"""A scene: one raster or a mosaic of tiles, read by pixel windows on any grid.

Where a tile already lies on the grid its pixels are copied. Everything else is warped in blocks of
256 px anchored to the grid's pixel (0, 0), each block always whole: GDAL's approximations depend on
the extent of a warp, so only a fixed extent gives the same pixel whoever asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import reproject
from rasterio.windows import Window as PixelWindow

from .collar import Collar, find_collar
from .errors import Refused
from .handles import GDAL_ERRORS, check_remote, close_handles, handle, keep, reason_of, unreachable
from .mosaic import ALIGNED, mosaic_grid
from .raster import Raster, open_raster, placement
from .remote import Unreachable

WARP_BLOCK = 256
"""Side of a warped block, px."""

_SUFFIXES = (".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg")


class ReadError(RuntimeError):
    """Pixels that could not be read; names the file and the window."""


@dataclass(frozen=True, eq=False)
class Tile:
    """One file of a scene with the collar found in it."""

    raster: Raster
    collar: Collar | None

    @property
    def grid(self) -> GeoBox:
        """The tile's own pixels."""
        raster = self.raster
        return GeoBox((raster.height, raster.width), raster.transform, raster.crs)


@dataclass(frozen=True, eq=False)
class Scene:
    """One image of the ground from one or many files; picklable, reads pixels where it is asked."""

    tiles: tuple[Tile, ...]
    grid: GeoBox
    """The scene's own north-up grid: the tile's for one file, else the union in the first tile's CRS."""

    @property
    def rasters(self) -> tuple[Raster, ...]:
        """The headers of the scene's files."""
        return tuple(tile.raster for tile in self.tiles)

    @property
    def name(self) -> str:
        """The file's stem, or the folder's name for a mosaic."""
        first = Path(self.tiles[0].raster.path)
        return first.stem if len(self.tiles) == 1 else first.parent.name

    @property
    def count(self) -> int:
        """Number of bands."""
        return len(self.tiles[0].raster.bands)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of pixels as read."""
        return np.dtype(self.tiles[0].raster.stored_dtype)

    def read(
        self, grid: GeoBox, row0: int, col0: int, row1: int, col1: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read half-open pixels of `grid`: values (bands, h, w) and validity (h, w) bool.

        The window may reach past the grid's edges; there, and in gaps, nothing is valid and
        values are 0. Where tiles overlap, the first one with a valid pixel counts.
        Raises ReadError with file and window for what cannot be decoded, Unreachable if it is remote.
        """
        shape = (row1 - row0, col1 - col0)
        found = None
        for tile in self.tiles:
            blocks = list(_blocks(tile, grid, row0, col0, row1, col1))
            for rows, cols in blocks:
                pixels, good = _read_told(tile, grid, rows, cols)
                if found is None and (rows, cols) == ((row0, row1), (col0, col1)):
                    found = pixels, good  # the whole window at once: nothing to put together
                    continue
                found = found or self._nothing(shape)
                _paste(*found, pixels, good, rows[0] - row0, cols[0] - col0)
            if blocks:
                check_remote(tile.raster)
        return found or self._nothing(shape)

    def _nothing(self, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """A window in which nothing was measured."""
        return np.zeros((self.count, *shape), self.dtype), np.zeros(shape, bool)

    def overview(self, grid: GeoBox) -> tuple[np.ndarray, np.ndarray]:
        """The scene on a coarse grid, from decimated reads: for pictures and statistics only.

        Raises Unreachable when a remote file cannot be read.
        """
        values = np.zeros((self.count, *grid.shape), self.dtype)
        valid = np.zeros(grid.shape, bool)
        for tile in self.tiles:
            try:
                pixels, good = _overview(tile, grid)
            except GDAL_ERRORS as error:
                if tile.raster.remote:
                    raise unreachable(tile.raster, error) from None
                continue  # a damaged tile is missing from the picture; reading it says why
            _paste(values, valid, pixels, good, 0, 0)
        return values, valid


def open_tiles(
    source: str | Path | Sequence[str | Path],
    *,
    bands: Sequence[int] | None = None,
    scale: tuple[float, float] | None = None,
    crs: str | None = None,
    gcps: bool = False,
    allow_remote: bool = False,
) -> Scene:
    """Open a file, a folder of tiles or a list of tiles as one scene; headers are read, pixels not.

    (One overview per file without a mask of its own is read to find a black collar.)
    """
    rasters = [
        open_raster(path, bands=bands, scale=scale, crs=crs, gcps=gcps, allow_remote=allow_remote)
        for path in _files(source)
    ]
    first = rasters[0]
    for other in rasters[1:]:
        if (other.dtype, len(other.bands)) != (first.dtype, len(first.bands)):
            raise Refused(
                f"Tiles of one scene must be alike: {first.path} has {len(first.bands)} bands of "
                f"{first.dtype}, {other.path} {len(other.bands)} of {other.dtype}. "
                "Give tiles of one kind, or choose --bands."
            )
    tiles = tuple(Tile(raster, find_collar(raster)) for raster in rasters)
    return Scene(tiles, mosaic_grid([tile.grid for tile in tiles]))


def _files(source: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """The files that a path, a folder or a list stands for, in a fixed order."""
    if not isinstance(source, (str, Path)):
        if not source:
            raise Refused("An empty list of tiles was given; name at least one image file.")
        return list(source)
    folder = Path(source)
    try:
        if not folder.is_dir():
            return [source]
        found = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES)
    except OSError as error:
        raise Refused(f"{str(folder)[:200]} cannot be looked into: {error.strerror}.") from error
    if not found:
        raise Refused(f"{folder} holds no image ({', '.join(_SUFFIXES)}). Give a folder of tiles.")
    return list(found)


def _offset(tile: Tile, grid: GeoBox) -> tuple[int, int] | None:
    """Row and column of the tile's first pixel on the grid, or None where it must be warped."""
    if tile.raster.gcps or tile.grid.crs != grid.crs:
        return None
    relative = ~grid.affine * tile.raster.transform
    row, col = round(relative.f), round(relative.c)
    size = max(tile.raster.width, tile.raster.height)
    drift = max(abs(relative.a - 1), abs(relative.e - 1), abs(relative.b), abs(relative.d)) * size
    if max(drift, abs(relative.f - row), abs(relative.c - col)) > ALIGNED:
        return None
    return row, col


Span = tuple[int, int]


def _blocks(
    tile: Tile, grid: GeoBox, row0: int, col0: int, row1: int, col1: int
) -> Iterator[tuple[Span, Span]]:
    """The pieces of a window in which a tile may have pixels: one to copy, or anchored ones to warp."""
    offset = _offset(tile, grid)
    if offset is not None:
        row, col = offset
        rows = max(row0, row, 0), min(row1, row + tile.raster.height, grid.shape[0])
        cols = max(col0, col, 0), min(col1, col + tile.raster.width, grid.shape[1])
        if rows[0] < rows[1] and cols[0] < cols[1]:
            yield rows, cols
        return
    top, left, bottom, right = _footprint(tile.grid, grid)
    rows = max(row0, top, 0), min(row1, bottom, grid.shape[0])
    cols = max(col0, left, 0), min(col1, right, grid.shape[1])
    if rows[0] >= rows[1] or cols[0] >= cols[1]:
        return
    for i in range(rows[0] // WARP_BLOCK, -(-rows[1] // WARP_BLOCK)):
        for j in range(cols[0] // WARP_BLOCK, -(-cols[1] // WARP_BLOCK)):
            yield _span(i, grid.shape[0]), _span(j, grid.shape[1])


def _span(index: int, end: int) -> Span:
    return index * WARP_BLOCK, min((index + 1) * WARP_BLOCK, end)


@lru_cache(maxsize=100_000)
def _footprint(tile: GeoBox, grid: GeoBox) -> tuple[int, int, int, int]:
    """Rows and columns of the grid that a tile reaches, a little generously."""
    box = tile.extent.to_crs(grid.crs, resolution="auto").boundingbox
    inverse = ~grid.affine
    corners = [inverse * (x, y) for x in (box.left, box.right) for y in (box.bottom, box.top)]
    cols, rows = zip(*corners, strict=True)
    return (
        math.floor(min(rows)) - 2,
        math.floor(min(cols)) - 2,
        math.ceil(max(rows)) + 2,
        math.ceil(max(cols)) + 2,
    )


def _read_told(tile: Tile, grid: GeoBox, rows: Span, cols: Span) -> tuple[np.ndarray, np.ndarray]:
    """One block of a tile, or in words why it cannot be read; a remote one is tried twice."""
    remote = tile.raster.remote
    for _ in (1, 2) if remote else (1,):
        try:
            return _read_block(tile, grid, rows, cols)
        except GDAL_ERRORS as error:
            failed = reason_of(error)
        if remote:
            close_handles()  # and with them what GDAL remembers of the file
    # Raised here, for GDAL's errors in its chain cannot travel.
    raise (Unreachable if remote else ReadError)(
        f"{tile.raster.path}: rows {rows[0]}-{rows[1]}, columns {cols[0]}-{cols[1]} of the analysis "
        f"grid cannot be read: {failed}"
    )


def _read_block(tile: Tile, grid: GeoBox, rows: Span, cols: Span) -> tuple[np.ndarray, np.ndarray]:
    """One block of a tile on the grid: scaled values and validity."""
    raster = tile.raster
    offset = _offset(tile, grid)
    if offset is None:
        pixels, valid = _warp(tile, grid, rows, cols)
    else:
        window = PixelWindow.from_slices(
            (rows[0] - offset[0], rows[1] - offset[0]), (cols[0] - offset[1], cols[1] - offset[1])
        )
        pixels = handle(raster).read(raster.bands, window=window)
        valid = _stored_mask(raster, window=window, shape=pixels.shape[1:])
        if tile.collar is not None:
            valid &= ~tile.collar.at(pixels, window.row_off, window.col_off)
    return _finish(pixels, valid, raster)


def _warp(tile: Tile, grid: GeoBox, rows: Span, cols: Span) -> tuple[np.ndarray, np.ndarray]:
    """Warp one anchored block, bilinearly; validity comes from the warped alpha."""
    raster = tile.raster
    vrt = keep((raster, _key(grid)), lambda: _warped(raster, grid))
    window = PixelWindow.from_slices(rows, cols)
    pixels = vrt.read([*raster.bands, raster.alpha or vrt.count], window=window)
    pixels, valid = pixels[:-1], pixels[-1] >= _half(pixels.dtype)
    if tile.collar is not None:
        valid &= ~tile.collar.on(pixels, grid[rows[0] : rows[1], cols[0] : cols[1]])
    return pixels, valid


def _stored_mask(raster: Raster, shape: tuple[int, int], **where: object) -> np.ndarray:
    """What the file itself says is valid, on its own pixels: bool (h, w)."""
    if raster.alpha:
        return handle(raster).read(raster.alpha, **where) > 0
    if raster.masked:
        return handle(raster).dataset_mask(**where) > 0
    return np.ones(shape, bool)


def _half(dtype: np.dtype) -> float:
    """Half of a full alpha band: GDAL's alpha is the dtype's maximum, or 255 for floats."""
    return (np.iinfo(dtype).max if dtype.kind in "iu" else 255) / 2


def _warped(raster: Raster, grid: GeoBox) -> WarpedVRT:
    source, alpha = handle(raster), raster.alpha
    # An alpha band keeps its place; where there is none, one is added at the end.
    masking = {"src_alpha": alpha, "dst_alpha": alpha} if alpha else {"add_alpha": True}
    if raster.gcps:
        # Given a grid to warp to, rasterio forgets the points; so the image is placed first.
        placed = {"resampling": Resampling.bilinear, **masking, **placement(source)}
        source = WarpedVRT(source, **placed)
        alpha = alpha or source.count
        masking = {"src_alpha": alpha, "dst_alpha": alpha}
    return WarpedVRT(
        source,
        src_crs=raster.crs,
        crs=grid.crs.to_wkt(),
        transform=grid.affine,
        height=grid.shape[0],
        width=grid.shape[1],
        resampling=Resampling.bilinear,
        **masking,
    )


def _key(grid: GeoBox) -> tuple[object, ...]:
    return tuple(grid.shape), tuple(grid.affine), grid.crs.to_wkt()


def _finish(pixels: np.ndarray, valid: np.ndarray, raster: Raster) -> tuple[np.ndarray, np.ndarray]:
    """Mask NaN, apply the declared scale to 0-255, and zero what is not valid."""
    if pixels.dtype.kind == "f":
        valid = valid & np.isfinite(pixels).all(axis=0)
    if raster.scale is not None:
        low, high = raster.scale
        scaled = (np.nan_to_num(pixels).astype(np.float32) - low) * (255 / (high - low))
        pixels = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
    if not valid.all():
        pixels = np.where(valid, pixels, pixels.dtype.type(0))
    return pixels, valid


def _paste(
    values: np.ndarray, valid: np.ndarray, pixels: np.ndarray, good: np.ndarray, row: int, col: int
) -> None:
    """Put a block at (row, col) into a window wherever the window has no valid pixel yet."""
    height, width = good.shape
    top, left = max(row, 0), max(col, 0)
    bottom, right = min(row + height, valid.shape[0]), min(col + width, valid.shape[1])
    if bottom <= top or right <= left:
        return
    inside = slice(top - row, bottom - row), slice(left - col, right - col)
    here = slice(top, bottom), slice(left, right)
    if not valid[here].any():
        values[:, *here] = pixels[:, *inside]
        valid[here] = good[inside]
        return
    new = good[inside] & ~valid[here]
    values[:, *here] = np.where(new, pixels[:, *inside], values[:, *here])
    valid[here] |= new


def _overview(tile: Tile, grid: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    raster = tile.raster
    target = tile.grid.to_crs(grid.crs).resolution
    factor = max(1.0, min(abs(grid.affine.a / target.x), abs(grid.affine.e / target.y)) / 1.5)
    shape = max(1, round(raster.height / factor)), max(1, round(raster.width / factor))
    pixels, valid = _decimated(tile, shape)
    own = GeoBox(
        shape,
        raster.transform * Affine.scale(raster.width / shape[1], raster.height / shape[0]),
        raster.crs,
    )
    if tile.collar is not None:
        valid &= ~tile.collar.on(pixels, own)
    pixels, valid = _finish(pixels, valid, raster)
    places = {
        "src_transform": own.affine,
        "src_crs": raster.crs,
        "dst_transform": grid.affine,
        "dst_crs": grid.crs.to_wkt(),
    }
    values = np.zeros((len(pixels), *grid.shape), pixels.dtype)
    good = np.zeros(grid.shape, np.uint8)
    reproject(pixels, values, resampling=Resampling.average, **places)
    reproject(valid.astype(np.uint8), good, resampling=Resampling.nearest, **places)
    return values, good == 1


def _decimated(tile: Tile, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """All of a tile in few pixels: values as stored, and validity."""
    raster = tile.raster
    if raster.gcps:  # the file's own rows and columns lie anywhere; those of its placed grid do not
        vrt = keep((raster, _key(tile.grid)), lambda: _warped(raster, tile.grid))
        stack = vrt.read(
            [*raster.bands, raster.alpha or vrt.count], out_shape=(len(raster.bands) + 1, *shape)
        )
        return stack[:-1], stack[-1] >= _half(stack.dtype)
    source = handle(raster)
    options = {"out_shape": (len(raster.bands), *shape), "resampling": Resampling.nearest}
    pixels = source.read(raster.bands, **options)
    return pixels, _stored_mask(raster, shape, out_shape=shape)
