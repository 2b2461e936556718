"""What a run costs without its model: reading, cutting, masking, writing, and the cluster."""

from __future__ import annotations

import time
from statistics import median

import rasterio
from aftermap.scenes.pair import Pair
from aftermap.scenes.plan import Window
from aftermap.scenes.raster import close_handles
from bench import Bench, ChunkRun, on_each_worker
from distributed import Client
from figure import Figure, Target
from null import NullKernel

WINDOW = Window(1024, 32)
"""That of the bundled weights."""
_LEAST = 3


def measure(bench: Bench) -> list[Figure]:
    """Milliseconds per Mpx with one worker, beside those of decoding every tile once."""
    with bench.client(1) as client:
        plain, floors = _measured(bench, client, bench.pairs.pair(bench.large))
        masked, _ = _measured(bench, client, bench.pairs.pair(bench.large, "nodata"))
    each = [1e3 * run.wall / run.mpx for run in plain]
    middle = sorted(plain, key=lambda run: run.wall)[len(plain) // 2]
    detail = {
        "repetitions": [round(value, 2) for value in each],
        "ms_per_mpx": middle.shares(),
        "chunks": len(middle.timings),
        "side_px": bench.large,
    }
    floor = median(floors)
    return [
        Figure("without the model", median(each), "ms/Mpx", Target("<=", 25), detail),
        Figure("decoding every tile once", floor, "ms/Mpx"),
        Figure("the rest", median(each) - floor, "ms/Mpx"),
        Figure("with nodata declared", median(1e3 * r.wall / r.mpx for r in masked), "ms/Mpx"),
    ]


def _measured(bench: Bench, client: Client, pair: Pair) -> tuple[list[ChunkRun], list[float]]:
    kernel = NullKernel(WINDOW)
    plan = bench.plan(kernel, pair)
    runs, floors = [], []
    for _ in range(max(bench.repetitions, _LEAST)):
        floors += on_each_worker(client, decode, pair)
        runs.append(bench.run_chunks(client, kernel, pair, plan))
    return runs, floors


def decode(pair: Pair) -> float:
    """Milliseconds per Mpx of reading both images once, tile row by tile row."""
    close_handles()
    start = time.perf_counter()
    for scene in pair.images:
        raster = scene.rasters[0]
        with rasterio.open(raster.path) as source:
            tile = source.block_shapes[0][0]
            for row in range(0, raster.height, tile):
                rows = row, min(row + tile, raster.height)
                source.read(window=(rows, (0, raster.width)))
    height, width = pair.grid.shape
    return 1e3 * (time.perf_counter() - start) / (height * width / 1e6)
