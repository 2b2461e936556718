"""How many tasks a run makes for its size."""

from __future__ import annotations

from typing import Any

import dask
from aftermap.cluster.futures import run_bounded
from aftermap.cluster.job import JobFile, run_chunk
from aftermap.kernels.apply import apply
from aftermap.scenes.plan import Window
from bench import Bench
from distributed import Client
from distributed.diagnostics.plugin import SchedulerPlugin
from figure import Figure, Target
from null import NullKernel

import aftermap as am

_LIMITS = {1024: 1.0, 2048: 0.25}
_WINDOW = Window(1024, 32)


class Finished(SchedulerPlugin):
    """Counts the tasks that a scheduler has seen through."""

    name = "finished-tasks"

    def __init__(self) -> None:
        self.tasks = 0

    def transition(self, key: Any, start: Any, finish: Any, *args: Any, **kwargs: Any) -> None:
        """Count a task that a worker has finished."""
        self.tasks += start == "processing" and finish == "memory"


def measure(bench: Bench) -> list[Figure]:
    """Tasks per Mpx of file-backed chunks and of a whole run, and of the lazy graph per block."""
    figures = []
    kernel, pair = NullKernel(_WINDOW), bench.pairs.pair(bench.middle)
    mpx = bench.middle**2 / 1e6
    with bench.client(1) as client:
        for chunk, limit in _LIMITS.items():
            plan = bench.plan(kernel, pair, chunk)
            with bench.job(kernel, pair, plan) as job, counted(client) as seen:
                file = JobFile.write(job, bench.fresh("job"))
                list(run_bounded(client, run_chunk, [chunk.index for chunk in plan], file))
            name, target = f"tasks, chunks of {chunk} px", Target("<=", limit)
            figures.append(Figure(name, seen.tasks / mpx, "per Mpx", target))
        with counted(client) as seen:
            before, after = bench.pairs.files(bench.middle)
            am.assess(
                before, after, bench.fresh("run"), method="difference", chunk=2048, client=client
            )
        figures.append(Figure("whole run, chunks of 2048 px", seen.tasks / mpx, "per Mpx"))
    lazy = am.open_pair(*bench.pairs.files(bench.large), chunks=1024)
    layers = apply(kernel, lazy, 1024)
    blocks = layers["damage"].data.npartitions
    (optimised,) = dask.optimize(layers["damage"].data)
    for label, array in (("lazy graph", layers["damage"].data), ("optimised", optimised)):
        tasks = len(dict(array.__dask_graph__()))
        figures.append(Figure(f"{label}, chunks of 1024 px", tasks / blocks, "tasks per block"))
    return figures


class counted:
    """Counts the tasks of a cluster in this process during a block."""

    def __init__(self, client: Client) -> None:
        self.scheduler = client.cluster.scheduler

    def __enter__(self) -> Finished:
        self.seen = Finished()
        self.scheduler.add_plugin(self.seen)
        return self.seen

    def __exit__(self, *error: object) -> None:
        self.scheduler.remove_plugin(self.seen.name)
