"""The GPUs of this machine as Dask workers: one process each, with threads that read and write."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import dask
import torch

from ..scenes.errors import Refused
from .machine import CONFIG, cores, worker_memory

THREADS = 16
"""Threads of a GPU's worker, at the most: one has its turn on the device, the others read and write."""

_POOL = 0.5
"""Share of a GPU's memory that RMM takes at the start; the pool grows up to all of it."""


def usable_gpus() -> list[str]:
    """The GPUs that workers can be started on, as CUDA_VISIBLE_DEVICES names them; empty without any.

    Empty, too, where dask-cuda is not installed: `aftermap doctor` tells which it is.
    """
    if not torch.cuda.is_available() or importlib.util.find_spec("dask_cuda") is None:
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named:
        return [name.strip() for name in named.split(",")]
    return [str(index) for index in range(torch.cuda.device_count())]


def gpu_threads(workers: int | None = None) -> int:
    """Threads of each GPU's worker: an even share of the cores, up to THREADS."""
    return max(1, min(THREADS, cores() // max(1, workers or len(usable_gpus()))))


def _pool_size() -> float | None:
    """What RMM's pool starts with, where RMM is installed; torch has a pool of its own otherwise."""
    return _POOL if importlib.util.find_spec("rmm") else None


def start_gpus(workers: int | None, memory: str | int | None) -> Any:
    """Start one worker process per visible GPU, on loopback; returns a LocalCUDACluster.

    `workers` takes the first so many of them; `memory` is the host memory of each. Raises Refused,
    in words, where dask-cuda is missing or no GPU can be used.
    """
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError as error:
        raise Refused(
            f'--cluster cuda needs dask-cuda ({error}). Install it with pip install "aftermap[gpu]", '
            "or use --cluster local."
        ) from error
    gpus = usable_gpus()
    if workers is not None and workers > len(gpus) > 0:
        raise Refused(
            f"--workers {workers} was asked for, and {len(gpus)} GPUs can be used here: a GPU has one "
            f"worker. Give --workers {len(gpus)} or fewer, or leave it out."
        )
    chosen = gpus[:workers]
    try:
        with dask.config.set(CONFIG):
            return LocalCUDACluster(
                CUDA_VISIBLE_DEVICES=",".join(chosen) or None,
                threads_per_worker=gpu_threads(len(chosen)),
                memory_limit=worker_memory(memory, max(1, len(chosen))),
                rmm_pool_size=_pool_size(),
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                worker_dashboard_address="127.0.0.1:0",
                silence_logs=50,
            )
    except Exception as error:  # NVML raises its own hierarchy when there is no driver
        raise Refused(
            f"--cluster cuda was asked for, but no GPU can be used here ({type(error).__name__}: "
            f"{error}). Use --cluster local."
        ) from error
