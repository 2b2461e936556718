"""From a word or an address to a Dask client; nothing here knows what will run on it."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dask
import torch
from distributed import Client, LocalCluster, default_client

from ..kernels.gpu import free_bytes
from ..scenes.errors import Refused, UsageError
from .gpus import gpu_threads, start_gpus, usable_gpus
from .jobs.options import SCHEDULERS as QUEUES
from .jobs.queues import check_queue, start_queue
from .machine import CONFIG, cores, worker_memory
from .security import security_beside

HERE = ("auto", "local", "threads", "cuda")
"""Clusters that are started on this machine."""

KINDS = (*HERE, *QUEUES)
"""Clusters that are started; an address or a scheduler file joins one that runs."""


def connect(
    cluster: str | Client = "auto",
    workers: int | None = None,
    memory: str | int | None = None,
    **options: Any,
) -> Client:
    """Connect to a cluster, starting one where a kind is named.

    "auto": "cuda" where there are several GPUs, else "local". "local": one single-threaded process per
    core, on loopback. "threads": this process, one thread per core. "cuda": one process per GPU.
    "slurm", "pbs", "lsf": workers are batch jobs, joined by TLS; `options` (walltime, account,
    queue, ...) are those of `queues.start_queue`. "tcp://host:port", "tls://..." or the path of a
    scheduler file join a running cluster; a Client is returned as it is. `memory` is per worker
    ("4GiB"). Raises UsageError for an unknown kind, Refused for a cluster that cannot be reached.
    """
    if isinstance(cluster, Client):
        return cluster
    check_cluster(cluster, workers)
    kind = resolved(cluster)
    if options and kind not in QUEUES:
        raise UsageError(f"A {kind} cluster does not take the options {sorted(options)}.")
    if kind in HERE:
        with _interrupts_kept():
            cuda = kind == "cuda"
            return Client(start_gpus(workers, memory) if cuda else _start(kind, workers, memory))
    if kind in QUEUES:
        return Client(start_queue(kind, workers, memory, **options))
    if "://" in kind:
        return _join(kind, address=kind)
    return _join_file(kind)


def check_cluster(cluster: str | Client, workers: int | None) -> None:
    """Refuse, before anything is started or written, what `connect` could not do."""
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers} is no number of workers; give 1 or more.")
    if not isinstance(cluster, Client) and cluster in QUEUES:
        check_queue(cluster)
    if isinstance(cluster, Client) or cluster in KINDS or "://" in cluster:
        return
    if not cluster.endswith(".json"):
        raise UsageError(
            f"Unknown cluster {cluster!r}. Give one of {', '.join(KINDS)}, an address such as "
            "tcp://host:8786, or a scheduler file ending in .json, with --cluster."
        )
    if not Path(cluster).is_file():
        raise Refused(f"The scheduler file {cluster} does not exist. Check --cluster.")


def resolved(cluster: str) -> str:
    """The kind that "auto" stands for on this machine; any other name as it is.

    One GPU is shared by a process per core, which feeds it better than the threads of one process
    (docs/performance.md); several have a process each.
    """
    if cluster != "auto":
        return cluster
    return "cuda" if len(usable_gpus()) > 1 else "local"


_GRACE_S = 5
"""How long an interrupted command waits for threads, which may be in the middle of a training."""


@contextmanager
def connected(
    cluster: str | Client,
    workers: int | None = None,
    memory: str | int | None = None,
    **options: Any,
) -> Iterator[Client]:
    """A client for the length of a block; what was started here is stopped at the end."""
    client = connect(cluster, workers, memory, **options)
    threads = torch.get_num_threads()  # workers in this process set it to their share
    try:
        yield client
    except KeyboardInterrupt:
        if client is not cluster:
            _end_threads(client.cluster)
        raise
    finally:
        torch.set_num_threads(threads)
        if client is not cluster:
            started = client.cluster
            client.close()
            if started is not None:
                # On a busy machine workers may not be gone in time. The work is done, and they
                # end with this process.
                with suppress(TimeoutError):
                    started.close()
            _forget_scheduler()


def _end_threads(cluster: Any) -> None:
    """Let the workers of this process, which nobody can kill, end what takes them seconds, as chunks do."""
    if isinstance(cluster, LocalCluster) and not cluster.processes:
        for worker in list(cluster.workers.values()):
            cluster.sync(worker.close, timeout=_GRACE_S)


def _forget_scheduler() -> None:
    """Have Dask compute by itself again once no client is left.

    Dask leaves the scheduler of the last client as its default where clients are not closed in the
    opposite order of their opening, or lost their scheduler; every later computation would fail.
    """
    with suppress(ValueError):  # no client is left
        default_client()
        return
    if dask.config.get("scheduler", None) == "dask.distributed":
        dask.config.config.pop("scheduler")


def dashboard(client: Client) -> str:
    """Where to watch a cluster. Of one in this process Dask names an address that nobody listens on."""
    link = str(client.dashboard_link)
    parts = urlsplit(link)
    here = parts._replace(netloc=f"127.0.0.1:{parts.port}").geturl()
    if client.scheduler is not None and client.scheduler.address.startswith("inproc"):
        return here
    if client.cluster is None and parts.hostname not in ("127.0.0.1", "localhost", None):
        return f"{link} (if it does not answer: ssh -L {parts.port}:127.0.0.1:{parts.port} {parts.hostname}, and {here})"
    return link


def worker_count(cluster: str | Client, workers: int | None, device_bytes: int = 0) -> int:
    """How many workers a plan can count on before anything is started.

    Left open, it is one per core, or as many as fit on a GPU that they share and that each takes
    `device_bytes` of.
    """
    if isinstance(cluster, Client):
        return max(1, len(cluster.scheduler_info(n_workers=-1)["workers"]))
    if workers is not None:
        return workers
    if resolved(cluster) == "cuda":
        return max(1, len(usable_gpus()))
    if cluster == "auto" and device_bytes:
        return max(1, min(cores(), free_bytes() // device_bytes))
    return cores()


def worker_threads(cluster: str | Client) -> int:
    """How many chunks one worker works on at a time; the workers of "threads" are threads."""
    if isinstance(cluster, Client):
        return max(cluster.nthreads().values(), default=1)
    return gpu_threads() if resolved(cluster) == "cuda" else 1


def _start(kind: str, workers: int | None, memory: str | int | None) -> LocalCluster:
    count = workers or cores()
    with dask.config.set(CONFIG):
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


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Processes started in the block, and later in their stead, never see Ctrl-C.

    A terminal sends it to all of them, and a run stops once its workers have ended what they are at.
    What a thread blocks, the threads and processes that it starts block as well.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    resource_tracker.ensure_running()  # started later, it would undo the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _join_file(file: str) -> Client:
    """Join by a scheduler file."""
    try:
        known = isinstance(json.loads(Path(file).read_text())["address"], str)
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise Refused(
            f"{file} is no scheduler file, or not yet: it names no address. Check --cluster, or try "
            "again once the scheduler has started."
        )
    return _join(file, scheduler_file=file, security=security_beside(file))


def _join(name: str, **where: Any) -> Client:
    try:
        return Client(**where, timeout="10s")
    except TypeError as error:  # what Dask raises for a private scheduler without credentials
        raise Refused(
            f"The scheduler at {name} talks TLS only, and no credentials were given ({error}). Join by "
            "its scheduler file, with tls.crt and tls.key beside it, or say where they are in Dask's "
            "configuration (distributed.comm.tls)."
        ) from error
    except (OSError, TimeoutError, ValueError) as error:
        raise Refused(
            f"No Dask scheduler answers at {name} within 10 s ({error}). Check --cluster, and that "
            "the scheduler is running and reachable."
        ) from error
