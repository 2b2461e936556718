"""The black collar of an image that does not say which of its pixels are valid.

The rule looks at one overview of the whole image, never at a chunk: black areas connected to the
image's edge are collar. A pixel is masked when it is black and the overview says collar there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.warp import reproject
from scipy import ndimage

from .raster import GDAL_ERRORS, Raster, handle

OVERVIEW = 2048
"""Longest side of the overview, px."""

_LEAST = 5e-4
"""Smallest share of the overview that counts as collar; less is a shadow at the edge."""

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
    black: int
    """A pixel is black when none of its bands exceeds this."""

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


def find_collar(raster: Raster) -> Collar | None:
    """Look for a black collar in an image without a mask of its own; None where there is none."""
    if raster.masked or raster.gcps or raster.dtype not in ("uint8", "uint16"):
        return None
    factor = max(1.0, max(raster.height, raster.width) / OVERVIEW)
    shape = (max(1, round(raster.height / factor)), max(1, round(raster.width / factor)))
    black = _LOSSY_BLACK if raster.lossy else 0
    try:
        overview = handle(raster).read(
            raster.bands, out_shape=(len(raster.bands), *shape), resampling=Resampling.nearest
        )
    except GDAL_ERRORS:
        return None  # a damaged file is told of chunk by chunk, where it is damaged
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
    return Collar(cells.astype(np.uint8), raster.transform * per_cell, raster.crs, black)
