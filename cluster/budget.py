"""What a run will cost, worked out before it starts: memory, chunks, disk and time."""

from __future__ import annotations

import math
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..kernels.gpu import free_bytes, gpu_count
from ..kernels.kernel import Kernel
from ..scenes.errors import Refused
from ..scenes.plan import Plan

LARGEST = 4096
"""Largest side of an automatic chunk, px; more gains nothing and loses more when a worker dies."""

_PER_WORKER = 4
"""Chunks per worker, at least, so that the last ones to finish are a small part of the run."""


class NoRoom(Refused):
    """The disk is too small for what a run may write."""


@dataclass(frozen=True)
class Budget:
    """The figures that `aftermap plan` and `--dry-run` show."""

    plan: Plan
    workers: int
    threads: int
    """Chunks that one worker works on at a time."""
    peak_bytes: int
    """Estimated peak memory of one worker."""
    limit_bytes: int
    """Memory that one worker may use."""
    disk_bytes: int
    """Upper estimate of the run folder's size."""
    seconds_per_window: float
    """Measured on one window, or 0 when not measured."""
    free_bytes: int
    device_bytes: int
    """Estimated peak memory of one GPU, or 0 without one."""
    device_free_bytes: int
    """Memory that is free on the GPU of this machine, or 0 without one."""

    @property
    def seconds(self) -> float:
        """Estimated time of the run without start-up."""
        return self.seconds_per_window * self.plan.window_count / self.workers

    def to_dict(self) -> dict[str, object]:
        """Plain values, for --json and run.json."""
        plan = self.plan
        return {
            "width": plan.region_shape[1],
            "height": plan.region_shape[0],
            "window_core_px": plan.window.core,
            "halo_px": plan.window.halo,
            "chunk_px": plan.chunk,
            "chunks": len(plan),
            "windows": plan.window_count,
            "pixels_seen_per_pixel": round(plan.overhead, 3),
            "workers": self.workers,
            "threads_per_worker": self.threads,
            "peak_bytes_per_worker": self.peak_bytes,
            "memory_limit_per_worker": self.limit_bytes,
            "peak_bytes_per_gpu": self.device_bytes,
            "disk_bytes": self.disk_bytes,
            "estimated_seconds": round(self.seconds, 2),
        }


def make_budget(
    kernel: Kernel,
    shape: tuple[int, int],
    region: tuple[int, int, int, int],
    workers: int,
    memory: int,
    chunk: int | None,
    out: Path,
    probe: bool = True,
    threads: int = 1,
) -> Budget:
    """Choose the chunk size for a kernel on a raster and reckon the cost of running it.

    `memory` is what one worker may use, bytes, and `threads` how many chunks it works on at a time. Raises Refused, with the figures, for a plan that
    does not fit into memory or onto the disk.
    """
    if chunk is not None and chunk < 1:
        raise Refused(f"--chunk {chunk} is no size in pixels; give at least 1.")
    side = chunk or _choose(kernel, shape, region, workers, memory, threads)
    # A shard is as large as the chunk, even where the raster ends before it.
    longest = max(Plan.of(shape, kernel.window, 1, region).region_shape)
    plan = Plan.of(shape, kernel.window, min(side, longest), region)
    peak = check_memory(kernel, plan, memory, threads)
    device_free = _check_device(kernel, workers)
    height, width = plan.region_shape
    disk = int(height * width * len(kernel.layers) * 1.2) + (8 << 20)
    free = room_bytes(out)
    if disk > free:
        raise NoRoom(
            f"The run folder needs up to {_gib(disk)}, and {out} has {_gib(free)} free. "
            "Give a folder on a larger disk with -o."
        )
    seconds = seconds_per_window(kernel) if probe else 0.0
    return Budget(
        plan,
        workers,
        threads,
        peak,
        memory,
        disk,
        seconds,
        free,
        kernel.device_bytes,
        device_free,
    )


