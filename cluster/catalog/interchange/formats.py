"""The formats that tags are written in and read from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ....scenes.errors import Refused
from ..catalog import Catalog
from . import coco, features, folders, table, xbd
from .found import Reader, json_of
from .marks import Marks

Writer: TypeAlias = "Callable[[Catalog, Marks, Path, list[str]], dict[str, int]]"


@dataclass(frozen=True)
class Format:
    """One form of tags outside the catalog."""

    write: Writer
    """Writes all of them; adds what it leaves out, in words, and returns what it wrote, in numbers."""
    read: Callable[[Path], Reader]
    suffixes: tuple[str, ...] = ()
    """What its file's name may end with; none for a folder."""


FORMATS: dict[str, Format] = {
    "xbd": Format(xbd.write, xbd.Xbd),
    "coco": Format(coco.write, coco.Coco),
    "geojson": Format(features.write, features.Features, (".geojson", ".json")),
    "csv": Format(table.write, table.Table, (".csv",)),
    "folders": Format(folders.write, folders.Folders),
}
"""What `--to` may be."""


def format_of(path: Path) -> str:
    """The format of a file or folder by what is in it; Refused for none of `FORMATS`."""
    if not path.exists():
        raise Refused(f"There is no file or folder {path}. Check the path that was given.")
    if path.is_dir():
        if (path / coco.LIST).is_file():
            return "coco"
        if (path / xbd.LABELS).is_dir():
            return "xbd"
        if any((outer / folders.LABEL).is_dir() for outer in (path, path / folders.LONE)):
            return "folders"
        raise Refused(
            f"{path} holds no tags that are known: neither {coco.LIST} (COCO) nor {xbd.LABELS}/ (xBD) nor "
            f"{folders.LABEL}/ (images with masks)."
        )
    if path.suffix.lower() == ".csv":
        return "csv"
    return "coco" if "annotations" in json_of(path)[0] else "geojson"
