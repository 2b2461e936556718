"""Files that are written for one person to fetch, and are gone afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from .limits import DOWNLOAD_OF, DOWNLOADS


class _Once(FileResponse):
    """A file that is gone with its folder after the answer, also where that was a refusal of its range."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            shutil.rmtree(Path(self.path).parent, ignore_errors=True)


def written(user: str, name: str, kind: str, write: Callable[[Path], object]) -> FileResponse:
    """A file that `write` makes now, as a user's download called `name` of a media type.

    Raises Busy while another one is written for the same user, and where too many are written.
    """
    with DOWNLOAD_OF.of(user), DOWNLOADS:
        folder = Path(tempfile.mkdtemp(prefix="aftermap-"))
        try:
            write(folder / name)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return _Once(folder / name, media_type=kind, filename=name)
