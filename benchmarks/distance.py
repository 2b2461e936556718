"""How far a whole run is from the forward pass alone: processor time per Mpx of the scene."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import Any
from unittest import mock

import torch
from aftermap.cluster import assess as engine
from aftermap.kernels.network import NetworkKernel
from bench import Bench, on_each_worker
from distributed import Client
from figure import Figure, Target
from process import cpu_seconds
from timed import loaded
from weights import METHOD

_PASSES = 6


def measure(bench: Bench) -> list[Figure]:
    """CPU seconds per useful Mpx of whole runs over those of the bf16 network per Mpx it sees."""
    kernel = bench.network()
    assert isinstance(kernel, NetworkKernel)
    before, after = bench.pairs.files(bench.middle)
    mpx = bench.middle**2 / 1e6
    options = {"method": METHOD, "weights": bench.weights, "precision": "bf16", "device": "cpu"}
    whole, limits, parts = [], [], []
    with bench.client(1) as client:
        _assess(bench, client, *bench.pairs.files(bench.small), **options)
        for _ in range(bench.repetitions):
            limit = forward(client, kernel)
            spent = _assess(bench, client, before, after, **options)
            limits.append((limit + forward(client, kernel)) / 2)
            whole.append(sum(spent.values()) / mpx / limits[-1])
            parts.append({name: seconds / mpx for name, seconds in spent.items()})
    middle = parts[sorted(range(len(whole)), key=whole.__getitem__)[len(whole) // 2]]
    limit = median(limits)
    detail = {
        "repetitions": [round(ratio, 3) for ratio in whole],
        "cpu_ms_per_mpx": {name: round(1e3 * seconds, 1) for name, seconds in middle.items()},
    }
    halo = bench.plan(kernel, bench.pairs.pair(bench.middle), 1024).overhead
    shares = [Figure(f"of which {name}", seconds / limit, "") for name, seconds in middle.items()]
    return [
        Figure("distance to the limit, whole run", median(whole), "", Target("<=", 1.25), detail),
        *shares,
        Figure("of which the halo", halo - 1, ""),
        Figure("limit: bf16 forward", 1 / limit, "Mpx per CPU second"),
    ]


def forward(client: Client, kernel: NetworkKernel) -> float:
    """CPU seconds per Mpx of the network alone, in a worker's environment."""
    return on_each_worker(client, forward_here, kernel)[0]


def forward_here(kernel: NetworkKernel) -> float:
    """CPU seconds per Mpx of the folded channels-last network on ready tensors; the median pass."""
    network, side = loaded(kernel), kernel.window.size
    dtype = torch.bfloat16 if kernel.precision == "bf16" else torch.float32
    pre, post = (
        torch.randn(1, 3, side, side).to(dtype=dtype, memory_format=torch.channels_last)
        for _ in range(2)
    )
    taken = []
    with torch.inference_mode():
        network(pre, post)
        for _ in range(_PASSES):
            start = time.process_time()
            network(pre, post)
            taken.append(time.process_time() - start)
    return median(taken) / (side**2 / 1e6)


def _assess(
    bench: Bench, client: Client, before: object, after: object, **options: Any
) -> dict[str, float]:
    """CPU seconds of a run of a warm cluster, by its parts: checking, chunks, finishing."""
    marks: list[tuple[str, float]] = []
    out = bench.fresh("run")
    with ExitStack() as stack:
        for name in ("prepare", "_run_chunks", "write_outputs"):
            function = partial(_marked, getattr(engine, name), name, marks)
            stack.enter_context(mock.patch.object(engine, name, function))
        start = cpu_seconds()
        engine.assess(before, after, out, client=client, **options)  # type: ignore[arg-type]
        total = cpu_seconds() - start
    shutil.rmtree(out)
    spent = dict(marks)
    parts = {
        "checks": spent["prepare"],
        "chunks": spent["_run_chunks"],
        "finish": spent["write_outputs"],
    }
    return parts | {"rest": total - sum(parts.values())}


def _marked(
    function: Callable[..., Any],
    name: str,
    marks: list[tuple[str, float]],
    *given: Any,
    **options: Any,
) -> Any:
    """Call a part of the run and note its CPU seconds, those of the workers included."""
    start = cpu_seconds()
    try:
        return function(*given, **options)
    finally:
        marks.append((name, cpu_seconds() - start))
