"""The black collar of an image that does not say which of its pixels are valid.

The rule looks at one overview of the whole image, never at a chunk: black areas connected to the
image's edge are collar. A pixel is masked when it is black and the overview says collar there.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.warp import reproject
from rasterio.windows import Window
from scipy import ndimage

from .handles import GDAL_ERRORS, handle, unreachable
from .raster import Raster

OVERVIEW = 2048
"""Longest side of the overview, px."""

_LEAST = 5e-4
"""Smallest share of the overview that counts as collar; less is a shadow at the edge."""

_STRIPS = 32
"""Pieces in which the overview is read, so that damage in one leaves the others."""

_LOSSY_BLACK = 10
"""Brightest value still black where lossy compression has smeared the collar."""


@dataclass(frozen=True, eq=False)
class Collar:
    """Where an image's black border lies: a mask over the whole image at overview resolution."""

    cells: np.ndarray
    """(rows, cols) uint8, 1 on collar and one cell around it."""
    transform: Affine
    """Overview cell to the image's coordinates."""
    crs: str
    size: tuple[int, int]
    """Height and width of the image, px."""
    black: int
    """A pixel is black when none of its bands exceeds this."""

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as compressed bits: a few kilobytes instead of four megabytes in every graph."""
        packed = zlib.compress(np.packbits(self.cells).tobytes())
        facts = self.transform, self.crs, self.size, self.black
        return _unpacked, (packed, self.cells.shape, *facts)

    def at(self, pixels: np.ndarray, row: int, col: int) -> np.ndarray:
        """Which of some of the image's own pixels (bands, h, w) from (row, col) on are collar.

        In whole numbers, so that a pixel is judged alike in every window.
        """
        black: np.ndarray = np.logical_and.reduce(pixels <= self.black, axis=0)
        if not black.any():
            return black
        i, j = (
            (2 * np.arange(first, first + count) + 1) * cells // (2 * length)
            for first, count, cells, length in zip(
                (row, col), black.shape, self.cells.shape, self.size, strict=True
            )
        )
        return black & (self.cells[i[:, None], j] == 1)

    def on(self, pixels: np.ndarray, grid: GeoBox) -> np.ndarray:
        """Which of some pixels (bands, h, w), lying on `grid`, are collar: bool (h, w)."""
        black = np.logical_and.reduce(pixels <= self.black, axis=0)
        if not black.any():
            return black
        near = np.zeros(grid.shape, np.uint8)
        reproject(
            self.cells,
            near,
            src_transform=self.transform,
            src_crs=self.crs,
            dst_transform=grid.affine,
            dst_crs=grid.crs.to_wkt(),
            resampling=Resampling.nearest,
        )
        return np.logical_and(black, near == 1)


def _unpacked(packed: bytes, shape: tuple[int, int], *facts: Any) -> Collar:
    """A collar that arrived."""
    bits = np.frombuffer(zlib.decompress(packed), np.uint8)
    cells = np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape)
    return Collar(cells, *facts)


def find_collar(raster: Raster) -> Collar | None:
    """Look for a black collar in an image without a mask of its own; None where there is none."""
    if raster.masked or raster.gcps or raster.dtype not in ("uint8", "uint16"):
        return None
    factor = max(1.0, max(raster.height, raster.width) / OVERVIEW)
    shape = (max(1, round(raster.height / factor)), max(1, round(raster.width / factor)))
    black = _LOSSY_BLACK if raster.lossy else 0
    overview = _overview(raster, shape)
    labels, count = ndimage.label((overview <= black).all(axis=0))
    if not count:
        return None
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    collar = [k for k in edge if k and sizes[k] >= max(4, _LEAST * labels.size)]
    if not collar:
        return None
    cells = ndimage.binary_dilation(np.isin(labels, collar), structure=np.ones((3, 3)))
    per_cell = Affine.scale(raster.width / shape[1], raster.height / shape[0])
    size = raster.height, raster.width
    return Collar(cells.astype(np.uint8), raster.transform * per_cell, raster.crs, size, black)


def _overview(raster: Raster, shape: tuple[int, int]) -> np.ndarray:
    """All of an image in few pixels (bands, *shape), read in strips.

    A strip that cannot be read counts as black: what lies beyond it may be collar. The damage
    itself is told of chunk by chunk, where it is. Of a remote file all must be read, for another
    collar would change pixels far from what failed: raises Unreachable.
    """
    overview = np.zeros((len(raster.bands), *shape), raster.dtype)
    edges = np.linspace(0, shape[0], min(_STRIPS, shape[0]) + 1).astype(int)
    for top, bottom in pairwise(edges.tolist()):
        rows = top * raster.height // shape[0], bottom * raster.height // shape[0]
        try:
            overview[:, top:bottom] = handle(raster).read(
                raster.bands,
                window=Window.from_slices(rows, (0, raster.width)),
                out_shape=(len(raster.bands), bottom - top, shape[1]),
                resampling=Resampling.nearest,
            )
        except GDAL_ERRORS as error:
            if raster.remote:
                raise unreachable(raster, error) from None
    return overview
