"""Wall time of a run for each second of its kernel, with one worker and with two."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median

from bench import Bench, ChunkRun
from figure import Figure, Target

TARGETS = {1: 1.03, 2: 1.05}


def runs(bench: Bench) -> dict[int, list[ChunkRun]]:
    """Runs of the network with one worker and with two, by turns, so that drift hits both alike."""
    if "chunk runs" not in bench.kept:
        kernel, pair = bench.network(), bench.pairs.pair(bench.middle)
        plan = bench.plan(kernel, pair, 1024)
        found: dict[int, list[ChunkRun]] = {1: [], 2: []}
        with ExitStack() as stack:
            clients = {n: stack.enter_context(bench.client(n)) for n in found}
            for _ in range(bench.repetitions):
                for workers, client in clients.items():
                    found[workers].append(bench.run_chunks(client, kernel, pair, plan))
        bench.kept["chunk runs"] = found
    return bench.kept["chunk runs"]


def measure(bench: Bench) -> list[Figure]:
    """Overhead with one worker and with two, and where the time goes, ms of a worker per Mpx."""
    figures = []
    for workers, repeated in runs(bench).items():
        middle = sorted(repeated, key=lambda run: run.overhead)[len(repeated) // 2]
        detail = {
            "repetitions": [round(run.overhead, 4) for run in repeated],
            "ms_per_mpx": middle.shares(),
            "chunks": len(middle.timings),
        }
        name = f"overhead, {workers} worker{'s' if workers > 1 else ''}"
        value = median(run.overhead for run in repeated)
        figures.append(Figure(name, value, "", Target("<=", TARGETS[workers]), detail))
        shares = median(run.phase("kernel") / run.phase("network") for run in repeated)
        figures.append(Figure("kernel / its network alone", shares, ""))
    return [*figures, _fp32(bench)]


def _fp32(bench: Bench) -> Figure:
    """The same with the slower kernel that other tools' figures are quoted for; a small scene."""
    kernel, pair = bench.network("fp32"), bench.pairs.pair(bench.small)
    with bench.client(1) as client:
        run = bench.run_chunks(client, kernel, pair, bench.plan(kernel, pair, 1024))
    detail = {"ms_per_mpx": run.shares(), "side_px": bench.small}
    return Figure("overhead, 1 worker, fp32", run.overhead, "", detail=detail)
