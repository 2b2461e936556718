"""What the benchmarks share: a folder, scenes, weights, clusters, and runs of chunks on them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from aftermap.cluster.budget import make_budget
from aftermap.cluster.client import connected
from aftermap.cluster.futures import Failure, run_bounded
from aftermap.cluster.job import Job, JobFile
from aftermap.kernels.kernel import Kernel
from aftermap.kernels.methods import load_method
from aftermap.scenes.pair import Pair
from aftermap.scenes.plan import Plan
from aftermap.scenes.raster import close_handles
from aftermap.scenes.store import Store
from distributed import Client
from pairs import Pairs
from timed import Timing, timed_chunk, timed_job
from weights import METHOD, weights

MEMORY = "4GiB"
"""What a worker may use."""


@dataclass(frozen=True)
class ChunkRun:
    """All chunks of one plan, worked on by one cluster."""

    wall: float
    """From the first task asked for to the last result, s."""
    workers: int
    timings: tuple[Timing, ...]
    mpx: float

    def phase(self, name: str) -> float:
        """Seconds of a phase summed over all chunks."""
        return sum(timing.phases.get(name, 0.0) for timing in self.timings)

    @property
    def overhead(self) -> float:
        """Wall time of all workers for each second of the kernel."""
        return self.wall * self.workers / self.phase("kernel")

    def shares(self) -> dict[str, float]:
        """Milliseconds of worker time per Mpx: by phase, the rest of the task, and waiting."""
        parts = {name: self.phase(name) for name in ("read", "network", "kernel", "write")}
        inside = sum(timing.wall for timing in self.timings)
        parts["rest_of_task"] = inside - parts["read"] - parts["kernel"] - parts["write"]
        parts["between_tasks"] = self.wall * self.workers - inside
        parts["cpu_in_tasks"] = sum(timing.cpu for timing in self.timings)
        return {name: round(1e3 * seconds / self.mpx, 2) for name, seconds in parts.items()}


@dataclass(frozen=True)
class Bench:
    """One call of the benchmarks."""

    folder: Path
    quick: bool = False
    repetitions: int = 3
    kept: dict[str, Any] = field(default_factory=dict)
    """Measurements that serve more than one figure."""
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def small(self) -> int:
        """Side of a small scene, px."""
        return 1024 if self.quick else 2048

    @property
    def middle(self) -> int:
        """Side of a scene for a network to work on, px."""
        return 2048 if self.quick else 4096

    @property
    def large(self) -> int:
        """Side of a large scene, px."""
        return 2048 if self.quick else 8192

    @cached_property
    def pairs(self) -> Pairs:
        """The scenes."""
        return Pairs(self.folder)

    @cached_property
    def weights(self) -> Path:
        """The network's weights."""
        return weights(self.folder)

    def network(self, precision: str = "bf16") -> Kernel:
        """The default method on the CPU."""
        return load_method(METHOD, self.weights, device="cpu", precision=precision)

    @contextmanager
    def client(self, workers: int) -> Iterator[Client]:
        """A cluster as `aftermap assess` starts one: single-threaded processes."""
        with connected("local", workers, MEMORY) as client:
            yield client

    def fresh(self, name: str) -> Path:
        """A path in the folder that does not exist yet."""
        return self.folder / f"{name}-{next(self.numbers)}"

    def plan(self, kernel: Kernel, pair: Pair, chunk: int | None = None, workers: int = 1) -> Plan:
        """The plan that a run would choose, or one with chunks of `chunk` px."""
        height, width = pair.grid.shape
        region, memory = (0, 0, height, width), 4 << 30
        return make_budget(
            kernel, (height, width), region, workers, memory, chunk, self.folder, probe=False
        ).plan

    @contextmanager
    def job(self, kernel: Kernel, pair: Pair, plan: Plan) -> Iterator[Job]:
        """A job with an empty store, which is removed at the end."""
        path = self.fresh("store")
        job = Job(kernel, pair, plan, Store(path, plan, kernel.layers))
        job.store.create(pair.grid, {})
        try:
            yield job
        finally:
            shutil.rmtree(path)

    def run_chunks(self, client: Client, kernel: Kernel, pair: Pair, plan: Plan) -> ChunkRun:
        """Work on every chunk as `assess` does, with weights loaded and nothing of the files cached."""
        with self.job(kernel, pair, plan) as job:
            file = JobFile.write(timed_job(job), self.fresh("job"))
            on_each_worker(client, timed_chunk, file, (0, 0))
            job.store.discard(plan.at(0, 0))  # or it would be kept
            on_each_worker(client, close_handles)
            todo = [chunk.index for chunk in plan]
            start = time.perf_counter()
            timings = list(run_bounded(client, timed_chunk, todo, file))
            wall = time.perf_counter() - start
        failed = [result.error for result in timings if isinstance(result, Failure)]
        if failed:
            raise failed[0]
        height, width = plan.region_shape
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        return ChunkRun(wall, workers, tuple(timings), height * width / 1e6)


def on_each_worker(client: Client, function: Callable[..., Any], *arguments: object) -> list[Any]:
    """Call a function once on every worker, in the thread in which its tasks run."""
    return [
        client.submit(function, *arguments, workers=[address], pure=False).result()
        for address in client.scheduler_info(n_workers=-1)["workers"]
    ]
