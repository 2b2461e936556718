"""The real chunk task with a stopwatch around reading, the kernel, its network, and writing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from aftermap.cluster.job import Job, JobFile, run_chunk
from aftermap.kernels.network import NetworkKernel

CLOCK: Counter[str] = Counter()
"""Seconds of this process by phase; workers have one thread each."""


@dataclass(frozen=True)
class Timing:
    """What one chunk took, s."""

    wall: float
    cpu: float
    phases: Mapping[str, float]
    """`read`, `kernel` (of which `network`), `write`."""


class Timed:
    """A part of a job that adds the time of one of its methods to the clock; else it is that part."""

    def __init__(self, part: Any, phase: str, method: str) -> None:
        self.__dict__.update(part=part, phase=phase, method_name=method)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.part, name)
        return clocked(found, self.phase) if name == self.method_name else found

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.part, self.phase, self.method_name)


class TimedKernel(Timed):
    """A kernel whose calls are timed, and within them the network alone."""

    def __init__(self, kernel: Any) -> None:
        super().__init__(kernel, "kernel", "")

    def __call__(self, *arrays: np.ndarray) -> Mapping[str, np.ndarray]:
        if isinstance(self.part, NetworkKernel):
            _watch_network(self.part)
        return clocked(self.part, self.phase)(*arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.part,)


def timed_job(job: Job) -> Job:
    """The same job with stopwatches."""
    return Job(
        TimedKernel(job.kernel),  # type: ignore[arg-type]
        Timed(job.pair, "read", "read"),  # type: ignore[arg-type]
        job.plan,
        Timed(job.store, "write", "write"),  # type: ignore[arg-type]
    )


def timed_chunk(file: JobFile, index: tuple[int, int]) -> Timing:
    """Work on one chunk as a run does, and tell what it took."""
    before, wall, cpu = Counter(CLOCK), time.perf_counter(), time.process_time()
    run_chunk(file, index)
    phases = {name: CLOCK[name] - before[name] for name in CLOCK}
    return Timing(time.perf_counter() - wall, time.process_time() - cpu, phases)


def clocked(function: Callable[..., Any], phase: str) -> Callable[..., Any]:
    """A function that adds its time to the clock."""

    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            CLOCK[phase] += time.perf_counter() - start

    return timed


def _watch_network(kernel: NetworkKernel) -> None:
    """Time the forward passes of the network that this process has loaded for a kernel, once."""
    network = loaded(kernel)
    if network._forward_hooks:
        return
    started: list[float] = []
    network.register_forward_pre_hook(lambda *_: started.append(time.perf_counter()))

    def stop(*_: object) -> None:
        CLOCK["network"] += time.perf_counter() - started.pop()

    network.register_forward_hook(stop)


def loaded(kernel: NetworkKernel) -> torch.nn.Module:
    """The folded network in the kernel's precision, channels last."""
    return kernel._networks()[0]
