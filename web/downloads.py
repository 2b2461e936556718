"""Files that are written for one person to fetch, and are gone afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from .limits import DOWNLOADS


def written(name: str, kind: str, write: Callable[[Path], object]) -> FileResponse:
    """A file that `write` makes now, as a download called `name` of a media type."""
    folder = Path(tempfile.mkdtemp(prefix="aftermap-"))
    try:
        with DOWNLOADS:
            write(folder / name)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    gone = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    return FileResponse(folder / name, media_type=kind, filename=name, background=gone)
