"""From a word or an address to a Dask client; nothing here knows what will run on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
import psutil
import torch
from distributed import Client, LocalCluster

from ..scenes.errors import Refused, UsageError

KINDS = ("local", "threads", "cuda")
"""Clusters that are started here; an address or a scheduler file joins one that runs."""

WORKER_ENVIRONMENT = {
    # Dask's own default trims the heap after every free: a third of a CPU forward pass.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
    "OMP_NUM_THREADS": "1",
    "GDAL_NUM_THREADS": "1",
}
"""Set before a worker starts; the allocator and OpenMP read it only then."""


def connect(
    cluster: str | Client = "local", workers: int | None = None, memory: str | int | None = None
) -> Client:
    """Connect to a cluster, starting one where a kind is named.

    "local": one single-threaded process per core, on loopback. "threads": this process, one thread
    per core. "cuda": one process per GPU. "tcp://host:port", "tls://..." or the path of a scheduler
    file join a running cluster; a Client is returned as it is. `memory` is per worker ("4GiB").
    Raises UsageError for an unknown kind, Refused for a cluster that cannot be reached.
    """
    if isinstance(cluster, Client):
        return cluster
    check_cluster(cluster, workers)
    if cluster in ("local", "threads"):
        return Client(_start(cluster, workers, memory))
    if cluster == "cuda":
        return Client(_start_cuda(workers))
    if "://" in cluster:
        return _join(cluster, address=cluster)
    return _join(cluster, scheduler_file=cluster)


def check_cluster(cluster: str | Client, workers: int | None) -> None:
    """Refuse, before anything is started or written, what `connect` could not do."""
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers} is no number of workers; give 1 or more.")
    if isinstance(cluster, Client) or cluster in KINDS or "://" in cluster:
        return
    if not cluster.endswith(".json"):
        raise UsageError(
            f"Unknown cluster {cluster!r}. Give one of {', '.join(KINDS)}, an address such as "
            "tcp://host:8786, or a scheduler file ending in .json, with --cluster."
        )
    if not Path(cluster).is_file():
        raise Refused(f"The scheduler file {cluster} does not exist. Check --cluster.")


@contextmanager
def connected(
    cluster: str | Client, workers: int | None = None, memory: str | int | None = None
) -> Iterator[Client]:
    """A client for the length of a block; what was started here is stopped at the end."""
    client = connect(cluster, workers, memory)
    threads = torch.get_num_threads()
    if cluster == "threads":
        torch.set_num_threads(
            1
        )  # the workers are the threads; more per forward pass get in the way
    try:
        yield client
    finally:
        torch.set_num_threads(threads)
        if client is not cluster:
            started = client.cluster
            client.close()
            if started is not None:
                started.close()


def worker_count(cluster: str | Client, workers: int | None) -> int:
    """How many workers a plan can count on before anything is started."""
    if isinstance(cluster, Client):
        return max(1, len(cluster.scheduler_info(n_workers=-1)["workers"]))
    return workers or cores()


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def _start(kind: str, workers: int | None, memory: str | int | None) -> LocalCluster:
    count = workers or cores()
    with dask.config.set(
        {
            "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
            # A chunk is retried on other workers before it is set aside; see `futures`.
            "distributed.scheduler.allowed-failures": 2,
            "distributed.worker.memory.terminate": 0.98,
            # Dask's histories grow to a hundred thousand entries before they forget any.
            "distributed.admin.log-length": 500,
            "distributed.admin.low-level-log-length": 500,
        }
    ):
        return LocalCluster(
            n_workers=1 if kind == "threads" else count,
            threads_per_worker=count if kind == "threads" else 1,
            processes=kind == "local",
            memory_limit=worker_memory(memory, count) if kind == "local" else 0,
            # Threads talk within the process, and have no address to bind.
            host="127.0.0.1" if kind == "local" else None,
            dashboard_address="127.0.0.1:0",
            # Without it, a worker in this process listens on every interface.
            worker_dashboard_address="127.0.0.1:0",
            silence_logs=50,
        )


def _start_cuda(workers: int | None) -> LocalCluster:
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError as error:
        raise Refused(
            f'--cluster cuda needs dask-cuda ({error}). Install it with pip install "aftermap[gpu]".'
        ) from error
    try:
        return LocalCUDACluster(
            n_workers=workers, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        )
    except Exception as error:  # NVML raises its own hierarchy when there is no driver
        raise Refused(
            f"--cluster cuda was asked for, but no GPU can be used here ({type(error).__name__}: "
            f"{error}). Use --cluster local."
        ) from error


def _join(name: str, **where: str) -> Client:
    try:
        return Client(**where, timeout="10s")
    except (OSError, TimeoutError, ValueError) as error:
        raise Refused(
            f"No Dask scheduler answers at {name} within 10 s ({error}). Check --cluster, and that "
            "the scheduler is running and reachable."
        ) from error
