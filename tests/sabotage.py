"""Faults in real workers: a plugin that slows, kills or bloats them where a file says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Worker, WorkerPlugin

TESTS = Path(__file__).parent


class Sabotage(WorkerPlugin):
    """Lets a chunk fail as files in a folder say: `kill-0-1`, `bloat-0-1`.

    `pace` slows all chunks down, `hold` keeps them until it is gone, `hold-writing` keeps whoever
    writes a raster.
    """

    name = "sabotage"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def setup(self, worker: Worker) -> None:
        """Put the fault before the chunk's own work."""
        from aftermap.cluster import finish, job

        if getattr(job.apply_chunk, "sabotaged", False):
            return
        original, folder = job.apply_chunk, self.folder

        def apply_chunk(kernel: Any, pair: Any, plan: Any, chunk: Any) -> Any:
            place = "-".join(map(str, chunk.index))
            (folder / f"began-{place}-{os.getpid()}").touch()
            if (folder / "pace").exists():
                time.sleep(float((folder / "pace").read_text()))
            while (folder / "hold").exists():
                time.sleep(0.05)
            if (folder / f"kill-{place}").exists():
                os.kill(os.getpid(), signal.SIGKILL)
            if (folder / f"bloat-{place}").exists():
                bloat()
            result = original(kernel, pair, plan, chunk)
            (folder / f"ended-{place}-{os.getpid()}").touch()
            return result

        write_original = finish.write_cog

        def write_cog(store: Any, name: str, *arguments: Any) -> None:
            (folder / f"writing-{name}-{os.getpid()}").touch()
            while (folder / "hold-writing").exists():
                time.sleep(0.05)
            write_original(store, name, *arguments)
            (folder / f"wrote-{name}-{os.getpid()}-{time.monotonic_ns()}").touch()

        finish.write_cog = write_cog
        apply_chunk.sabotaged = True  # type: ignore[attr-defined]
        job.apply_chunk = apply_chunk

    def began(self) -> list[tuple[str, int]]:
        """Chunks that were begun, with the process that began them, oldest first."""
        files = sorted(self.folder.glob("began-*"), key=lambda file: file.stat().st_mtime_ns)
        return [
            (file.name[6:].rpartition("-")[0], int(file.name.rpartition("-")[2])) for file in files
        ]


def bloat(most: int = 6 << 30) -> None:
    """Take memory until someone stops it, 64 MiB at a time."""
    taken = []
    for _ in range(most >> 26):
        taken.append(np.ones(1 << 26, np.uint8))
        time.sleep(0.02)
    raise RuntimeError(f"{len(taken)} x 64 MiB were taken and nobody minded")


@dataclass
class Site:
    """A cluster of processes of its own, as on a machine room's nodes."""

    file: Path
    scheduler: subprocess.Popen[bytes]
    workers: subprocess.Popen[bytes]
    sabotage: Sabotage


@contextmanager
def site(folder: Path, memory: str = "2GiB") -> Iterator[Site]:
    """A scheduler and two workers with their nannies, on loopback, joined by a scheduler file."""
    from distributed import Client

    folder.mkdir(parents=True, exist_ok=True)
    file, faults = folder / "scheduler.json", folder / "faults"
    faults.mkdir()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")])),
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
        "OMP_NUM_THREADS": "1",
    }

    def start(*words: str) -> subprocess.Popen[bytes]:
        with (folder / f"{words[0]}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *words, "--scheduler-file", str(file)],
                env=environment,
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    nodes = ("--host", "127.0.0.1", "--nworkers", "2", "--nthreads", "1", "--no-dashboard")
    places = ("--memory-limit", memory, "--local-directory", str(folder / "scratch"))
    workers = start("worker", *nodes, *places)
    try:
        sabotage = Sabotage(faults)
        with Client(scheduler_file=str(file), timeout="60s") as client:
            client.wait_for_workers(2, timeout=120)
            client.register_plugin(sabotage)
        yield Site(file, scheduler, workers, sabotage)
    finally:
        for process in (workers, scheduler):
            killed(process)


def killed(process: subprocess.Popen[Any]) -> None:
    """Kill a process and all that it started, and wait for it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
