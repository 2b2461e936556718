"""Rasters that tests make for themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from scipy import ndimage

UTM = Affine(0.5, 0, 300_000, 0, -0.5, 4_100_000)
"""Half a metre per pixel, in UTM zone 37."""


def write_raster(
    path: Path,
    pixels: np.ndarray,
    crs: str | None = "EPSG:32637",
    transform: Affine | None = UTM,
    **profile: object,
) -> Path:
    """Write (bands, h, w) pixels as a GeoTIFF."""
    count, height, width = pixels.shape
    options: dict[str, object] = {
        "driver": "GTiff",
        "tiled": True,
        "blockxsize": 128,
        "blockysize": 128,
    }
    with rasterio.open(
        path,
        "w",
        **(
            options
            | {
                "height": height,
                "width": width,
                "count": count,
                "dtype": pixels.dtype.name,
                "crs": crs,
                "transform": transform,
                "photometric": "rgb" if count == 3 else "minisblack",
            }
            | profile
        ),
    ) as target:
        target.write(pixels)
    return path


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth noise that looks alike nowhere: (3, h, w) uint8 in 20-235."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(3, height, width)), (0, 2.5, 2.5))
    low, high = noise.min(), noise.max()
    return (20 + (noise - low) / (high - low) * 215).astype(np.uint8)
