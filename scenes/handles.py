"""The open datasets of each thread: GDAL's handles must not be shared between threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError, RasterioIOError

from .remote import RemoteFile, Unreachable, hush_logs, look, shown

if TYPE_CHECKING:
    from .raster import Raster

GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""What rasterio raises when GDAL fails; the warper's errors are not rasterio's own."""

_HANDLES = 64

_BESIDE = (".ovr", ".OVR", ".msk", ".MSK")
"""What is added to a file's name for overviews and masks kept beside it; GDAL opens these too."""


class _Handles(threading.local):
    """The open datasets of one thread, the least recently used closed first."""

    def __init__(self) -> None:
        self.opened: OrderedDict[object, rasterio.DatasetReader] = OrderedDict()


_handles = _Handles()


def handle(raster: Raster) -> rasterio.DatasetReader:
    """This thread's open dataset of a raster."""
    return keep((raster.path, raster.stamp), lambda: _open_unchanged(raster))


def keep(key: object, opener: Callable[[], Any]) -> Any:
    """This thread's open dataset under `key`, opened by `opener` the first time."""
    opened = _handles.opened
    if key not in opened:
        opened[key] = opener()
        while len(opened) > _HANDLES:
            opened.popitem(last=False)[1].close()
    opened.move_to_end(key)
    return opened[key]


def close_handles() -> None:
    """Close this thread's datasets, so that files can be replaced under them."""
    while _handles.opened:
        _handles.opened.popitem()[1].close()


def check_unchanged(raster: Raster) -> None:
    """Raise RasterioIOError where a file is no longer the one whose header was read.

    Raises Unreachable where a remote file cannot be asked for.
    """
    if stamp_of(raster.remote or Path(raster.path)) != raster.stamp:
        raise RasterioIOError(f"{raster.path} changed since it was opened")


def check_remote(raster: Raster) -> None:
    """Raise Unreachable where a remote file is no longer the one whose pixels were asked for."""
    if raster.remote is None:
        return
    try:
        check_unchanged(raster)
    except GDAL_ERRORS as error:
        raise unreachable(raster, error) from None


def unreachable(raster: Raster, error: Exception) -> Unreachable:
    """What to raise when a remote file failed; what GDAL remembers of it is forgotten."""
    close_handles()
    return Unreachable(f"{raster.path} cannot be read: {reason_of(error)}")


def reason_of(error: Exception) -> str:
    """The deepest message of a chain of read errors: GDAL's own words."""
    while error.__cause__ is not None or error.__context__ is not None:
        deeper = error.__cause__ or error.__context__
        if not isinstance(deeper, Exception):
            break
        error = deeper
    return shown(str(error))


def beside(file: Path | RemoteFile) -> list[Path]:
    """The overviews and masks that lie beside a file and are read with it; of a remote one, none."""
    if isinstance(file, RemoteFile):
        return []
    named = (file.with_name(file.name + suffix) for suffix in _BESIDE)
    return [found for found in named if found.exists()]


def stamp_of(file: Path | RemoteFile) -> tuple[int, ...]:
    """Size of a file and a number that changes with it: when it was modified, or a digest.

    The same of what lies beside a local file follows.
    """
    if isinstance(file, RemoteFile):
        return look(file).stamp
    found = [part.stat() for part in (file, *beside(file))]
    return tuple(number for part in found for number in (part.st_size, part.st_mtime_ns))


def open_dataset(file: Path | RemoteFile, driver: str) -> rasterio.DatasetReader:
    """A new dataset of a file, by one driver alone."""
    if isinstance(file, RemoteFile):
        hush_logs()
        return rasterio.open(file.vsi(), driver=driver)
    return rasterio.open(file, driver=driver)


def _open_unchanged(raster: Raster) -> rasterio.DatasetReader:
    check_unchanged(raster)
    return open_dataset(raster.remote or Path(raster.path), raster.driver)
