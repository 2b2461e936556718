"""The last part of a region: from its scenes' run folders to one table, mosaics and report.

Every file is written anew and appears whole; doing it again, after a kill or with a few scenes
more, gives the same bytes for the same scenes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import geopandas as gpd
import pandas as pd

from ...scenes.catalog import ScenePair
from ...scenes.vectors import write_csv
from ..finish import summarise
from ..request import versions
from ..write import addresses_of
from .best import BestDetections
from .districts import DistrictTotals
from .folder import MERGED, RegionFolder
from .merge import Merge, Merged, write_tables
from .mosaic import write_mosaics
from .parts import LONLAT, as_frame, to_crs
from .report import write_region_report
from .scenes import Work

ORDER = ("done", "quarantined", "failed", "nothing", "running", "missing")
"""States of scenes as they are told."""


_AT_ONCE = 500
"""Scenes of a table in memory at once."""


def finish_region(work: Work, folder: RegionFolder, started: str) -> dict[str, Any]:
    """Merge what is there into OUT/, and write region.json; returns the record."""
    began = time.perf_counter()
    pairs = work.pairing.pairs
    states = {pair.scene_id: state_of(folder, pair) for pair in pairs}
    counts = Counter(states.values())
    districts = None if work.districts is None else DistrictTotals(work.districts, pairs)
    best = None if work.suppression is None else BestDetections()
    watchers = [watcher for watcher in (districts, best) if watcher is not None]
    whole = [pair for pair in pairs if states[pair.scene_id] in MERGED]
    merge = Merge(
        folder,
        pairs,
        folder.state,
        whole,
        work.rules,
        work.has_buildings,
        watchers,
        work.suppression,
        addresses_of(work.asked),
    )
    tables: dict[str, pd.DataFrame] = {}

    def more(merged: Merged) -> Mapping[str, Any]:
        layers: dict[str, Any] = {"scenes": _scenes(merge, merged, states)}
        if districts is not None:
            tables["districts"] = districts.table(merged.has_buildings)
            layers["districts"] = _districts(districts, tables["districts"], merged.crs)
        tables["summary"] = _summary(merged, counts)
        return layers | {"summary": tables["summary"]}

    merged = write_tables(merge, more)
    for name in ("summary", "districts"):
        (folder.path / f"{name}.csv").unlink(missing_ok=True)
        if name in tables:
            write_csv(folder.path / f"{name}.csv", tables[name])
    mosaics = write_mosaics(merge)
    record = _record(work, folder, states, merged) | {"mosaics": mosaics, "started": started}
    write_region_report(
        folder.path / "report.html",
        record,
        pairs,
        merged.scenes,
        merged.has_buildings,
        work.districts,
        tables.get("districts"),
        None if best is None else best.table,
    )
    record["seconds_merge"] = round(time.perf_counter() - began, 2)
    folder.write_record(record)
    return record


def state_of(folder: RegionFolder, pair: ScenePair) -> str:
    """A scene's state, "missing" where it was never begun or its results are gone."""
    state = folder.state(pair.scene_id)
    if state is None or (state.state in MERGED and not folder.has_results(state)):
        return "missing"
    return state.state


def _summary(merged: Merged, counts: Counter[str]) -> pd.DataFrame:
    """A run's totals, and how many scenes there are in which state."""
    table = summarise(merged.facts())
    rows = pd.DataFrame(
        {
            "figure": [f"scenes, {name}" for name in ORDER if counts[name]],
            "damage_class": pd.Series([pd.NA] * sum(counts[n] > 0 for n in ORDER), dtype="Int16"),
            "class_name": "",
            "value": [float(counts[name]) for name in ORDER if counts[name]],
            "unit": "",
        }
    )
    return pd.concat([table, rows], ignore_index=True)


def _scenes(merge: Merge, merged: Merged, states: Mapping[str, str]) -> Iterator[gpd.GeoDataFrame]:
    """The scenes as polygons: their cores, what became of them, and where their reports are."""
    todo = iter(merge.pairs)
    while pairs := list(islice(todo, _AT_ONCE)):
        told = [merge.states(pair.scene_id) for pair in pairs]
        known = [states[pair.scene_id] for pair in pairs]
        counts = [merged.scenes.get(pair.scene_id, {}) for pair in pairs]
        yield as_frame(
            [to_crs(pair.core, LONLAT, merged.crs) for pair in pairs],
            merged.crs,
            scene_id=[pair.scene_id for pair in pairs],
            state=known,
            reason=["" if state is None else state.reason for state in told],
            pre=["" if pair.pre is None else pair.pre.name for pair in pairs],
            post=[pair.post.name for pair in pairs],
            why=[pair.why for pair in pairs],
            found=[sum(by_class.values()) for by_class in counts],
            damaged=[sum(n for code, n in c.items() if 2 <= code <= 5) for c in counts],
            report=[
                f"scenes/{pair.scene_id}/report.html" if state in MERGED else ""
                for pair, state in zip(pairs, known, strict=True)
            ],
        )


def _districts(totals: DistrictTotals, table: pd.DataFrame, crs: str) -> gpd.GeoDataFrame:
    """The districts as polygons, with their totals."""
    rows = table.iloc[: len(totals.districts.names)].reset_index(drop=True)
    shapes = [to_crs(shape, LONLAT, crs) for shape in totals.districts.shapes]
    return as_frame(shapes, crs, **{str(name): rows[name] for name in rows})


def _record(
    work: Work, folder: RegionFolder, states: Mapping[str, str], merged: Merged
) -> dict[str, Any]:
    """What region.json says."""
    pairing, region, counts = work.pairing, work.region, Counter(states.values())
    scenes = {}
    for pair in pairing.pairs:
        state = folder.state(pair.scene_id)
        scenes[pair.scene_id] = {
            "state": states[pair.scene_id],
            "reason": "" if state is None else state.reason,
            "why": pair.why,
            "attempts": 0 if state is None else state.attempts,
            "seconds": 0 if state is None else state.seconds,
            "images": {} if state is None else state.ticket["images"],
            **({} if state is None else state.facts),
        }
    over = all(counts[name] == 0 for name in ("failed", "quarantined", "running", "missing"))
    return {
        "region": region.name,
        "file": str(region.file),
        "state": "done" if over else "incomplete",
        "method": work.kernel.facts(),
        "options": dict(region.assess),
        "pairing": pairing.counts,
        "left_out": list(pairing.left_out),
        "counts": {name: counts[name] for name in ORDER if counts[name]},
        "not_in_region_any_more": folder.others({pair.scene_id for pair in pairing.pairs}),
        "totals": merged.facts(),
        "versions": versions(),
        "finished": time.strftime("%FT%TZ", time.gmtime()),
        "scenes": scenes,
    }
