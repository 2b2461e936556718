"""What the second worker brings."""

from __future__ import annotations

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
    ]
