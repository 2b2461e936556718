"""What more workers bring."""

from __future__ import annotations

import os
from statistics import median

from bench import Bench
from figure import Figure, Target
from overhead import runs


def measure(bench: Bench) -> list[Figure]:
    """Wall time with one worker over wall time with two, and how much slower a shared kernel is."""
    one, two = (runs(bench)[workers] for workers in (1, 2))
    ratios = [a.wall / b.wall for a, b in zip(one, two, strict=True)]
    slower = median(b.phase("kernel") / a.phase("kernel") for a, b in zip(one, two, strict=True))
    busy = [b.wall * 2 / sum(t.wall for t in b.timings) for b in two]
    detail = {"repetitions": [round(ratio, 3) for ratio in ratios]}
    return [
        Figure("1 to 2 workers, speed-up", median(ratios), "", Target(">=", 1.90), detail),
        Figure("kernel seconds, 2 workers / 1", slower, ""),
        Figure("worker seconds / seconds in tasks, 2 workers", median(busy), ""),
        *_more(bench),
    ]


def _more(bench: Bench) -> list[Figure]:
    """The same with four workers and more, where there are cores for them; a large scene, once."""
    counts = [n for n in (4, 8, 16, 32) if n <= len(os.sched_getaffinity(0))]
    if not counts:
        return []
    kernel, pair = bench.network(), bench.pairs.pair(bench.large)
    plan = bench.plan(kernel, pair, 1024)
    found = {}
    for workers in (1, *counts):
        with bench.client(workers) as client:
            found[workers] = bench.run_chunks(client, kernel, pair, plan)
    figures = []
    for workers in counts:
        run = found[workers]
        inside = sum(timing.wall for timing in run.timings)
        slower = run.phase("kernel") / found[1].phase("kernel")
        figures += [
            Figure(f"1 to {workers} workers, speed-up", found[1].wall / run.wall, ""),
            Figure(f"kernel seconds, {workers} workers / 1", slower, ""),
            Figure("worker seconds / seconds in tasks", run.wall * workers / inside, ""),
        ]
    return figures
