"""Vector files before GDAL sees them: local, and holding their data instead of pointing elsewhere."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from .errors import Refused
from .gdal_options import vector_options

_POINTERS = (b"<OGRVRT", b"<OGRWFS", b"<WFS_", b"<OGRWFSDATASOURCE", b"<OGRCSW", b"<GMLAS")
_SAFE_GDAL = {
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "GML_DOWNLOAD_SCHEMA": "NO",
    "GML_SKIP_RESOLVE_ELEMS": "ALL",
}


def check_vector_file(path: Path, what: str, option: str) -> None:
    """Refuse network paths, virtual paths and files that point elsewhere.

    `what` ("footprint") and `option` ("--footprints") are what the message calls it.
    """
    text = str(path)
    try:
        _check(path, text, what, option)
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:
        raise Refused(
            f"The {what} file {text[:200]!r} cannot be looked at: {error}. Check {option}."
        ) from error


def _check(path: Path, text: str, what: str, option: str) -> None:
    if text.startswith(("/vsi", "\\vsi")) or (":/" in text and not path.exists()):
        raise Refused(
            f"The {what} file {text!r} is not a local file. Network and virtual paths are not "
            f"read; copy the file here and give its path to {option}."
        )
    if not path.exists():
        raise Refused(f"The {what} file {text!r} does not exist. Check {option}.")
    for name, head in _heads(path):
        start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1024].upper()
        if any(pointer in start for pointer in _POINTERS) or name.lower().endswith(".vrt"):
            raise Refused(
                f"The {what} file {text!r} holds {name!r}, which points at other data instead of "
                f"holding polygons. Give the data file itself to {option}."
            )


def offline() -> AbstractContextManager[None]:
    """Keep GDAL's vector drivers from following links for a while."""
    return vector_options(_SAFE_GDAL)


def _heads(path: Path) -> Iterator[tuple[str, bytes]]:
    """The name and first bytes of a file, or of each member of a zip archive."""
    if path.is_dir():
        return
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    yield member.filename, file.read(2048)
        return
    with path.open("rb") as file:
        yield path.name, file.read(2048)
