"""Photos as cameras write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image
from rasters import texture


def jpeg(
    path: Path, gps: dict[int, Any] | None = None, camera: dict[int, Any] | None = None
) -> Path:
    """A photo of 80 x 60 px with EXIF tags of its position and its camera."""
    image = Image.fromarray(texture(60, 80).transpose(1, 2, 0))
    exif = Image.Exif()
    if gps is not None:
        exif.get_ifd(0x8825).update(gps)
    if camera is not None:
        exif.get_ifd(0x8769).update(camera)
    image.save(path, exif=exif)
    return path


def standing_at(lon: float, lat: float) -> dict[int, Any]:
    """EXIF's tags of a position in the north and east, to a hundredth of a second of arc."""
    return {1: "N", 2: _sexagesimal(lat), 3: "E", 4: _sexagesimal(lon)}


def _sexagesimal(degrees: float) -> tuple[float, float, float]:
    whole, minutes = int(degrees), int(degrees % 1 * 60)
    return float(whole), float(minutes), (degrees - whole - minutes / 60) * 3600
