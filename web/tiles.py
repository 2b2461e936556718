"""Map tiles of a scene in its own pixels, read by the catalog's number, never by a path from outside.

Tile (x, y) at zoom z covers 256 · 2^(levels-1-z) px a side from the scene's first pixel. At full zoom
a tile is exactly what a tag would keep; coarser ones are read by rio-tiler, the coarsest from overviews.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rio_tiler.errors import NoOverviewWarning
from rio_tiler.io import Reader
from rio_tiler.models import ImageData

from ..cluster.catalog.files import Files
from ..cluster.catalog.pixels import PhotoPixels, RasterPixels, coloured, open_pixels
from ..cluster.catalog.tables import Scene
from ..scenes.handles import GDAL_ERRORS, handle, keep, reason_of
from ..scenes.raster import Raster
from ..scenes.scene import ReadError, Tile
from .overviews import FIRST, Overviews

warnings.filterwarnings("ignore", category=NoOverviewWarning)

SIDE = 256
"""Of a tile, px."""


def levels(height: int, width: int) -> int:
    """The number of zoom levels: at the first the whole scene is one tile, at the last nothing is lost."""
    count = 1
    while SIDE << (count - 1) < max(height, width):
        count += 1
    return count


@dataclass(frozen=True)
class Place:
    """What a tile covers: `side` px of the scene from a row and a column on."""

    row: int
    col: int
    side: int
    whole: bool
    """Whether this is full zoom: a pixel of the tile is one of the scene."""


def place(shape: tuple[int, int], z: int, x: int, y: int) -> Place | None:
    """Where a tile of a scene of (height, width) lies; None where there is none."""
    count = levels(*shape)
    if not 0 <= z < count:
        return None
    side = SIDE << (count - 1 - z)
    if not (0 <= y * side < shape[0] and 0 <= x * side < shape[1]):
        return None
    return Place(y * side, x * side, side, side == SIDE)


class Tiles:
    """Tiles of the scenes of one catalog."""

    def __init__(self, files: Files, preparing: bool = True) -> None:
        """With `preparing` overviews are made where a raster has none and is large, else asked for."""
        self._files = files
        self._overviews = Overviews(files.folder.parent / "cache" / "overviews", preparing)

    def read(self, scene: Scene, before: Scene | None, where: Place, layer: str) -> ImageData:
        """Pixels of a tile, uint8 (3, 256, 256); what was not measured, or lies outside, is masked.

        `layer` is "post" or "pre": the image before on the pixels of the one after, all masked where
        there is none. Raises Refused for an image that is gone or is another one now, ReadError for
        what cannot be decoded, Unprepared for one whose overviews are to be made first.
        """
        pixels = open_pixels(self._files, scene, before)
        if isinstance(pixels, PhotoPixels):
            return _nothing() if layer == "pre" else _of_photo(pixels, where)
        return self._of_raster(pixels, where, layer)

    def _of_raster(self, pixels: RasterPixels, where: Place, layer: str) -> ImageData:
        scene, grid = pixels.pair.post if layer == "post" else pixels.pair.pre, pixels.pair.grid
        if scene is None:
            return _nothing()
        if where.whole:
            found, valid = scene.read(
                grid, where.row, where.col, where.row + SIDE, where.col + SIDE
            )
            return _masked(coloured(found), valid)
        try:
            return self._further_out(scene.tiles[0], grid, where)
        except GDAL_ERRORS as error:
            file = scene.tiles[0].raster.path
            raise ReadError(f"{file} cannot be read: {reason_of(error)}") from error

    def _further_out(self, tile: Tile, grid: GeoBox, where: Place) -> ImageData:
        # From less far out the file itself is read quickly enough.
        far = where.side > FIRST * SIDE
        source = self._overviews.open(tile.raster) if far else handle(tile.raster)
        return _coarse(tile, _on_grid(source, tile, grid), grid, where)


def _nothing() -> ImageData:
    return _masked(np.zeros((3, SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), bool))


def _masked(values: np.ndarray, valid: np.ndarray) -> ImageData:
    return ImageData(np.ma.MaskedArray(values, np.broadcast_to(~valid, values.shape)))


def _of_photo(pixels: PhotoPixels, where: Place) -> ImageData:
    rows, cols = _clipped(pixels.shape, where)
    part = pixels.image[:, rows[0] : rows[1], cols[0] : cols[1]]
    if not where.whole:
        height, width = _shrunk((part.shape[1], part.shape[2]), where)
        image = Image.fromarray(np.ascontiguousarray(part.transpose(1, 2, 0)))
        small = image.resize((width, height), Image.Resampling.BOX)
        part = np.asarray(small).transpose(2, 0, 1)
    return _placed(part, np.ones(part.shape[1:], bool))


def _coarse(
    tile: Tile, dataset: DatasetReader | WarpedVRT, grid: GeoBox, where: Place
) -> ImageData:
    """A tile of one dataset on the scene's grid."""
    raster = tile.raster
    rows, cols = _clipped(grid.shape, where)
    fine = rows[1] - rows[0], cols[1] - cols[0]
    shape = _shrunk(fine, where)
    part = GeoBox(
        shape,
        grid.affine
        * Affine.translation(cols[0], rows[0])
        * Affine.scale(fine[1] / shape[1], fine[0] / shape[0]),
        grid.crs,
    )
    box = part.extent.boundingbox
    with Reader(None, dataset=dataset) as reader:
        found = reader.part(
            (box.left, box.bottom, box.right, box.top), dst_crs=reader.crs, bounds_crs=reader.crs,
            height=shape[0], width=shape[1], indexes=raster.bands, resampling_method="average",
        )  # fmt: skip
    measured = found.array.data
    good = np.asarray(~np.ma.getmaskarray(found.array).any(axis=0))
    if measured.dtype.kind == "f":
        good &= np.isfinite(measured).all(axis=0)
    if tile.collar is not None:
        good &= ~tile.collar.on(measured, part)
    return _placed(coloured(_bytes(measured, raster)), good)


