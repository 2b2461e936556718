"""A run's graph without pixels: what a chunk costs the scheduler and the client, and 1,000 workers.

`python benchmarks/scale.py [CHUNKS ...] [--workers N ...]` measures with the real tasks, the real
job file and the real bounded futures on a scheduler in a process of its own. Images, network and
store are left out: reading gives one pixel, and writing does nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from aftermap.cluster.futures import Failure, run_bounded
from aftermap.cluster.job import Job, JobFile, run_chunk
from aftermap.cluster.machine import CONFIG
from aftermap.scenes.layer import Layer
from aftermap.scenes.pair import Pixels
from aftermap.scenes.plan import Chunk, Plan, Window
from distributed import Client
from figure import Figure, table
from null import NullKernel

CHUNKS = (10_000, 100_000)
TASK_SECONDS = 5.0
"""What a chunk of 2,048 px takes one core with the bundled network, for the projection."""


@dataclass(frozen=True)
class NoPixels:
    """A pair that is one valid pixel wherever it is asked."""

    def read(self, row0: int, col0: int, row1: int, col1: int) -> Pixels:
        """One pixel of each image."""
        shape = row1 - row0, col1 - col0
        image = np.zeros((3, *shape), np.uint8)
        return Pixels(image, image, np.ones(shape, bool))

    def wanted(self, row0: int, col0: int, row1: int, col1: int) -> np.ndarray:
        """All of it."""
        return np.ones((row1 - row0, col1 - col0), bool)


@dataclass(frozen=True)
class NoStore:
    """A store that keeps nothing."""

    path: Path
    layers: tuple[Layer, ...]

    def write(self, chunk: Chunk, values: Mapping[str, np.ndarray]) -> None:
        """Nothing."""

    def sound(self, chunk: Chunk) -> bool:
        """Every chunk is still to be worked on."""
        return False

    def whole(self) -> bool:
        """It is never removed."""
        return True


@dataclass(frozen=True)
class Cost:
    """What a number of chunks took."""

    chunks: int
    workers: int
    wall: float
    scheduler_seconds: float
    scheduler_bytes: int
    """By how much the scheduler's process grew from the first thousand chunks to the last."""
    client_seconds: float
    client_bytes: int
    """By how much this process grew likewise."""
    first_seconds: float
    """From the call to the first result."""


def cost(chunks: int, workers: int) -> Cost:
    """Run so many chunks on so many single-threaded workers, and watch scheduler and client."""
    side = math.ceil(math.sqrt(chunks))
    kernel = NullKernel(Window(1, 0))
    plan = Plan.of((side, side), kernel.window, 1)
    with (
        tempfile.TemporaryDirectory(prefix="aftermap-scale-") as folder,
        _cluster(workers) as (
            client,
            scheduler,
        ),
    ):
        store = NoStore(Path(folder), kernel.layers)
        job = Job(kernel, NoPixels(), plan, store)  # type: ignore[arg-type]
        file = JobFile.write(job, Path(folder) / "job")
        todo = (chunk.index for chunk in plan)
        warm = [next(todo) for _ in range(1000)]
        _work(client, file, iter(warm))
        me = psutil.Process()
        before = _seen(scheduler), _seen(me)
        start = time.perf_counter()
        first, done = _work(client, file, todo)
        wall = time.perf_counter() - start
        after = _seen(scheduler), _seen(me)
    return Cost(
        chunks=done,
        workers=workers,
        wall=wall,
        scheduler_seconds=after[0][0] - before[0][0],
        scheduler_bytes=after[0][1] - before[0][1],
        client_seconds=after[1][0] - before[1][0],
        client_bytes=after[1][1] - before[1][1],
        first_seconds=first,
    )


def _work(client: Client, file: JobFile, todo: Iterator[tuple[int, int]]) -> tuple[float, int]:
    """Run the chunks as `assess` does; seconds to the first result, and how many there were."""
    start, first, done = time.perf_counter(), 0.0, 0
    for result in run_bounded(client, run_chunk, todo, file):
        if isinstance(result, Failure):
            raise result.error
        first = first or time.perf_counter() - start
        done += 1
    return first, done


def _seen(process: psutil.Process) -> tuple[float, int]:
    """Processor seconds and resident bytes of a process."""
    return sum(process.cpu_times()[:2]), process.memory_info().rss


@contextlib.contextmanager
def _cluster(workers: int) -> Iterator[tuple[Client, psutil.Process]]:
    """A scheduler in a process of its own, workers in another, on loopback."""
    with tempfile.TemporaryDirectory(prefix="aftermap-scale-") as folder:
        file = Path(folder) / "scheduler.json"
        common = ["--scheduler-file", str(file)]
        scheduler = _started(*common, "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
        many = subprocess.Popen(
            [sys.executable, __file__, "--join", str(file), "--workers", str(workers)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not file.exists():
                time.sleep(0.1)
            with Client(scheduler_file=str(file), timeout="30s") as client:
                client.wait_for_workers(workers, timeout=120)
                yield client, psutil.Process(scheduler.pid)
        finally:
            for process in (many, scheduler):
                process.terminate()
                process.wait(20)


def _started(*arguments: str) -> subprocess.Popen[bytes]:
    """A Dask scheduler with the settings that aftermap gives it."""
    settings = {name: value for name, value in CONFIG.items() if not isinstance(value, dict)}
    named = {
        f"DASK_{k.upper().replace('.', '__').replace('-', '_')}": str(v)
        for k, v in settings.items()
    }
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", *arguments],
        env=os.environ | named,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


async def _join(file: str, workers: int) -> None:
    """Many single-threaded workers in this process, until the scheduler goes."""
    import asyncio

    from distributed import Worker

    async with contextlib.AsyncExitStack() as stack:
        joined = [
            await stack.enter_async_context(
                Worker(scheduler_file=file, nthreads=1, dashboard_address="127.0.0.1:0")
            )
            for _ in range(workers)
        ]
        await asyncio.gather(*(worker.finished() for worker in joined))


def figures(costs: list[Cost]) -> list[Figure]:
    """Costs per chunk, and how many workers one scheduler and one client can keep busy."""
    found = []
    for one in costs:
        name = f"{one.chunks + 1000:,} chunks, {one.workers} workers"
        scheduler, client = (
            seconds / one.chunks for seconds in (one.scheduler_seconds, one.client_seconds)
        )
        busiest = max(scheduler, client)
        found += [
            Figure(f"{name}: scheduler per chunk", 1e3 * scheduler, "ms"),
            Figure("client per chunk", 1e3 * client, "ms"),
            Figure("to the first result", 1e3 * one.first_seconds, "ms"),
            Figure("chunks per second", one.chunks / one.wall, ""),
            Figure("scheduler's growth per chunk", one.scheduler_bytes / one.chunks, "bytes"),
            Figure("client's growth per chunk", one.client_bytes / one.chunks, "bytes"),
            Figure(
                f"workers kept busy with chunks of {TASK_SECONDS:g} s", TASK_SECONDS / busiest, ""
            ),
        ]
    return found


def main() -> None:
    """Measure every number of chunks with every number of workers, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chunks", nargs="*", type=int, default=CHUNKS)
    parser.add_argument("--workers", nargs="*", type=int, default=[2])
    parser.add_argument("--join", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    logging.getLogger("distributed").setLevel(logging.ERROR)
    if chosen.join:
        import asyncio

        asyncio.run(_join(chosen.join, chosen.workers[0]))
        return
    print(table(figures([cost(n, w) for n in chosen.chunks for w in chosen.workers])))


if __name__ == "__main__":
    main()
