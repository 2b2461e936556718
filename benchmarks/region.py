"""From the classes of a whole region to its tables: buildings found, and footprints supplied."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from aftermap.cluster.finish import FinishJob, finish
from aftermap.cluster.futures import map_ordered
from aftermap.kernels.buildings import Origin, Rules
from aftermap.scenes.align import TILE, Tiles
from aftermap.scenes.footprints import open_footprints
from aftermap.scenes.layer import Layer
from aftermap.scenes.plan import Plan, Window
from aftermap.scenes.shift_field import ShiftField
from aftermap.scenes.store import Store
from bench import MEMORY, Bench
from buildings import grid
from figure import Figure
from pairs import TRANSFORM
from process import Peak, isolated

_SIDE, _QUICK = 30_000, 8_000
_CHUNK = 2048
_PATTERN = 1_000
"""Side of the piece of town that is repeated, px."""
_HOUSES = (8, 7)
"""Houses down and across in it: 56 per Mpx, 50,400 on the whole region."""
_LOTS = (15, 15)
"""Footprints down and across in it: 225 per Mpx, of which the first 200,000 are supplied."""
_LARGEST = 200_000
_LAYERS = (Layer("damage", "class"), Layer("damage_probability", "probability"))
_ORIGIN = Origin("bench", None, "0" * 16, "pre", "post", None, None, 0.5, None, None, None)


def measure(bench: Bench) -> list[Figure]:
    """Peak memory and time of outlining or tallying, and of writing all tables, with one worker."""
    side = _QUICK if bench.quick else _SIDE
    store = town(bench, side)
    file = lots(bench, side)
    figures = []
    for name, footprints, squared in (
        ("detected", None, False),
        ("detected, right-angled", None, True),
        ("supplied", file, False),
    ):
        seen = isolated(run, bench.fresh("region"), store, footprints, squared)
        rows = seen.pop("rows")
        own, others = seen["client_mb"], seen["worker_mb"]
        figures += [
            Figure(f"{rows} buildings {name}, {side} px", seen["seconds"], "s", detail=seen),
            Figure("peak of the client", own, "MB"),
            Figure("peak of the worker", others, "MB"),
        ]
    shutil.rmtree(store.path)
    return figures


def run(
    folder: Path, store: Store, footprints: Path | None, squared: bool
) -> dict[str, float | int]:
    """Finish a store once with one worker; what it took, rasters apart."""
    os.environ["GDAL_CACHEMAX"] = "64"
    from aftermap.cluster.client import connected

    folder.mkdir()
    side = store.plan.shape[0]
    start = time.perf_counter()
    given = None if footprints is None else open_footprints(footprints, grid(side))
    opened = time.perf_counter() - start
    job = FinishJob(
        folder, store, grid(side), Rules(True, 0.5, regularise=squared), _ORIGIN, "town",
        footprints=given, footprint_source="lots.gpkg", shifts=shifts(side) if given else None,
    )  # fmt: skip
    with connected("local", 1, MEMORY) as client:
        clock = _Clock(partial(map_ordered, client))
        finish(_first(job), clock)
        with Peak() as before:
            pass
        with Peak() as seen:
            start = time.perf_counter()
            clock.seconds.clear()
            found = finish(job, clock)
            whole = time.perf_counter() - start
    shutil.rmtree(folder)
    # The first pass over the cluster writes the rasters, the second goes through the chunks.
    rasters, chunks = clock.seconds[:2]
    return {
        "rows": found["buildings"]["total"],
        "seconds": round(whole - rasters, 1),
        "seconds_opening_footprints": round(opened, 1),
        "seconds_chunks": round(chunks, 1),
        "seconds_rasters_apart": round(rasters, 1),
        "client_mb_before": round(before.own / 1e6),
        "client_mb": round(seen.own / 1e6),
        "worker_mb_before": round(before.others / 1e6),
        "worker_mb": round(seen.others / 1e6),
    }


def town(bench: Bench, side: int) -> Store:
    """A store of houses on a grid with jitter, classes 1 to 4, all cut from one pattern."""
    plan = Plan.of((side, side), Window(512, 0), _CHUNK)
    store = Store(bench.fresh("town"), plan, _LAYERS)
    store.create(grid(side), {})
    codes = pattern()
    for piece in plan:
        rows = np.arange(piece.row0, piece.row1) % _PATTERN
        cols = np.arange(piece.col0, piece.col1) % _PATTERN
        damage = codes[np.ix_(rows, cols)]
        store.write(piece, {"damage": damage, "damage_probability": damage * np.uint8(60)})
    return store


def pattern() -> np.ndarray:
    """Codes 0-4 of one piece of town, (1000, 1000): notched houses of 20 to 60 px."""
    rng = np.random.default_rng(0)
    codes = np.zeros((_PATTERN, _PATTERN), np.uint8)
    for row, col in _places(_HOUSES):
        height, width = rng.integers(20, 60, 2)
        row, col = row + rng.integers(0, 50), col + rng.integers(0, 50)
        codes[row : row + height, col : col + width] = rng.integers(1, 5)
        codes[row : row + height // 3, col : col + width // 3] = 0
    return codes


def lots(bench: Bench, side: int) -> Path:
    """A file of footprints all over the region."""
    places = np.array(_places(_LOTS))
    pieces = np.argwhere(np.ones((side // _PATTERN,) * 2)) * _PATTERN
    corners = (pieces[:, None] + places[None]).reshape(-1, 2)[:_LARGEST]
    boxes = shapely.box(corners[:, 1], corners[:, 0], corners[:, 1] + 40, corners[:, 0] + 36)
    placed = shapely.transform(boxes, lambda xy: np.column_stack(TRANSFORM * xy.T))
    frame = gpd.GeoDataFrame({"id": np.arange(len(placed))}, geometry=placed, crs=grid(side).crs)
    path = bench.fresh("lots").with_suffix(".gpkg")
    frame.to_file(path)
    return path


def shifts(side: int) -> ShiftField:
    """A shift of a few px that varies over the region."""
    at = np.linspace(TILE / 2, side - TILE / 2, 8)
    centres = np.array([(row, col) for row in at for col in at])
    return ShiftField.of(Tiles(centres, 4 * centres / side - 2), grid(side))


def _places(counts: tuple[int, int]) -> list[tuple[int, int]]:
    """Upper left corners of equal cells of the pattern."""
    down, across = counts
    return [
        (i * _PATTERN // down, j * _PATTERN // across) for i in range(down) for j in range(across)
    ]


def _first(job: FinishJob) -> FinishJob:
    """A job of one chunk, to warm up the worker and the client."""
    from dataclasses import replace

    side = _CHUNK
    plan = Plan.of((side, side), Window(512, 0), _CHUNK)
    folder = job.folder / "first"
    folder.mkdir()
    store = Store(folder / "layers.zarr", plan, _LAYERS)
    store.create(grid(side), {})
    whole = plan.at(0, 0)
    store.write(whole, {layer.name: job.store.read_chunk(layer.name, whole) for layer in _LAYERS})
    kept = replace(job, footprints=None, shifts=None)  # those of the region, not of this corner
    return replace(kept, folder=folder, store=store, grid=grid(side))


class _Clock:
    """A map over the cluster that keeps the time of each pass."""

    def __init__(self, map_chunks: Callable[..., Iterator[Any]]) -> None:
        self.map_chunks, self.seconds = map_chunks, []

    def __call__(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        start = time.perf_counter()
        yield from self.map_chunks(function, items)
        self.seconds.append(time.perf_counter() - start)
