"""What the command line prints around a region: the plan, the summary, what failed, JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ...scenes.errors import UsageError
from ..request import Request
from .file import RegionFile, read_region_file
from .plan import plan_region
from .region import RegionRun, run_region

_SHOWN = 10
"""Scenes that are named one by one."""

_BESIDE = {"out", "cluster", "workers", "memory", "allow_remote"}
"""Options of `plan` that may stand beside a region file; all others are the same for every scene."""


def run_region_command(arguments: Mapping[str, Any]) -> int:
    """Carry out `aftermap region` from its arguments; returns the exit code."""
    region = _asked(arguments)
    share = _share(arguments.get("scenes"))
    finish = bool(arguments.get("finish"))
    if finish and share is not None:
        raise UsageError("--finish merges all scenes, and --scenes is for some: give one of them.")
    as_json = bool(arguments["as_json"])
    if arguments.get("dry_run"):
        return _print_plan(region, as_json, share, bool(arguments.get("fresh")))
    run = run_region(
        region,
        share=share,
        finish_only=finish,
        fresh=bool(arguments.get("fresh")),
        quiet=as_json,
    )
    print(json.dumps(_result(run), indent=2, default=str) if as_json else _told(run))
    return run.exit_code


def plan_region_command(arguments: Mapping[str, Any]) -> int:
    """Carry out `aftermap plan region.toml`; returns the exit code."""
    (file,) = arguments["images"]
    _check_beside(file, arguments)
    out = arguments.get("out")
    cluster = arguments.get("cluster")
    asked = {
        **arguments,
        "region": file,
        "out": None if out == Path("run") else out,
        "cluster": None if cluster == "auto" else cluster,
    }
    return _print_plan(_asked(asked), bool(arguments["as_json"]))


def _check_beside(file: str, arguments: Mapping[str, Any]) -> None:
    """Refuse options of one scene: what is asked for beside a region file would be passed over."""
    asked = [
        option.name
        for option in fields(Request)
        if option.name not in _BESIDE
        and option.name in arguments
        and arguments[option.name] not in (option.default, None)
    ]
    if asked:
        tables = {name: "images" if name in ("aoi", "bbox") else "assess" for name in asked}
        where = ", ".join(f"{name} into [{table}]" for name, table in tables.items())
        raise UsageError(
            f"Every scene of a region is assessed alike, and what was asked for beside {file} "
            f"belongs into the file: {where}."
        )


def _asked(arguments: Mapping[str, Any]) -> RegionFile:
    """The region file with what the command line says instead."""
    region = read_region_file(arguments["region"])
    given = {name: arguments.get(name) for name in ("out", "cluster", "workers", "memory")}
    if arguments.get("allow_remote"):
        region = replace(region, images=replace(region.images, allow_remote=True))
    return replace(region, **{k: v for k, v in given.items() if v is not None})


def _share(text: str | None) -> tuple[int, int] | None:
    """I/N as two numbers."""
    if text is None:
        return None
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise UsageError(f"--scenes {text!r} is no share: give I/N with I from 1 to N, as 3/8.")
    return int(part), int(parts)


def _print_plan(
    region: RegionFile,
    as_json: bool,
    share: tuple[int, int] | None = None,
    fresh: bool = False,
) -> int:
    plan = plan_region(region, share, fresh)
    print(json.dumps(plan.to_dict(), indent=2) if as_json else plan.text())
    return 0


def _result(run: RegionRun) -> dict[str, Any]:
    record = {} if run.share else run.record
    told = ("region", "state", "counts", "pairing", "totals", "left_out")
    return {
        "folder": str(run.path),
        "share": None if run.share is None else f"{run.share[0]}/{run.share[1]}",
        "counts": dict(run.counts),
        **{name: record[name] for name in told if name in record},
        "failed": {
            name: scene["reason"]
            for name, scene in record.get("scenes", {}).items()
            if scene["state"] == "failed"
        },
    }


def _told(run: RegionRun) -> str:
    counted = ", ".join(f"{count} {name}" for name, count in run.counts.items())
    if run.share is not None:
        return (
            f"scenes     {counted} of share {run.share[0]}/{run.share[1]}\n"
            "When all shares are over: aftermap region FILE --finish"
        )
    lines = [run.summary.to_string(index=False, na_rep="", float_format="{:.10g}".format), ""]
    wrong = {
        name: scene
        for name, scene in run.record["scenes"].items()
        if scene["state"] not in ("done", "nothing")
    }
    if wrong:
        lines.append(f"{len(wrong)} scenes are not whole; their ground is marked not analysed:")
        lines += [
            f"  {name} {scene['state']}"
            + (f": {scene['reason']}" if scene["reason"] else "")
            + (f": {scene['quarantined']} chunks set aside" if scene.get("quarantined") else "")
            for name, scene in list(wrong.items())[:_SHOWN]
        ]
        if len(wrong) > _SHOWN:
            lines.append(f"  ... and {len(wrong) - _SHOWN} more in {run.path / 'region.json'}")
        lines.append("Run the same command again to try them once more.")
    lines += [
        f"scenes     {counted}",
        f"map        {run.path / 'buildings.gpkg'}",
        *(f"mosaic     {file}" for file in sorted(run.path.glob("damage-*.vrt"))),
        f"report     {run.report}",
    ]
    return "\n".join(lines)
