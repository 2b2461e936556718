"""What every worker needs before it works: checked on the client, set up once per process."""

from __future__ import annotations

import hashlib
import math
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from threading import Event
from typing import Any

import dask
import torch
from dask.utils import parse_timedelta
from distributed import Client, LocalCluster, Worker, WorkerPlugin

from ..kernels.kernel import Kernel
from ..models.checkpoint import SentWeights, keep_sent, pack
from ..scenes.errors import Refused
from ..scenes.handles import stamp_of
from ..scenes.raster import Raster
from .futures import check_stop
from .job import Job, JobFile, load_job
from .machine import core_ids

WAIT = "5 minutes"
"""How long a first worker is waited for, unless Dask's `aftermap.wait-for-workers` says otherwise."""

_VERSIONS = ("aftermap", "torch", "numpy", "rasterio", "zarr")
"""What must be the same everywhere, for outputs to be the same everywhere."""


class NoWorker(Refused):
    """A cluster without workers."""


@dataclass(frozen=True)
class Place:
    """One worker process as it sees itself."""

    host: str
    cores: tuple[int, ...]
    """The cores it may run on; workers that share them have the same."""
    versions: tuple[str, ...]
    job: str
    """Digest of the job's file as this worker reads it; empty where it cannot."""
    weights: tuple[str, ...]
    """Digests of the weights that this worker can read."""
    images: tuple[str, ...]
    """The images that are not there, or not those that the client sees."""
    gpu: bool


class Placement(WorkerPlugin):
    """Loads the job and its weights once per process, and gives torch its share of the cores."""

    def __init__(self, file: JobFile, weights: list[SentWeights], threads: dict[str, int]) -> None:
        self.name = f"aftermap-{file.digest[:16]}"
        self._file, self._weights, self._threads = file, weights, threads

    def setup(self, worker: Worker) -> None:
        """Prepare one worker; runs on those that join later, too."""
        torch.set_num_threads(self._threads.get(worker.address, 1))
        for sent in self._weights:
            keep_sent(sent, Path(worker.local_directory))
        kernel = load_job(self._file).kernel
        if kernel.facts().get("device") == "cuda":
            _share_pool()
            # A GPU waits while the thread that feeds it waits for Python's lock.
            sys.setswitchinterval(0.0002)
        kernel.load()


@contextmanager
def placed(
    client: Client, job: Job, file: JobFile, quiet: bool = True, stop: Event | None = None
) -> Iterator[None]:
    """Have every worker of a cluster ready for a job for the length of a block.

    Where there is none yet, one is waited for, until `stop` is set, and NoWorker raised if none
    comes. Raises Refused, naming the worker, where one has other versions, cannot read the run
    folder or the images, or has no GPU for a job that was planned for one. Weights that a worker
    cannot read are sent to it.
    """
    _wait_for_a_worker(client, quiet, stop)
    places = client.run(look, file, on_error="return")
    for address, found in places.items():
        if isinstance(found, BaseException):
            raise Refused(f"The worker at {address} cannot run aftermap: {found}.") from found
        _check(address, found, job, file)
    weights = _weights_to_send(job.kernel, places)
    plugin = Placement(file, weights, _threads(client, places))
    client.register_plugin(plugin)
    try:
        yield
    finally:
        if client.status == "running":
            client.unregister_worker_plugin(plugin.name)


def _wait_for_a_worker(client: Client, quiet: bool, stop: Event | None) -> None:
    """Come back once a worker has done something: adaptive clusters start one only for a task.

    Of a cluster that was started in this process and is not this machine, workers are jobs, which
    may wait in a queue however long; any other is given up.
    """
    if client.nthreads():
        return
    address = client.scheduler.address
    patience = parse_timedelta(dask.config.get("aftermap.wait-for-workers", WAIT))
    if client.cluster is not None and not isinstance(client.cluster, LocalCluster):
        patience = math.inf
    if not quiet:
        limit = "" if patience == math.inf else f", for up to {patience:.0f} s"
        print(f"waiting    for a worker of {address}{limit}", file=sys.stderr, flush=True)
    answer, since = client.submit(core_ids, pure=False), time.monotonic()
    while time.monotonic() - since < patience:
        check_stop(stop)
        with suppress(TimeoutError):
            answer.result(timeout=1)
            return
    raise NoWorker(
        f"The cluster at {address} has no worker, and none came within {patience:.0f} s. "
        f"Start some (dask worker {address}) or look for them in their queue, and run the same "
        "command again; or give another --cluster. To wait longer, set "
        "DASK_AFTERMAP__WAIT_FOR_WORKERS, for example to 1h."
    )


