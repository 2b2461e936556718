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
from process import Peak, isolated, pss

_REPETITIONS = 3


def measure(bench: Bench) -> list[Figure]:
    """Mpx per CPU second and memory of the class layer, and of a layer of noisy probabilities."""
    side = bench.large
    mpx = side**2 / 1e6
    store = class_store(bench, side, 2048, 2)
    figures = []
    for layer, name in (("damage", "COG of classes"), ("p_1", "COG of probabilities")):
        taken, memory = isolated(write, store, side, layer, bench.fresh("cog"))
        classes = layer == "damage"
        detail = {"repetitions": [round(mpx / seconds, 1) for seconds in taken]}
        speed, room = (Target(">=", 130), Target("<=", 150)) if classes else (None, None)
        value = mpx / median(taken)
        figures += [
            Figure(f"{name}, with overviews", value, "Mpx per CPU second", speed, detail),
            Figure(f"{name}, memory", memory / 1e6, "MB", room),
        ]
    shutil.rmtree(store.path)
    return figures


def write(store: Store, side: int, layer: str, path: Path) -> tuple[list[float], int]:
    """CPU seconds of writing a layer, several times, and memory above that before; in bytes."""
    box, taken = grid(side), []
    store.read(layer, 0, 0, 1, 1)
    before = pss()
    with Peak(0.02) as seen:  # watching takes processor time, so the timed ones come after
        write_cog(store, layer, box, path)
    for _ in range(_REPETITIONS):
        start = time.process_time()
        write_cog(store, layer, box, path)
        taken.append(time.process_time() - start)
    path.unlink()
    return taken, seen.bytes - before
