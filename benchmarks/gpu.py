"""A GPU: how fast the network alone is, how near a run comes to it, and what holds it back."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from aftermap.cluster.client import connected
from aftermap.cluster.futures import Failure, run_bounded
from aftermap.cluster.job import JobFile, run_chunk
from aftermap.cluster.placement import placed
from aftermap.kernels.kernel import Kernel
from aftermap.kernels.methods import load_method
from aftermap.kernels.network import NetworkKernel
from bench import METHOD, Bench
from distributed import Client
from figure import Figure
from null import NullKernel

CHUNK = 2048
MEMORY = 64 << 30
"""What the one worker may use, bytes."""


def measure(bench: Bench) -> list[Figure]:
    """Mpx per second on one GPU: the network, its kernel in threads, whole chunks, and no network."""
    if not torch.cuda.is_available():
        return [Figure("GPU: none that torch sees here", 0, "")]
    figures = []
    for precision in ("bf16", "fp32"):
        kernel = _kernel(bench, precision)
        figures.append(Figure(f"GPU: {precision} forward", _forward(kernel), "Mpx/s"))
        peak = torch.cuda.max_memory_reserved() / kernel.window.size**2
        figures.append(Figure("most memory of a window", peak, "bytes per px"))
    kernel = _kernel(bench, "bf16")
    figures.append(
        Figure("bf16 forward, compiled", _forward(_kernel(bench, "bf16", True)), "Mpx/s")
    )
    side = bench.large if bench.quick else 16384
    with connected("cuda", memory=MEMORY) as client:
        threads = sum(client.nthreads().values())
        null = _chunks(bench, client, NullKernel(kernel.window), side)
        whole = _chunks(bench, client, kernel, side)
        compiled = _chunks(bench, client, _kernel(bench, "bf16", True), side)
    with connected("local", workers=threads, memory=MEMORY // threads) as client:
        shared = _chunks(bench, client, kernel, side)
    limit = figures[0].value
    seen = kernel.window.size**2 / kernel.window.core**2
    return [
        *figures,
        Figure("GPU: chunks of a run, bf16", whole, "Mpx/s", detail={"threads": threads}),
        Figure("GPU: seconds of a run for each of the forward pass", limit / seen / whole, ""),
        Figure("chunks of a run, bf16, compiled", compiled, "Mpx/s"),
        Figure("the same worker without the model", null, "Mpx/s"),
        Figure("as many processes that share the GPU", shared, "Mpx/s"),
    ]


def _kernel(bench: Bench, precision: str, compiled: bool = False) -> NetworkKernel:
    return load_method(METHOD, bench.weights, device="cuda", precision=precision, compiled=compiled)


def _forward(kernel: NetworkKernel) -> float:
    """Mpx/s of the network alone, on windows that lie on the device already."""
    size, network = kernel.window.size, kernel._networks()[0]
    noise = np.random.default_rng(0).integers(0, 256, (2, 1, 3, size, size), np.uint8)
    seen = torch.ones((1, 1, size, size), dtype=torch.bool, device="cuda")
    with torch.inference_mode():
        before, after = (
            kernel._normalised(torch.from_numpy(image).cuda(), seen) for image in noise
        )
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return size**2 / 1e6 / _seconds(lambda: network(before, after))


def _seconds(work: Callable[[], object]) -> float:
    """The median of thirty timings by the device's own clock, after five that are not counted."""
    times = []
    for repetition in range(35):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        if repetition >= 5:
            times.append(start.elapsed_time(end) / 1e3)
    return median(times)


def _chunks(bench: Bench, client: Client, kernel: Kernel, side: int) -> float:
    """Mpx/s of all chunks of a run, with weights loaded: from files to the store, the second of two."""
    pair = bench.pairs.pair(side)
    plan = bench.plan(kernel, pair, CHUNK)
    wall = 0.0
    for _ in range(2):
        with bench.job(kernel, pair, plan) as job:
            file = JobFile.write(job, bench.fresh("job"))
            with placed(client, job, file):
                start = time.perf_counter()
                todo = [chunk.index for chunk in plan]
                results = list(run_bounded(client, run_chunk, todo, file))
                wall = time.perf_counter() - start
        failed = [result.error for result in results if isinstance(result, Failure)]
        if failed:
            raise failed[0]
    return side**2 / 1e6 / wall