def _on_grid(source: DatasetReader, tile: Tile, grid: GeoBox) -> DatasetReader | WarpedVRT:
    """An open dataset of a tile; where it does not lie on the grid, warped to it."""
    raster = tile.raster
    if tile.grid == grid:
        return source
    alpha = raster.alpha
    masking = {"src_alpha": alpha, "dst_alpha": alpha} if alpha else {"add_alpha": True}
    key = source.name, raster, tuple(grid.shape), tuple(grid.affine), grid.crs.to_wkt(), "tiles"
    return keep(
        key,
        lambda: WarpedVRT(
            source, src_crs=raster.crs, crs=grid.crs.to_wkt(), transform=grid.affine,
            height=grid.shape[0], width=grid.shape[1], resampling=Resampling.bilinear, **masking,
        ),
    )  # fmt: skip


def _clipped(shape: tuple[int, int], where: Place) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last rows and columns of a tile that lie in the scene."""
    return (
        (where.row, min(where.row + where.side, shape[0])),
        (where.col, min(where.col + where.side, shape[1])),
    )


def _shrunk(fine: tuple[int, int], where: Place) -> tuple[int, int]:
    """Rows and columns of a tile that so many of the scene become; at least one."""
    rows, cols = (max(1, round(n * SIDE / where.side)) for n in fine)
    return rows, cols


def _placed(values: np.ndarray, valid: np.ndarray) -> ImageData:
    """A tile whose upper left corner this is; the rest lies outside the scene."""
    rows, cols = valid.shape
    whole, seen = np.zeros((3, SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), bool)
    whole[:, :rows, :cols], seen[:rows, :cols] = values, valid
    return _masked(whole, seen)


def _bytes(values: np.ndarray, raster: Raster) -> np.ndarray:
    """Values as the scene is read: black and white where its scale says."""
    if raster.scale is None:
        return values.astype(np.uint8)
    low, high = raster.scale
    scaled = (np.nan_to_num(values).astype(np.float32) - low) * (255 / (high - low))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
