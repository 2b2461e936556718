"""From a class raster to polygons, chunk by chunk, against the same raster as one chunk."""

from __future__ import annotations

import shutil
import time
from statistics import median

import numpy as np
import shapely
from aftermap.kernels.stitch import Components, join, pieces_in
from aftermap.scenes.legend import LEVELS
from aftermap.scenes.store import Store
from bench import Bench
from buildings import class_store
from figure import Figure, Target
from rasterio.features import shapes

_CHUNK = 2048
_LAYERS = 7
"""As many as a graded network writes."""


def measure(bench: Bench) -> list[Figure]:
    """Mpx per CPU second; whether the polygons are the same; and with all layers summed."""
    side = bench.large
    mpx = side**2 / 1e6
    store = class_store(bench, side, _CHUNK)
    taken, found = [], None
    for _ in range(bench.repetitions):
        start = time.process_time()
        found = outlined(store)
        taken.append(time.process_time() - start)
    assert found is not None
    single = class_store(bench, side, side)
    same = alike(found, outlined(single))
    start = time.process_time()
    for chunk in store.plan:
        damage = store.read_chunk("damage", chunk)
        list(shapes(damage, mask=(damage > 0) & (damage < 255), connectivity=8))
    traced = time.process_time() - start
    layered = class_store(bench, side, _CHUNK, _LAYERS)
    start = time.process_time()
    outlined(layered)
    summed = time.process_time() - start
    for each in (store, single, layered):
        shutil.rmtree(each.path)
    detail = {
        "repetitions": [round(mpx / seconds, 1) for seconds in taken],
        "polygons": len(found),
        "polygons_per_mpx": round(len(found) / mpx),
    }
    target = Target(">=", 60)
    return [
        Figure("vectorise", mpx / median(taken), "Mpx per CPU second", target, detail),
        Figure("polygons other than of the whole", float(not same), "", Target("<=", 0)),
        Figure("rasterio's shapes per tile, unjoined", mpx / traced, "Mpx per CPU second"),
        Figure("with seven layers summed", mpx / summed, "Mpx per CPU second"),
    ]


def outlined(store: Store) -> Components:
    """All components of a store, in the order of their first pixel."""
    parts = list(join((pieces_in(store, chunk, LEVELS) for chunk in store.plan), store.plan))
    first = np.concatenate([part.first for part in parts])
    order = np.argsort(first)
    return Components(
        first[order],
        np.concatenate([part.counts for part in parts])[order],
        np.concatenate([part.geometry for part in parts])[order],
    )


def alike(one: Components, other: Components) -> bool:
    """Whether two lists of components are the same, outlines to the byte."""
    return (
        np.array_equal(one.first, other.first)
        and np.array_equal(one.counts, other.counts)
        and np.array_equal(shapely.to_wkb(one.geometry), shapely.to_wkb(other.geometry))
    )
