"""From a run's finished layers to its files: what `finish` and the report are told."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from threading import Event
from typing import Any

import geopandas as gpd
import pandas as pd
from distributed import Client

from ..kernels.buildings import Origin
from ..kernels.detections import Addresses
from ..scenes.gazetteer import addresses
from ..scenes.geocoder import Geocoder
from ..scenes.grid import gsd
from ..scenes.pair import Pair, acquisition_date
from .finish import FinishJob, finish
from .folder import RunFolder
from .futures import map_ordered
from .heap import trim
from .job import Job
from .prepare import Prepared
from .report import write_report
from .report_pictures import take_pictures
from .report_places import find_places
from .request import Request


def write_outputs(
    client: Client,
    folder: RunFolder,
    prepared: Prepared,
    job: Job,
    record: Mapping[str, Any],
    stop: Event | None = None,
) -> dict[str, Any]:
    """Write rasters, buildings, summary and report; returns the totals.

    Stopped is raised soon after `stop` is set; files that are written by then are whole.
    """
    map_chunks = partial(map_ordered, client, stop=stop)
    totals = finish(_finish_job(folder, prepared, job, record), map_chunks, stop)
    trim()
    codes = totals.pop("overview")
    row0, col0, row1, col1 = job.plan.region
    # On a worker, where the images have been read already and the files' tiles are in its cache.
    take = partial(take_pictures, job.pair, job.plan.region)
    (pictures,) = map_chunks(take, [codes])
    write_report(
        folder.path / "report.html",
        _facts(job.pair, record, totals),
        pictures,
        find_places(folder.path, job.pair.grid[row0:row1, col0:col1], codes),
    )
    return totals


def _finish_job(
    folder: RunFolder, prepared: Prepared, job: Job, record: Mapping[str, Any]
) -> FinishJob:
    row0, col0, row1, col1 = job.plan.region
    pair, footprints = job.pair, prepared.footprints
    return FinishJob(
        folder=folder.path.absolute(),
        store=job.store,
        grid=pair.grid[row0:row1, col0:col1],
        rules=prepared.rules,
        origin=_origin(pair, record),
        scene_prefix=prepared.request.scene or pair.post.name,
        footprints=footprints,
        footprint_source=footprints.path.name if footprints else "detected",
        shifts=prepared.footprint_shifts,
        suppression=prepared.suppression,
        addresses=addresses_of(prepared.request),
        aoi=_aoi(pair),
        skipped=[(job.plan.at(*e["chunk"]), e["reason"]) for e in record["quarantined"]],
        sources=_sources(record),
    )


def addresses_of(request: Request) -> Addresses | None:
    """Where detections get their addresses from, by what was asked for."""
    if request.geocoder is not None:
        return Geocoder.of(request.geocoder).addresses
    if request.gazetteer is not None:
        return partial(addresses, file=request.gazetteer)
    return None


def _origin(pair: Pair, record: Mapping[str, Any]) -> Origin:
    shift = record["shift"] or {}
    return Origin(
        method=record["method"]["method"],
        weights_sha256=record["method"]["weights_sha256"] or None,
        run_id=record["run_id"],
        pre_image=pair.pre.name if pair.pre else None,
        post_image=pair.post.name,
        pre_date=acquisition_date(pair.pre) if pair.pre else None,
        post_date=acquisition_date(pair.post),
        gsd_m=round(gsd(pair.grid), 4),
        shift_x_m=shift.get("x_m"),
        shift_y_m=shift.get("y_m"),
        align_conf=shift.get("confidence"),
    )


def _aoi(pair: Pair) -> gpd.GeoDataFrame | None:
    if pair.area is None:
        return None
    return gpd.GeoDataFrame(geometry=[pair.area], crs=pair.grid.crs.to_wkt())


def _sources(record: Mapping[str, Any]) -> pd.DataFrame:
    rows = [
        {
            "role": role,
            "path": file["path"],
            "bytes": file["bytes"],
            "sampled_sha256": file["sampled_sha256"],
        }
        for role, files in sorted(record["facts"]["inputs"].items())
        for file in files
    ]
    return pd.DataFrame(rows)


def _facts(pair: Pair, record: Mapping[str, Any], totals: Mapping[str, Any]) -> dict[str, Any]:
    """What the report says: totals, images, warnings, and how it was made."""
    plan, method, shift = record["plan"], record["method"], record["shift"]
    epsg = pair.grid.crs.to_epsg()
    provenance = [
        ("Run", record["run_id"]),
        ("Method", f"{method['method']}, {method['precision']}"),
        ("Weights, SHA-256", method["weights_sha256"] or "none"),
        (
            "Images",
            "; ".join(
                file["path"]
                for role in ("pre", "post")
                for file in record["facts"]["inputs"].get(role, [])
            ),
        ),
        (
            "Grid",
            f"{plan['width']} x {plan['height']} px at {gsd(pair.grid):.3g} m, {f'EPSG:{epsg}' if epsg else 'a coordinate system of its own'}",
        ),
        (
            "Windows",
            f"{plan['window_core_px']} px and a halo of {plan['halo_px']} px; chunks of {plan['chunk_px']} px",
        ),
        ("Shift before to after", _shift(shift)),
        (
            "Software",
            ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        ),
        ("Started", record["started"]),
    ]
    return dict(totals) | {
        "title": f"Damage assessment: {pair.post.name}",
        "method": method["method"],
        "pre_image": pair.pre.name if pair.pre else None,
        "post_image": pair.post.name,
        "pre_date": acquisition_date(pair.pre) if pair.pre else None,
        "post_date": acquisition_date(pair.post),
        "notes": record["notes"],
        "provenance": provenance,
    }


def _shift(shift: Mapping[str, Any] | None) -> str:
    if shift is None or not shift["tiles"]:
        return "not measurable"
    return (
        f"{shift['x_m']:+.2f} m east, {shift['y_m']:+.2f} m north "
        f"({shift['confidence']:.0%} of {shift['tiles']} tiles agree), "
        f"{'corrected' if shift['corrected'] else 'not corrected'}"
    )
