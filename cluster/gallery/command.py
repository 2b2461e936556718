"""A folder of photos on the command line: told from tiles of a scene, and its options heard."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from ...kernels.methods import SCANNED
from ...models.checkpoint import bundled
from ...scenes.errors import Refused, UsageError
from ...scenes.remote import is_remote
from ..request import Request
from .gallery import gallery
from .request import prepared

_DRIVERS = {
    ".tif": "GTiff",
    ".tiff": "GTiff",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".jp2": "JP2OpenJPEG",
}
"""What GDAL may take a file for: it must not follow a VRT that is called .tif."""

_HEARD = {"out", "method", "weights", "device", "fresh"}
"""Options of a request that mean something to photos; --precision fp32 is what they get."""


def is_gallery(arguments: Mapping[str, Any]) -> bool:
    """Whether one folder of photos was given, none of which lies anywhere on the earth, and a method
    that scores them."""
    images = arguments["images"]
    if len(images) != 1 or arguments["method"] not in SCANNED or is_remote(images[0]):
        return False
    folder = Path(images[0])
    if not folder.is_dir():
        return False
    files = [p for p in folder.rglob("*") if p.suffix.lower() in _DRIVERS]
    return bool(files) and not any(map(_placed, files))


def run_gallery(arguments: Mapping[str, Any]) -> int:
    """Carry out `aftermap assess PHOTOS` from its arguments; returns the exit code."""
    _check(arguments)
    photos, weights, method = arguments["images"][0], _weights(arguments), arguments["method"]
    maps, device, quiet = arguments.get("maps"), arguments["device"], arguments["as_json"]
    if arguments.get("dry_run"):
        asked = prepared(photos, weights, method, maps, device, quiet)
        print(json.dumps(asked.to_dict(), indent=2) if quiet else asked.text())
        return 0
    fresh = bool(arguments.get("fresh"))
    done = gallery(photos, weights, arguments["out"], method, maps, device, fresh, quiet)
    print(json.dumps(done.to_dict(), indent=2) if quiet else done.text())
    return done.code


def _weights(arguments: Mapping[str, Any]) -> Path:
    method = arguments["method"]
    found = arguments["weights"] or bundled(method)
    if found is None:
        raise Refused(
            f"{method} has no weights of its own. Train some with\n"
            f"  aftermap train --method {method} --data PHOTOS --out weights/{method}\n"
            f"and give them with --weights."
        )
    return Path(found)


def _placed(file: Path) -> bool:
    """Whether a file says where on the earth it lies; notes of a camera are none that are read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(file, driver=_DRIVERS[file.suffix.lower()]) as source:
                return bool(
                    source.crs or source.gcps[0] or source.rpcs or not source.transform.is_identity
                )
        except (RasterioError, OSError, UnicodeError):
            return False


def _check(arguments: Mapping[str, Any]) -> None:
    """Refuse options that mean nothing to photos, the first by its name."""
    for name, field in Request.__dataclass_fields__.items():
        value = arguments.get(name)
        heard = name in _HEARD or (name == "precision" and value == "fp32")
        if not heard and value not in (None, field.default, [], ()):
            option = {"compiled": "compile"}.get(name, name.replace("_", "-"))
            raise UsageError(
                f"--{option} means nothing to photos: those of {arguments['images'][0]} lie nowhere on "
                f"the earth and are scored one by one. Leave it out, or give georeferenced images."
            )
