"""Overviews of rasters that came without: made once in the catalog's cache, never beside the user's file.

What is made is a VRT of the raster and, beside it, GDAL's own overviews of that VRT.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import rasterio
import rasterio.shutil
from rasterio.enums import Resampling
from rasterio.io import DatasetReader

from ..scenes.handles import handle, keep
from ..scenes.raster import Raster

FIRST = 8
"""Pixels of the raster along a side of one of its first overview: an overview takes a 64th of its room."""

_SMALLEST = 128
"""Of an overview, px."""

_ABANDONED_S = 86_400
"""Since the last byte of what is not finished."""

_MOST_BYTES = 4 << 30
"""Of a catalog's overviews; what was made first is removed first."""


class Unprepared(Exception):
    """Overviews are to be made first."""


@dataclass(frozen=True)
class Overviews:
    """A folder of overviews; whatever is removed from it is made again."""

    folder: Path
    making: bool = True

    def open(self, raster: Raster) -> DatasetReader:
        """This thread's open dataset of a raster, with overviews; they are made where there are none yet.

        That takes as long as to read the whole raster once. Raises Unprepared where it is not to be done.
        """
        dataset = handle(raster)
        if max(dataset.overviews(1), default=1) >= FIRST:
            return dataset
        # A raster that changes has another stamp, and gets other overviews.
        name = hashlib.sha256(repr((raster.path, raster.stamp)).encode()).hexdigest()[:32]
        path = self.folder / f"{name}.vrt"
        try:
            if not path.exists():
                if not self.making:
                    raise Unprepared
                self._make(dataset, path)
        except OSError:  # a full disk, or a folder that cannot be written: slower, but there
            return dataset
        return keep((path, "overviews"), lambda: rasterio.open(path, driver="VRT"))

    def _make(self, dataset: DatasetReader, path: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        begun = path.with_name(f"{path.stem}.{os.getpid()}.begun")
        factors = [FIRST]
        while max(dataset.shape) / factors[-1] > 2 * _SMALLEST:
            factors.append(2 * factors[-1])
        try:
            rasterio.shutil.copy(dataset, begun, driver="VRT")
            with (
                rasterio.Env(COMPRESS_OVERVIEW="DEFLATE", BIGTIFF_OVERVIEW="IF_SAFER"),
                rasterio.open(begun, "r+", driver="VRT") as vrt,
            ):
                vrt.build_overviews(factors, Resampling.average)
            os.replace(f"{begun}.ovr", f"{path}.ovr")
            os.replace(begun, path)
        finally:
            for left in (begun, Path(f"{begun}.ovr")):
                left.unlink(missing_ok=True)
        self._shrink()

    def _shrink(self) -> None:
        """Remove the oldest above `_MOST_BYTES`, and what a kill left; who has one open reads on."""
        for left in self.folder.glob("*.begun*"):
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                left.unlink(missing_ok=True)
        found = [(one.stat(), one) for one in self.folder.glob("*.ovr")]
        held = 0
        for stat, overview in sorted(found, key=lambda one: one[0].st_mtime_ns, reverse=True):
            if held and held + stat.st_size > _MOST_BYTES:
                overview.with_suffix("").unlink(missing_ok=True)
                overview.unlink(missing_ok=True)
            held += stat.st_size
