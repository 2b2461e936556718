"""Where an export of tags goes, checked before anything is read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ....scenes.errors import Refused, UsageError

ABOUT = "export.json"
"""In every folder that is exported: what it is. It marks a folder that may be replaced."""


def place(out: Path, to: str, suffixes: tuple[str, ...], catalog: Path, overwrite: bool) -> Path:
    """The file or, without suffixes, the folder to write.

    Raises UsageError for a wrong suffix, Refused for a place that cannot be written or holds
    something else.
    """
    if suffixes and out.suffix.lower() not in suffixes:
        raise UsageError(
            f"{to} goes into a file that ends with {' or '.join(suffixes)}, and -o says {out.name!r}."
        )
    inside = catalog.resolve()
    if out.resolve() == inside or inside in out.resolve().parents:
        raise Refused(f"{str(out)!r} lies in the catalog's own folder. Give another place with -o.")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise Refused(
            f"{str(out.parent)!r} is not a folder that can be written to. Make it, or give "
            "another place with -o."
        )
    if out.exists() or out.is_symlink():
        _check_replaceable(out, not suffixes, overwrite)
    return out


def write_about(folder: Path, about: dict[str, Any]) -> None:
    """Say in a folder what it is."""
    text = json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / ABOUT).write_text(text + "\n", encoding="utf-8", newline="\n")


def read_about(folder: Path) -> dict[str, Any]:
    """What a folder says of itself; nothing where it says nothing of ours."""
    try:
        if (folder / ABOUT).stat().st_size > _LARGEST:
            return {}
        found = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) and "aftermap" in found else {}
    except (OSError, ValueError, RecursionError):
        return {}


_LARGEST = 256 << 20


def _check_replaceable(path: Path, folder: bool, overwrite: bool) -> None:
    if not overwrite:
        raise Refused(f"{str(path)!r} exists. Replace it with --overwrite, or give another -o.")
    if folder != path.is_dir() or (folder and any(path.iterdir()) and not read_about(path)):
        raise Refused(
            f"{str(path)!r} is not an earlier export of this kind, so --overwrite leaves it "
            "alone. Give another place with -o."
        )
