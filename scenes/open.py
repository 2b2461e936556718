"""The door for notebooks: scenes and pairs as lazy xarray datasets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import odc.geo.xr
import rioxarray  # noqa: F401  (registers the .rio accessor)
import xarray as xr
from dask.base import tokenize
from odc.geo.geobox import GeoBox

from .grid import region_of
from .pair import Pair, Source, make_pair

CHUNK = 2048
"""Side of "auto" chunks, px."""


def open_scene(source: Source, chunks: int | str = "auto", **options: Any) -> xr.Dataset:
    """Open one image lazily: `post` (band, y, x) and `valid` (y, x), for methods that need no before.

    Takes the options of `open_pair`.
    """
    return to_dataset(make_pair(None, source, **options), chunks)


def open_pair(
    pre: Source,
    post: Source,
    chunks: int | str = "auto",
    grid: str | GeoBox = "post",
    resolution: float | None = None,
    bbox: tuple[float, float, float, float] | None = None,
    aoi: str | Path | None = None,
    bands: Sequence[int] | None = None,
    scale: tuple[float, float] | None = None,
    crs: str | None = None,
    gcps: bool = False,
    allow_remote: bool = False,
) -> xr.Dataset:
    """Open a before and an after image lazily on one grid.

    Returns a Dataset of `pre` and `post` (band, y, x) and `valid` (y, x), with the CRS where
    rioxarray looks for it. Each image is a file, a folder of tiles or a list of tiles, in any CRS
    and resolution. `grid` is "post", "pre" or a GeoBox; `resolution` is in metres; `bbox` is
    W, S, E, N in EPSG:4326; `aoi` is a file of polygons in any CRS; `bands` are 1-based; `scale`
    is the (low, high) of 16-bit and float sources that becomes 0-255; `crs` supplies a missing
    coordinate system; `gcps` places images by their control points; `allow_remote` has http and
    https URLs of cloud-optimised GeoTIFFs read by range requests. Only headers are read (and one
    overview of an image without a mask, to find black collars). Raises Refused, in words.
    """
    pair = make_pair(
        pre,
        post,
        grid=grid,
        resolution=resolution,
        bbox=bbox,
        aoi=aoi,
        bands=bands,
        scale=scale,
        crs=crs,
        gcps=gcps,
        allow_remote=allow_remote,
    )
    return to_dataset(pair, chunks)


def to_dataset(pair: Pair, chunks: int | str = "auto") -> xr.Dataset:
    """A pair as a lazy dataset over the area asked for; one task per chunk reads both images."""
    row0, col0, row1, col1 = region_of(pair.grid, pair.area)
    side = CHUNK if chunks == "auto" else int(chunks)
    reader = _Reader(pair, (row0, col0, row1, col1))
    stack = da.from_array(
        reader,
        chunks=(-1, _cuts(row0, row1, side), _cuts(col0, col1, side)),
        name=f"aftermap-read-{tokenize(pair, reader.region, _stamps(pair), side)}",
        meta=np.empty((0, 0, 0), pair.post.dtype),
    )
    bands = pair.post.count
    images = {"post": stack[-1 - bands : -1]}
    if pair.pre is not None:
        images = {"pre": stack[:bands], **images}
    grid = pair.grid[row0:row1, col0:col1]
    dataset = xr.Dataset(
        {name: (("band", "y", "x"), array) for name, array in images.items()}
        | {"valid": (("y", "x"), stack[-1].astype(bool))},
        coords={"band": np.arange(1, bands + 1)},
        attrs={"anchor": (pair.grid.affine.c, pair.grid.affine.f)},
    )
    return dataset.assign_coords(odc.geo.xr.xr_coords(grid, dims=("y", "x")))


class _Reader:
    """A pair as an array (2 x bands + validity, rows, cols) that reads what it is sliced for."""

    ndim = 3

    def __init__(self, pair: Pair, region: tuple[int, int, int, int]) -> None:
        self.pair, self.region = pair, region
        row0, col0, row1, col1 = region
        self.shape = (len(pair.images) * pair.post.count + 1, row1 - row0, col1 - col0)
        self.dtype = pair.post.dtype

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        rows, cols = key[1].indices(self.shape[1])[:2], key[2].indices(self.shape[2])[:2]
        row0, col0 = self.region[:2]
        window = row0 + rows[0], col0 + cols[0], row0 + rows[1], col0 + cols[1]
        pixels = self.pair.read(*window)
        valid = pixels.valid & self.pair.wanted(*window)
        stack = np.concatenate([pixels.pre, pixels.post, valid[None].astype(self.dtype)])
        return stack[key[0]]


def _cuts(start: int, end: int, side: int) -> tuple[int, ...]:
    """Chunk sizes from `start` to `end`, cut at multiples of `side` of the full raster."""
    edges = [start, *range((start // side + 1) * side, end, side), end]
    return tuple(np.diff(edges).tolist())


def _stamps(pair: Pair) -> list[tuple[str, tuple[int, ...]]]:
    """Path, size and modification time of every file, so that a changed file gets new names."""
    return [(raster.path, raster.stamp) for scene in pair.images for raster in scene.rasters]
