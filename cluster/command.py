"""What the command line prints around a run: the plan, the summary, JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from ..scenes.errors import Refused, UsageError
from ..scenes.remote import is_remote
from ..scenes.synth import Synth, write
from .assess import run_request
from .exports import export
from .gallery.command import is_gallery, run_gallery
from .plan_text import describe
from .prepare import prepare
from .regions.command import plan_region_command
from .request import Request
from .run import Run


def run_assess(arguments: Mapping[str, Any]) -> int:
    """Carry out `aftermap assess` or `plan` from its arguments; returns the exit code."""
    if is_gallery(arguments):
        return run_gallery(arguments)
    if arguments.get("maps") is not None:
        raise UsageError(
            "--maps is for a folder of photos that lie nowhere on the earth. Leave it out."
        )
    request = _request(arguments)
    as_json = arguments["as_json"]
    if arguments.get("dry_run"):
        prepared = prepare(request)
        print(json.dumps(prepared.to_dict(), indent=2) if as_json else describe(prepared))
        return 0
    run = run_request(request, quiet=as_json)
    print(json.dumps(_result(run), indent=2) if as_json else _told(run))
    return 4 if run.quarantined else 0


def run_plan(arguments: Mapping[str, Any]) -> int:
    """Carry out `aftermap plan` for images, or for a region file; returns the exit code."""
    images = arguments["images"]
    if len(images) == 1 and images[0].endswith(".toml"):
        return plan_region_command(arguments)
    return run_assess({**arguments, "dry_run": True})


def run_synth(folder: Path, **spec: Any) -> None:
    """Write a synthetic scene and say what it is."""
    scene = write(folder, Synth(**spec))
    for path in (scene.pre, scene.post, scene.truth, scene.footprints):
        print(path)
    print(f"Try: aftermap assess {scene.pre} {scene.post} -o {folder / 'run'}")


def run_export(run: Path, to: str, out: Path | None, overwrite: bool, as_json: bool) -> None:
    """Export a finished run and say what was written, and what was left out."""
    done = export(run, to, out, overwrite)
    if as_json:
        print(json.dumps(asdict(done), default=str, indent=2))
        return
    counts = ", ".join(f"{count} {name}" for name, count in done.counts.items())
    print(f"{done.to:<10} {done.path}: {counts}")
    for note in done.left_out:
        print(f"left out   {note}")


def _request(arguments: Mapping[str, Any]) -> Request:
    images = [source_of(image) for image in arguments["images"]]
    if len(images) > 2:
        raise UsageError(
            f"{len(images)} images were given; give PRE and POST. Several tiles of one image go "
            "into a folder, or into a text file given as @list.txt."
        )
    names = Request.__dataclass_fields__.keys() & arguments.keys()
    return Request(
        pre=images[0] if len(images) == 2 else None,
        post=images[-1],
        **{name: arguments[name] for name in names},
    )


def source_of(text: str) -> str | list[str]:
    """A path, or the tiles named in a text file given as @file."""
    if not text.startswith("@"):
        return text
    listing = Path(text[1:])
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"The list of tiles {listing} cannot be read: {error}.") from error
    tiles = [line.strip() for line in lines if line.strip()]
    return [tile if is_remote(tile) else str(listing.parent / tile) for tile in tiles]


def _result(run: Run) -> dict[str, Any]:
    record = run.record
    return {
        "run": str(run.path),
        "state": record["state"],
        "run_id": record["run_id"],
        "quarantined": run.quarantined,
        "summary": run.summary.astype(object).where(run.summary.notna(), None).to_dict("records"),
        "seconds": record.get("seconds_total"),
    }


def _told(run: Run) -> str:
    lines = [_plainly(run.summary), ""]
    lines += [f"note       {note}" for note in run.record["notes"]]
    if run.quarantined:
        lines.append(
            f"{len(run.quarantined)} chunks could not be worked on and are marked not analysed:"
        )
        lines += [f"  chunk {entry['chunk']}: {entry['reason']}" for entry in run.quarantined[:10]]
        lines.append("Run the same command again to try them once more.")
    lines += [
        f"map        {run.path / 'buildings.gpkg'}",
        f"rasters    {run.path / 'damage.tif'}",
        f"report     {run.report}",
    ]
    return "\n".join(lines)


def _plainly(table: pd.DataFrame) -> str:
    """A table of figures for the terminal: whole numbers whole, and nothing where there is nothing."""
    return table.to_string(index=False, na_rep="", float_format=lambda value: f"{value:.10g}")
