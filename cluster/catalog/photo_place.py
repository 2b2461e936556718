"""Where and when a photo was taken, as its camera says (EXIF)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from PIL import ExifTags, Image


@dataclass(frozen=True)
class PhotoPlace:
    """What is known; None what is not."""

    lon: float | None = None
    lat: float | None = None
    taken_at: datetime | None = None
    """UTC: by the satellites' clock where the camera noted it, else by its own with the zone that it
    names; of a camera that names none its own time counts as UTC."""


def place_of(image: Image.Image) -> PhotoPlace:
    """Read position and time of a photo; notes that make no sense count as none."""
    try:
        notes = image.getexif()
        gps = {
            ExifTags.GPS(k): v for k, v in notes.get_ifd(ExifTags.IFD.GPSInfo).items() if k in _GPS
        }
        camera = notes.get_ifd(ExifTags.IFD.Exif)
    # Cameras write what they like, and decoders stumble over it in their own ways.
    except Exception:
        return PhotoPlace()
    lat = _degrees(gps.get(ExifTags.GPS.GPSLatitude), gps.get(ExifTags.GPS.GPSLatitudeRef), "S", 90)
    lon = _degrees(
        gps.get(ExifTags.GPS.GPSLongitude), gps.get(ExifTags.GPS.GPSLongitudeRef), "W", 180
    )
    if lat is None or lon is None or (lat, lon) == (0.0, 0.0):  # what cameras without a fix write
        lat = lon = None
    taken = _satellite_time(gps) or _camera_time(camera, notes.get(ExifTags.Base.DateTime))
    return PhotoPlace(lon, lat, taken)


_GPS = {int(tag) for tag in ExifTags.GPS}


def _degrees(value: Any, side: Any, negative: str, most: float) -> float | None:
    try:
        degrees, minutes, seconds = (float(Fraction(part)) for part in value)
        found = degrees + minutes / 60 + seconds / 3600
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    if not (math.isfinite(found) and 0 <= found <= most):
        return None
    told = side.decode("ascii", "replace") if isinstance(side, bytes) else str(side or "")
    return round(-found if told.strip().upper().startswith(negative) else found, 7)


def _satellite_time(gps: dict[Any, Any]) -> datetime | None:
    try:
        hours, minutes, seconds = (float(Fraction(x)) for x in gps[ExifTags.GPS.GPSTimeStamp])
        day = datetime.strptime(str(gps[ExifTags.GPS.GPSDateStamp]).strip("\0 "), "%Y:%m:%d")
        return day.replace(hour=int(hours), minute=int(minutes), second=int(seconds), tzinfo=UTC)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None


def _camera_time(camera: Any, plain: Any) -> datetime | None:
    told = camera.get(ExifTags.Base.DateTimeOriginal) or plain
    zone = str(camera.get(ExifTags.Base.OffsetTimeOriginal) or "+00:00").strip("\0 ")
    for offset in (zone, "+00:00"):
        try:
            moment = datetime.strptime(
                f"{str(told).strip(chr(0) + ' ')} {offset}", "%Y:%m:%d %H:%M:%S %z"
            )
            return moment.astimezone(UTC)
        except (ValueError, OverflowError):
            continue
    return None
