"""Images of the catalog as files of an export, and the sizes of images that are imported."""

from __future__ import annotations

from pathlib import Path

import rasterio
from PIL import ExifTags, Image

from ....models.photos.decode import open_photo
from ....scenes.errors import Refused
from ..files import Files
from ..tables import Scene

_AS_THEY_ARE = {"jpeg": ".jpg", "png": ".png"}
"""Kinds of photos that every reader takes, and how their files end."""

_TURNED = frozenset({5, 6, 7, 8})
"""EXIF orientations in which rows and columns change places."""


def write_image(files: Files, scene: Scene, stem: Path) -> Path | None:
    """A photo's own bytes beside an export, or, where its camera was turned or its kind is rare, its pixels.

    `stem` is the path without suffix. None for rasters, which stay where they lie.
    """
    if scene.kind != "photo" or scene.content is None:
        return None
    source = files.path(scene.content)
    suffix = _AS_THEY_ARE.get(source.suffix[1:])
    if suffix is not None and _orientation(source) == 1:
        target = stem.with_name(stem.name + suffix)
        target.write_bytes(files.read(scene.content))
        return target
    target = stem.with_name(f"{stem.name}.png")
    open_photo(source).save(target)
    return target


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image as it is shown, px, from its header; Refused for what is no image."""
    try:
        with Image.open(path, formats=("JPEG", "PNG", "TIFF", "WEBP")) as image:
            width, height = image.size
            turned = image.getexif().get(ExifTags.Base.Orientation) in _TURNED
            return (width, height) if turned else (height, width)
    # Decoders of malformed files raise whatever they stumble over.
    except Exception:
        try:
            # Naming the driver keeps GDAL from following a VRT that is called .tif.
            with rasterio.open(path, driver="GTiff") as source:
                return source.height, source.width
        except rasterio.errors.RasterioError as error:
            raise Refused(f"The image {path} cannot be read: {error}.") from error


def _orientation(path: Path) -> int:
    with Image.open(path) as image:
        return int(image.getexif().get(ExifTags.Base.Orientation) or 1)
