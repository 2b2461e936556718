"""Writing a layer as a Cloud Optimized GeoTIFF with overviews: processor time and memory."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from statistics import median

from aftermap.scenes.cog import write_cog
from aftermap.scenes.store import Store
from bench import Bench
from buildings import class_store, grid
from figure import Figure, Target
from process import Peak, isolated

_REPETITIONS = 3
_STRIP = 512


def measure(bench: Bench) -> list[Figure]:
    """Mpx per CPU second and memory of the class layer, and of a layer of noisy probabilities."""
    side = bench.large
    mpx = side**2 / 1e6
    store = class_store(bench, side, 2048, 2)
    figures = []
    for layer, name in (("damage", "COG of classes"), ("p_1", "COG of probabilities")):
        taken, memory, read = isolated(write, store, side, layer, bench.fresh("cog"))
        classes = layer == "damage"
        detail = {"repetitions": [round(mpx / seconds, 1) for seconds in taken]}
        speed, room = (Target(">=", 130), Target("<=", 150)) if classes else (None, None)
        value = mpx / median(taken)
        figures += [
            Figure(f"{name}, with overviews", value, "Mpx per CPU second", speed, detail),
            Figure(f"{name}, memory", memory / 1e6, "MB", room),
            Figure("without reading the store", mpx / (median(taken) - read), "Mpx per CPU second"),
        ]
    shutil.rmtree(store.path)
    return figures


def write(store: Store, side: int, layer: str, path: Path) -> tuple[list[float], int, float]:
    """CPU seconds of writing a layer, several times; memory above that before, bytes; and CPU
    seconds of reading the layer from its store alone."""
    box, taken = grid(side), []
    store.read(layer, 0, 0, 1, 1)
    with Peak() as before:
        pass
    with Peak(0.02) as seen:  # watching takes processor time, so the timed ones come after
        write_cog(store, layer, box, path)
    for _ in range(_REPETITIONS):
        start = time.process_time()
        write_cog(store, layer, box, path)
        taken.append(time.process_time() - start)
    path.unlink()
    start = time.process_time()
    for row in range(0, side, _STRIP):
        store.read(layer, row, 0, min(row + _STRIP, side), side)
    read = time.process_time() - start
    return taken, seen.bytes - before.bytes, read
