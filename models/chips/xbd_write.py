"""Targets of xBD as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from PIL import Image

from ...scenes.layer import NOT_ANALYSED


def write_target(
    stem: Path, mask: np.ndarray, geotiff: bool = False, where: Affine | None = None
) -> None:
    """Write a mask, uint8 (h, w), as PNG, or as GeoTIFF in EPSG:4326; folders are made.

    `stem` is the path without suffix. `where` takes pixels to degrees; None: a GeoTIFF without
    coordinates.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    if not geotiff:
        Image.fromarray(mask).save(stem.with_name(f"{stem.name}.png"))
        return
    placed = {} if where is None else {"crs": "EPSG:4326", "transform": where}
    with rasterio.open(
        stem.with_name(f"{stem.name}.tif"),
        "w",
        driver="GTiff",
        count=1,
        dtype="uint8",
        height=mask.shape[0],
        width=mask.shape[1],
        compress="deflate",
        nodata=NOT_ANALYSED,
        **placed,
    ) as target:
        target.write(mask, 1)
