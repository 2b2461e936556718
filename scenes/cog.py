"""A stored layer as a Cloud Optimized GeoTIFF on the exact grid, written by one writer.

A plain tiled GeoTIFF is filled in bands of block rows, then GDAL's COG driver copies it and adds
overviews: the commonest class, or the mean probability, of what was analysed. Memory follows the
width of the raster, never its height.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from glob import escape
from pathlib import Path
from uuid import uuid4

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.shutil import copy
from rasterio.windows import Window

from .errors import AftermapError
from .handles import GDAL_ERRORS
from .layer import FULL, NOT_ANALYSED, Layer
from .legend import TITLE, VERSION, colour_table
from .store import Store
from .styles import raster_qml
from .vectors import replacing

_BLOCK = 512
_CACHE_BYTES = 16 << 20
_STRIP_BYTES = 4 << 20


def write_cog(
    store: Store,
    name: str,
    grid: GeoBox,
    path: Path,
    tags: Mapping[str, str] | None = None,
    wanted: Callable[[], bool] = lambda: True,
) -> None:
    """Write one layer of a store as a valid COG.

    `grid` is the georeference of the plan's region. A layer of coarse cells keeps its cells: the
    last ones may reach past the region. Nodata is 255; class layers carry the legend's colours,
    and a style beside them (`.qml`) that tells QGIS their opacity as well. `wanted` is asked before
    the file takes its place: a worker whose client was killed writes on beside the worker of the
    next run. Raises AftermapError where the file cannot be written, or is not wanted any more.
    """
    layer = next(layer for layer in store.layers if layer.name == name)
    if layer.kind == "class":
        with replacing(path.with_suffix(".qml")) as style:
            style.write_text(raster_qml() + "\n", encoding="utf-8", newline="\n")
    options = {"GDAL_CACHEMAX": _CACHE_BYTES, "GDAL_TIFF_INTERNAL_MASK": False}
    mark = f".{uuid4().hex[:8]}"
    for left in path.parent.glob(f".{escape(path.stem)}.{'[0-9a-f]' * 8}.*"):
        left.unlink(missing_ok=True)  # of a writer that was killed, or that nobody waits for
    with replacing(path, mark) as part, rasterio.Env(**options):
        plain = path.with_name(f".{path.stem}{mark}.plain.tif")
        try:
            _write_plain(store, layer, grid, plain, dict(tags or {}))
            _copy_to_cog(plain, part, layer)
            if not wanted():
                raise AftermapError(f"{str(path)!r} belongs to another run by now.")
        except GDAL_ERRORS as error:
            raise AftermapError(
                f"{str(path)!r} could not be written: {error}. Free space on the disk or make the "
                f"folder writable, and run the same command again; finished chunks are kept."
            ) from error
        finally:
            plain.unlink(missing_ok=True)


def _write_plain(
    store: Store, layer: Layer, grid: GeoBox, path: Path, tags: dict[str, str]
) -> None:
    """Fill a tiled GeoTIFF from top to bottom."""
    height, width = (-(-side // layer.every) for side in store.plan.region_shape)
    profile = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": 1,
        "dtype": "uint8",
        "nodata": NOT_ANALYSED,
        "crs": grid.crs.to_wkt(),
        "transform": _scaled(grid.affine, layer.every),
        "tiled": True,
        "blockxsize": _BLOCK,
        "blockysize": _BLOCK,
        "compress": "zstd",
        "zstd_level": 1,
        "bigtiff": "if_safer",
    }
    with rasterio.open(path, "w", **profile) as target:
        target.set_band_description(1, layer.name)
        target.update_tags(**_described(layer), **tags)
        if layer.kind == "class":
            target.write_colormap(1, colour_table())
        top, left = store.plan.region[:2]
        step = _rows_at_once(width)
        for row in range(0, height, step):
            stop = min(row + step, height)
            first, last = top + row * layer.every, top + stop * layer.every
            strip = store.read(layer.name, first, left, last, store.plan.region[3])
            target.write(strip, 1, window=Window(0, row, width, stop - row))


def _copy_to_cog(plain: Path, path: Path, layer: Layer) -> None:
    """Let GDAL lay out the file and make the overviews."""
    resampling = "MODE" if layer.kind == "class" else "AVERAGE"
    copy(
        plain,
        path,
        driver="COG",
        compress="ZSTD",
        level=1 if layer.kind == "probability" else 9,
        blocksize=_BLOCK,
        overview_resampling=resampling,
        overviews="IGNORE_EXISTING",
        bigtiff="IF_SAFER",
    )


def _described(layer: Layer) -> dict[str, str]:
    """Tags that say what the values mean."""
    if layer.kind == "class":
        return {"legend": f"{TITLE}, version {VERSION}", "not_analysed": str(NOT_ANALYSED)}
    return {"scale": f"0-{FULL} is probability 0-1", "not_analysed": str(NOT_ANALYSED)}


def _scaled(affine: Affine, every: int) -> Affine:
    """The georeference of cells of `every` pixels a side."""
    a, b, c, d, e, f = affine[:6]
    return Affine(a * every, b * every, c, d * every, e * every, f)


def _rows_at_once(width: int) -> int:
    """A whole number of block rows that is small in bytes, and at least one."""
    blocks = _STRIP_BYTES // max(width * _BLOCK, 1)
    return _BLOCK * int(np.clip(blocks, 1, 8))