def look(file: JobFile) -> Place:
    """What this worker process is, and what it can read of a job."""
    path = Path(file.path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    weights, images = tuple[str, ...](), tuple[str, ...]()
    if digest == file.digest:
        job = load_job(file)
        weights = tuple(
            hashlib.sha256(Path(name).read_bytes()).hexdigest()
            for name in _weights(job.kernel)
            if Path(name).is_file()
        )
        images = tuple(
            raster.path
            for scene in job.pair.images
            for raster in scene.rasters
            if not _there(raster)
        )
    return Place(
        host=socket.gethostname(),
        cores=core_ids(),
        versions=tuple(version(name) for name in _VERSIONS),
        job=digest,
        weights=weights,
        images=images,
        gpu=torch.cuda.is_available(),
    )


def _there(raster: Raster) -> bool:
    """Whether an image is here as the client found it; one that is read over a network tells later."""
    if "://" in raster.path:
        return True
    try:
        return stamp_of(Path(raster.path)) == raster.stamp
    except OSError:
        return False


def _check(address: str, place: Place, job: Job, file: JobFile) -> None:
    here = tuple(version(name) for name in _VERSIONS)
    where = f"The worker at {address} on {place.host}"
    if place.versions != here:
        listed = ", ".join(
            f"{name} {there} (here {mine})"
            for name, there, mine in zip(_VERSIONS, place.versions, here, strict=True)
            if there != mine
        )
        raise Refused(
            f"{where} has other versions: {listed}. Results could differ from worker to worker: "
            "start the workers from the environment that runs this command."
        )
    if place.job != file.digest:
        raise Refused(
            f"{where} does not see the run folder {Path(file.path).parent}. Give a folder with -o "
            "that all nodes share under the same path."
        )
    if place.images:
        raise Refused(
            f"{where} does not see the image {place.images[0]} as it is here. Put the images on a "
            "disk that all nodes share under the same path."
        )
    if job.kernel.facts().get("device") == "cuda" and not place.gpu:
        raise Refused(
            f"{where} sees no GPU, and the run was planned for GPUs. Start its worker on a node with "
            "one (`dask cuda worker`), or give --device cpu."
        )


def _weights_to_send(kernel: Kernel, places: dict[str, Place]) -> list[SentWeights]:
    """The weights that some worker cannot read itself."""
    digests = str(kernel.facts().get("weights_sha256") or "").split("+")
    return [
        pack(name)
        for name, digest in zip(_weights(kernel), digests, strict=False)
        if not all(digest in place.weights for place in places.values())
    ]


def _weights(kernel: Kernel) -> list[str]:
    """The files of a kernel's weights, in the order of their digests."""
    facts = kernel.facts()
    more: Any = facts.get("ensemble") or ()
    return [str(facts["weights"]), *more] if facts.get("weights") else []


def _threads(client: Client, places: dict[str, Place]) -> dict[str, int]:
    """Threads that torch may use in each worker: workers times threads are the cores they share."""
    running = client.nthreads()
    sharing: Counter[Any] = Counter()
    for address, place in places.items():
        sharing[place.host, place.cores] += running.get(address, 1)
    return {
        address: max(1, len(place.cores) // sharing[place.host, place.cores])
        for address, place in places.items()
    }


def _share_pool() -> None:
    """Let torch take its memory from RMM's pool, where dask-cuda has made one in this process."""
    try:
        import rmm
        from rmm.allocators.torch import rmm_torch_allocator
    except ImportError:
        return
    pooled = isinstance(rmm.mr.get_current_device_resource(), rmm.mr.PoolMemoryResource)
    if pooled and not torch.cuda.is_initialized():
        torch.cuda.memory.change_current_allocator(rmm_torch_allocator)
