"""One photo, decoded: whatever a camera or a phone makes becomes a square of three bytes a pixel."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image, ImageOps
from rasterio.errors import NotGeoreferencedWarning

from ...scenes.errors import Refused

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"})
"""Of files that count as photos."""

MAX_PIXELS = 1 << 27
"""Larger photos are refused before they are decoded: a file of a few kilobytes may claim more than
memory holds. Cameras have 100 Mpx at most, but for very few."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How TIFF files begin."""

_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP")
"""What Pillow may take a file for, whatever its name says."""


def is_photo(path: Path) -> bool:
    """Whether a file is a photo by its name."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_photo(path: Path, side: int) -> np.ndarray:
    """The middle of a photo, uint8 (3, side, side).

    The shorter side of `open_photo`'s image becomes `side` by antialiased bilinear resampling, and what
    the longer one has more is cut off on both ends. Raises what `open_photo` raises.
    """
    return squared(open_photo(path), side)


def open_photo(path: Path) -> Image.Image:
    """A photo, decoded: RGB of 8 bits.

    It is turned as its EXIF data say. Of files of several images the first counts; values of 16 bits
    are scaled to 8. What is transparent becomes black; colour profiles are passed over. Raises
    Refused, naming the file and what is wrong with it.
    """
    try:
        _check_file(path)
        deep = _deep(path)
        if deep is not None:
            return deep
        with Image.open(path, formats=_FORMATS) as image:
            _check_size(*image.size)
            return _coloured(_upright(image))
    # Decoders of malformed files raise whatever they stumble over.
    except Exception as error:
        told = str(error) or type(error).__name__
        raise Refused(f"The photo {path} cannot be read: {told}.") from error


def squared(image: Image.Image, side: int) -> np.ndarray:
    """The middle square of an RGB image, resampled: uint8 (3, side, side)."""
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    box = (left, top, left + short, top + short)
    small = image.resize((side, side), Image.Resampling.BILINEAR, box=box)
    return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))


def _check_file(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")  # reading a pipe would wait for ever


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"it claims {width}×{height} px, more than the {MAX_PIXELS:,} px that are decoded"
        )


def _deep(path: Path) -> Image.Image | None:
    """A TIFF of more than 8 bits as RGB; None for other files.

    Pillow reads those of several bands wrongly, or not at all.
    """
    with path.open("rb") as file:
        if file.read(4) not in _TIFF:
            return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        # Naming the driver keeps GDAL from following a VRT that is called .tif.
        with rasterio.open(path, driver="GTiff") as source:
            kind = source.dtypes[0]
            if kind == "uint8":
                return None
            if kind != "uint16":
                raise ValueError(f"its pixels are {kind}, whose range nobody tells")
            _check_size(source.width, source.height)
            bands = source.read([1, 2, 3] if source.count >= 3 else [1, 1, 1])
    return Image.fromarray(np.ascontiguousarray(_bytes(bands).transpose(1, 2, 0)))


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    # The pixels are sound: a camera's broken notes are no reason to lose them.
    except Exception:
        return image


def _coloured(image: Image.Image) -> Image.Image:
    """As RGB, 8 bits."""
    if image.mode.startswith("I"):
        return Image.fromarray(_bytes(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    return image.convert("RGB")


def _bytes(values: np.ndarray) -> np.ndarray:
    """16-bit values, of which 65535 is white, as bytes."""
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"its values {values.min()} to {values.max()} are not of 16 bits")
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
