"""What this machine has for workers, and how Dask is set up for them."""

from __future__ import annotations

import os

import dask
import psutil

from ..scenes.errors import UsageError

WORKER_ENVIRONMENT = {
    # Dask's own default trims the heap after every free: a third of a CPU forward pass.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
    "OMP_NUM_THREADS": "1",
    "GDAL_NUM_THREADS": "1",
}
"""Set before a worker starts; the allocator and OpenMP read it only then."""

CONFIG = {
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
    # A chunk is retried on other workers before it is set aside; see `futures`.
    "distributed.scheduler.allowed-failures": 2,
    "distributed.worker.memory.terminate": 0.98,
    # Dask's profiler asks for the frames of all threads a hundred times a second. CPython 3.11 may collect
    # garbage in the middle of that, wait for a lock of another thread, and never come back.
    "distributed.worker.profile.enabled": False,
    # Dask's histories grow to a hundred thousand entries before they forget any.
    "distributed.admin.log-length": 500,
    "distributed.admin.low-level-log-length": 500,
}
"""Dask settings of every cluster that is started here."""


def cores() -> int:
    """Cores this process may use."""
    return len(core_ids())


def core_ids() -> tuple[int, ...]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def worker_memory(memory: str | int | None, workers: int) -> int:
    """Bytes one worker may use: as asked, or an even share of what is free, less a tenth."""
    if memory is not None:
        try:
            return int(dask.utils.parse_bytes(memory))
        except ValueError:
            raise UsageError(
                f"--memory {memory!r} is no amount of memory; give for example 4GiB."
            ) from None
    return int(psutil.virtual_memory().available * 0.9 / workers)