def check_memory(kernel: Kernel, plan: Plan, memory: int, threads: int = 1) -> int:
    """The peak memory of one worker, refused with the figures where it exceeds `memory`; bytes."""
    peak = peak_bytes(kernel, plan, threads)
    if peak > memory:
        raise Refused(
            f"A worker would need {_gib(peak)} for chunks of {plan.chunk} px with {kernel.method}, "
            f"and may use {_gib(memory)}. "
            + (
                f"Give smaller chunks with --chunk {kernel.window.core}, "
                if plan.chunk > kernel.window.core
                else "Give "
            )
            + "more memory with --memory, or fewer workers with --workers."
        )
    return peak


def _check_device(kernel: Kernel, workers: int) -> int:
    """Memory that is free on this machine's GPUs, refused where its workers need more; bytes.

    0 for kernels that need none, and where the GPUs are on other machines.
    """
    if not kernel.device_bytes or not gpu_count():
        return 0
    free, sharing = free_bytes(), math.ceil(workers / gpu_count())
    if sharing * kernel.device_bytes > free:
        fit = free // kernel.device_bytes * gpu_count()
        raise Refused(
            f"{kernel.method} needs up to {_gib(kernel.device_bytes)} of GPU memory for each of "
            f"{sharing} workers, and {_gib(free)} are free. "
            + (f"Give --workers {fit}" if fit else "Stop what else uses the GPU")
            + ", or --device cpu."
        )
    return free


def peak_bytes(kernel: Kernel, plan: Plan, threads: int = 1) -> int:
    """Memory of one worker at its peak: libraries, and in each thread a batch, a block and its layers."""
    height, width = plan.region_shape
    core = plan.window.core
    rows = min(plan.chunk, -(-height // core) * core)
    cols = min(plan.chunk, -(-width // core) * core)
    block = (rows + 2 * plan.window.halo) * (cols + 2 * plan.window.halo)
    pixels = block * (len(kernel.inputs) * kernel.bands * 3 + 3)
    layers = rows * cols * len(kernel.layers) * 3
    if plan.window.blended:  # probabilities are summed as float32
        layers += block * len(kernel.layers) * 4
    cache = 64 << 20
    each = kernel.batch * kernel.window_bytes + pixels + layers
    return kernel.fixed_bytes + threads * each + cache


def seconds_per_window(kernel: Kernel) -> float:
    """Time of one window on this machine: the second of two runs on noise."""
    size = kernel.window.size
    noise = np.random.default_rng(0).integers(0, 256, (1, kernel.bands, size, size), np.uint8)
    valid = np.ones((1, size, size), bool)
    taken = 0.0
    for _ in range(2):
        start = time.perf_counter()
        kernel(noise if "pre" in kernel.inputs else noise[:, :0], noise, valid)
        taken = time.perf_counter() - start
    return taken


def _choose(
    kernel: Kernel,
    shape: tuple[int, int],
    region: tuple[int, int, int, int],
    workers: int,
    memory: int,
    threads: int,
) -> int:
    """The largest chunk that fits into memory and still gives every worker several."""
    core = kernel.window.core
    # The squares at its edge make a small chunk of blended windows dear.
    largest = 2 * LARGEST if kernel.window.blended else LARGEST
    chunk = max(core, largest // core * core)
    while chunk > core:
        plan = Plan.of(shape, kernel.window, chunk, region)
        enough = _PER_WORKER * workers * threads
        if peak_bytes(kernel, plan, threads) <= memory and len(plan) >= enough:
            break
        chunk -= core
    return chunk


def room_bytes(folder: Path) -> int:
    """Room for a folder: what is free on its disk, and what it takes there already; bytes."""
    return _free(folder) + _held(folder)


def _held(folder: Path) -> int:
    """Bytes that an earlier run in the folder takes, which this one will use again."""
    held = 0
    for place, _, names in os.walk(folder):  # passes over folders that are gone by now
        for name in names:
            with suppress(OSError):  # another run is at work: its files come and go
                held += os.lstat(os.path.join(place, name)).st_size
    return held


def _free(folder: Path) -> int:
    there = folder.absolute()
    try:
        while not there.exists():
            there = there.parent
        return shutil.disk_usage(there).free
    except OSError as error:
        raise Refused(
            f"{folder} cannot be a run folder ({error.strerror}). Give another one with -o."
        ) from error


def _gib(value: int) -> str:
    return f"{value / 2**30:.2f} GiB"
