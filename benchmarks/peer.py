"""The same kernel by plain `map_overlap`, as one would write it in a notebook, beside our run."""

from __future__ import annotations

import shutil
import time
from statistics import median
from typing import Any

import dask.array as da
import numpy as np
import rioxarray
from aftermap.kernels.kernel import Kernel
from aftermap.scenes.raster import close_handles
from bench import Bench, on_each_worker
from distributed import Client
from figure import Figure
from null import NullKernel
from timed import CLOCK, TimedKernel
from zarr.codecs import BloscCodec

_CHUNK = 1024


def measure(bench: Bench) -> list[Figure]:
    """Overhead and cost without the model of both, one worker, the same chunks and window."""
    figures = []
    pair, files = bench.pairs.pair(bench.middle), bench.pairs.files(bench.middle)
    mpx = bench.middle**2 / 1e6
    network = bench.network()
    with bench.client(1) as client:
        for label, kernel in (("null", NullKernel(network.window)), ("network", network)):
            plan = bench.plan(kernel, pair, _CHUNK)
            ours, theirs, ratios = [], [], []
            for _ in range(bench.repetitions if label == "null" else 1):
                run = bench.run_chunks(client, kernel, pair, plan)
                ours.append(run)
                wall, inside = plain(bench, client, kernel, files)
                theirs.append((wall, inside))
                ratios.append(wall / run.wall)
            if label == "null":
                figures += [
                    Figure(
                        "plain map_overlap without the model",
                        median(1e3 * wall / mpx for wall, _ in theirs),
                        "ms/Mpx",
                    ),
                    Figure(
                        "this package, same chunks",
                        median(1e3 * run.wall / mpx for run in ours),
                        "ms/Mpx",
                    ),
                ]
            else:
                figures += [
                    Figure("plain map_overlap, wall / kernel", theirs[0][0] / theirs[0][1], ""),
                    Figure("this package, wall / kernel", ours[0].overhead, ""),
                ]
            figures.append(Figure(f"map_overlap / this package, {label}", median(ratios), ""))
    return figures


def plain(
    bench: Bench, client: Client, kernel: Kernel, files: tuple[Any, Any]
) -> tuple[float, float]:
    """Wall seconds of reading, overlapping, running and storing `damage`, and those of the kernel."""
    on_each_worker(client, close_handles)
    before = on_each_worker(client, seconds)[0]
    path = bench.fresh("plain")
    halo = kernel.window.halo
    start = time.perf_counter()
    pre, post = (
        rioxarray.open_rasterio(file, chunks={"y": _CHUNK, "x": _CHUNK}, lock=False).data
        for file in files
    )
    both = da.concatenate([pre, post]).rechunk({0: -1})
    damage = da.map_overlap(
        window,
        both,
        depth={0: 0, 1: halo, 2: halo},
        boundary=0,
        trim=False,
        drop_axis=0,
        chunks=both.chunks[1:],
        dtype=np.uint8,
        meta=np.empty((0, 0), np.uint8),
        kernel=kernel,
    )
    damage.to_zarr(str(path), zarr_format=3, compressors=BloscCodec(cname="zstd", clevel=1))
    wall = time.perf_counter() - start
    shutil.rmtree(path)
    return wall, on_each_worker(client, seconds)[0] - before


def window(block: np.ndarray, kernel: Kernel) -> np.ndarray:
    """Run a kernel on one overlapped block of both images."""
    bands = kernel.bands
    valid = np.ones((1, *block.shape[1:]), bool)
    found = TimedKernel(kernel)(block[None, :bands], block[None, bands:], valid)
    return found["damage"][0]


def seconds() -> float:
    """Seconds that this process has spent in kernels."""
    return CLOCK["kernel"]
