"""Where one image or mask of a chip lies, and how it is read."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import rasterio
import zarr
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from ...scenes.errors import Refused

DRIVERS = {".png": "PNG", ".tif": "GTiff", ".tiff": "GTiff", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""Suffixes of image files, and the GDAL driver that may open them."""

_STRICT = {"GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"}
"""Otherwise GDAL gives, of a PNG that is cut short, what happens to be in memory."""


class Picture(Protocol):
    """An image or mask that can be read; small, and picklable."""

    def read(self, bands: int) -> np.ndarray:
        """The first bands, uint8 (bands, h, w); raises Refused, in words, if that cannot be."""
        ...


@dataclass(frozen=True)
class FilePicture:
    """An image file: PNG, TIFF or JPEG."""

    path: Path

    def read(self, bands: int) -> np.ndarray:
        """See Picture."""
        # Naming the driver keeps GDAL from following a VRT that is called .png.
        driver = DRIVERS.get(self.path.suffix.lower(), "PNG")
        try:
            with warnings.catch_warnings(), rasterio.Env(**_STRICT):
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with rasterio.open(self.path, driver=driver) as source:
                    if source.count < bands or source.dtypes[0] != "uint8":
                        raise Refused(
                            f"{self.path} has {source.count} bands of {source.dtypes[0]}; chips "
                            f"need {bands} of uint8. Give --data other chips."
                        )
                    return source.read(range(1, bands + 1))
        except RasterioIOError as error:
            raise Refused(
                f"{self.path} cannot be read: {error}. Give --data other chips."
            ) from None


@dataclass(frozen=True)
class ZarrPicture:
    """An image or mask in an array of many, (n, bands, h, w) or (n, h, w)."""

    store: Path
    """Folder of the array."""
    index: int

    def read(self, bands: int) -> np.ndarray:
        """See Picture."""
        try:
            pixels = np.asarray(_array(self.store)[self.index])
        except (OSError, ValueError, RuntimeError, IndexError) as error:
            raise Refused(
                f"{self.store} cannot be read at position {self.index}: {error}. "
                f"Make the chips again."
            ) from error
        return pixels[:bands] if pixels.ndim == 3 else pixels[None]

    def __str__(self) -> str:
        return f"{self.store}[{self.index}]"


@lru_cache(maxsize=64)
def _array(store: Path) -> zarr.Array:
    return zarr.open_array(store, mode="r")


def is_image(path: Path) -> bool:
    """Whether a file is an image that `FilePicture` reads, by its name."""
    return path.suffix.lower() in DRIVERS and not path.name.startswith(".")
