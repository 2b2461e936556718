"""A finished run in the forms that other people want it in."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from ..scenes.errors import Refused, UsageError
from .finished import Finished
from .formats import ABOUT, FORMATS, Format
from .run import Run


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    to: str
    """The format."""
    path: Path
    """The file or folder."""
    counts: dict[str, int] = field(default_factory=dict)
    """Rows, labels and files by name."""
    left_out: tuple[str, ...] = ()
    """What the format does not hold, in words."""


def export(
    run: str | Path | Run, to: str, out: str | Path | None = None, overwrite: bool = False
) -> Exported:
    """Write a finished run as `to`, one of `FORMATS`, to a file or folder.

    `out` defaults to `RUN-<to>` beside the run folder. What is there already is kept and the
    export refused, unless `overwrite`; it is replaced only when the new one is whole. Reads the
    run in pieces. Raises UsageError for an unknown format or a wrong suffix, Refused for a folder
    without a finished run, a run without what the format is about, and a place that cannot be
    written.
    """
    if to not in FORMATS:
        raise UsageError(f"There is no format {to!r}. Choose one with --to: {', '.join(FORMATS)}.")
    form = FORMATS[to]
    finished = Finished.open(run.path if isinstance(run, Run) else run)
    if form.needs_buildings and not finished.has_buildings:
        raise Refused(
            f"{to} is about buildings, and {finished.method} without footprints finds damaged "
            f"areas instead ({sum(finished.counts.values())} here). Assess again with "
            "--footprints, or export with --to geojson, flatgeobuf, shapefile, csv or unosat."
        )
    path = _place(finished, to, form, out, overwrite)
    left_out = _set_aside(finished)
    counts = form.write(finished, path, left_out)
    return Exported(to, path, counts, tuple(left_out))


def _place(
    finished: Finished, to: str, form: Format, out: str | Path | None, overwrite: bool
) -> Path:
    """Where the export goes, checked before anything is read."""
    suffix = form.suffixes[0] if form.suffixes else ""
    inside = finished.path.resolve()
    beside = finished.path if finished.path.name else inside
    path = beside.with_name(f"{inside.name}-{to}{suffix}") if out is None else Path(out)
    # A shapefile without .zip is a folder; every other file says by its name what it is.
    folder = not form.suffixes or (to == "shapefile" and path.suffix.lower() != ".zip")
    if not folder and path.suffix.lower() not in form.suffixes:
        raise UsageError(
            f"{to} goes into a file that ends with {' or '.join(form.suffixes)}, and -o says "
            f"{path.name!r}."
        )
    if path.resolve() == inside or inside in path.resolve().parents:
        raise Refused(
            f"{str(path)!r} lies in the run folder, which holds only what the run made and is "
            "emptied by --fresh. Give another place with -o."
        )
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise Refused(
            f"{str(path.parent)!r} is not a folder that can be written to. Make it, or give "
            "another place with -o."
        )
    if path.exists() or path.is_symlink():
        _check_replaceable(path, folder, overwrite)
    return path


def _check_replaceable(path: Path, folder: bool, overwrite: bool) -> None:
    if not overwrite:
        raise Refused(f"{str(path)!r} exists. Replace it with --overwrite, or give another -o.")
    if folder != path.is_dir() or (folder and any(path.iterdir()) and not _ours(path)):
        raise Refused(
            f"{str(path)!r} is not an earlier export of this kind, so --overwrite leaves it "
            "alone. Give another place with -o."
        )


def _ours(folder: Path) -> bool:
    try:
        return "aftermap" in json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _set_aside(finished: Finished) -> list[str]:
    """What the run itself could not do."""
    quarantined = finished.record.get("quarantined", [])
    if not quarantined:
        return []
    return [f"{len(quarantined)} chunks of the run were set aside; they are not analysed"]
