"""Dask workers that are batch jobs, through dask-jobqueue: SLURM, PBS and LSF."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
from dask.utils import format_bytes

from ...scenes.errors import Refused, UsageError
from ..machine import CONFIG, worker_memory
from ..security import temporary_security
from .options import SUBMIT, check_text, walltime_seconds, walltime_text
from .surroundings import KEPT, worker_exports

_HIDDEN_WALLTIME = "00:30:00"
"""What dask-jobqueue asks for when nobody said anything."""

_WORD = re.compile(r"[A-Za-z0-9][\w.:,=+@-]{0,127}", re.ASCII)
_PATH = re.compile(r"/[\w./+@,=-]*")


class _LoopbackDashboard:
    """Tells the dashboard's true address; Dask puts the scheduler's public one into the link."""

    @property
    def dashboard_link(self) -> str:
        services = self.scheduler_info.get("services", {})  # type: ignore[attr-defined]
        return f"http://127.0.0.1:{services.get('dashboard', 0)}/status"


def start_queue(
    kind: str,
    workers: int | None,
    memory: str | int | None,
    *,
    walltime: str | None = None,
    account: str | None = None,
    queue: str | None = None,
    gres: str | None = None,
    per_job: int = 1,
    setup: tuple[str, ...] | list[str] = (),
    scratch: str | None = None,
    folder: str | Path | None = None,
    interface: str | None = None,
    directives: tuple[str, ...] | list[str] = (),
    wait: float = 600.0,
) -> Any:
    """Start a Dask scheduler here and its workers as batch jobs; returns the JobQueueCluster.

    `kind` is "slurm", "pbs" or "lsf". `workers` single-threaded processes with `memory` each
    (bytes or "4GiB") are started, `per_job` of them in a job. `walltime` (HH:MM:SS) is that of a
    job; a worker leaves shortly before its end, and a job that is lost or over is replaced.
    `account`, `queue` (the partition), `gres` (SLURM), `setup` (shell lines), `scratch` (where
    workers spill; default $TMPDIR of the node), `interface` (e.g. "ib0") and further `directives`
    go to the job script. `folder`, which all nodes must see, keeps logs and credentials; default
    ~/.aftermap/<kind>. What is None is taken from Dask's configuration (`jobqueue.<kind>`).
    Connections are private (TLS, credentials made for this cluster); the dashboard is on loopback.

    Waits up to `wait` seconds for the first worker. Raises Refused, before anything is started,
    where the job system or dask-jobqueue is missing or a value is, and where no worker comes.
    """
    made = _cluster_class(kind)
    count, job_bytes = _size(kind, workers, memory, walltime, per_job)
    seconds = walltime_seconds(walltime or _configured(kind, "walltime"))
    place = Path(folder or Path.home() / ".aftermap" / kind).expanduser().absolute()
    for name, value in (("account", account), ("queue", queue), ("gres", gres)):
        check_text(name, value, _WORD)
    check_text("folder", str(place), _PATH)
    check_text("scratch", scratch)
    for line in (*setup, *directives):
        check_text("setup and directives", line)
    if gres is not None and kind != "slurm":
        raise UsageError(f"gres is SLURM's; ask for devices on {kind} with directives=[...].")
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    chosen = {"project" if kind == "lsf" else "account": account, "queue": queue}
    with dask.config.set(CONFIG):
        cluster = made(
            cores=per_job,
            processes=per_job,
            memory=job_bytes,
            walltime=walltime_text(kind, seconds),
            security=temporary_security(),
            shared_temp_directory=str(place),
            log_directory=str(place),
            local_directory=shlex.quote(scratch) if scratch else '"${TMPDIR:-/tmp}"',
            interface=interface,
            python=shlex.quote(sys.executable),
            job_script_prologue=[*setup, "umask 077", *worker_exports()],
            job_extra_directives=[*_private(kind), *_devices(gres), *directives],
            worker_extra_args=["--dashboard-address", "127.0.0.1:0", *_lifetime(seconds)],
            scheduler_options={"dashboard_address": "127.0.0.1:0"},
            **{name: value for name, value in chosen.items() if value is not None},
        )
    try:
        _fill(cluster, kind, -(-count // per_job), wait, place)
    except BaseException:
        with suppress(AssertionError):  # raised for jobs that were never submitted
            cluster.close()
        raise
    return cluster


def check_queue(kind: str) -> None:
    """Refuse a job system that is not installed here."""
    if shutil.which(SUBMIT[kind]) is None:
        others = [name for name, command in SUBMIT.items() if shutil.which(command)]
        instead = f"--cluster {others[0]}" if others else "--cluster local"
        raise Refused(
            f"--cluster {kind} was asked for, but {SUBMIT[kind]} is not on the PATH: {kind.upper()} "
            f"is not installed here. Use {instead}, or run this on a login node."
        )


def _cluster_class(kind: str) -> Any:
    if kind not in SUBMIT:
        raise UsageError(f"Unknown job system {kind!r}; there are {', '.join(SUBMIT)}.")
    check_queue(kind)
    try:
        import dask_jobqueue
    except ImportError as error:
        raise Refused(
            f"--cluster {kind} needs dask-jobqueue ({error}). Install it with "
            'pip install "aftermap[hpc]".'
        ) from error
    base = getattr(dask_jobqueue, f"{kind.upper()}Cluster")
    job = base.job_cls
    # Set, SBATCH_EXPORT would stand above the list of variables that a job may take along.
    clean = {"submit_command": f"env -u SBATCH_EXPORT {job.submit_command}"}
    return type(
        base.__name__,
        (_LoopbackDashboard, base),
        {"job_cls": type(job.__name__, (job,), clean)},
    )


def _size(
    kind: str, workers: int | None, memory: str | int | None, walltime: str | None, per_job: int
) -> tuple[int, str]:
    """Workers, and the memory of one job. What has no honest default must be said."""
    held = _configured(kind, "memory")
    missing = [
        f"{what} ({how})"
        for what, how, there in (
            ("the number of workers", "--workers 8", workers),
            ("the memory of a worker", "--memory 4GiB", memory or held),
            (
                "the longest time of a job",
                f'connect("{kind}", walltime="02:00:00"), or in the environment '
                f"DASK_JOBQUEUE__{kind.upper()}__WALLTIME=02:00:00",
                walltime or _configured(kind, "walltime"),
            ),
        )
        if not there
    ]
    if missing or workers is None:
        raise Refused(f"Workers as {kind.upper()} jobs: say {'; '.join(missing)}.")
    if per_job < 1:
        raise UsageError(f"per_job = {per_job} is no number of workers; give 1 or more.")
    if memory is None:
        return workers, str(held)
    return workers, format_bytes(worker_memory(memory, 1) * per_job).replace(" ", "")


def _configured(kind: str, name: str) -> Any:
    """A value of Dask's configuration, where somebody did set it."""
    value = dask.config.get(f"jobqueue.{kind}.{name}", None)
    if name == "walltime" and value in (_HIDDEN_WALLTIME, "00:30"):
        said: Any = dask.config.collect()
        for part in ("jobqueue", kind, name):
            said = said.get(part, {})
        return said or None
    return value


def _private(kind: str) -> list[str]:
    """Keep the submitter's environment out of the job; PBS does so by itself."""
    kept = ",".join(KEPT)
    return {"slurm": [f"--export={kept}"], "pbs": [], "lsf": [f'-env "{kept}"']}[kind]


def _devices(gres: str | None) -> list[str]:
    return [] if gres is None else [f"--gres={gres}"]


def _lifetime(seconds: int) -> list[str]:
    """Workers leave before they are thrown out, so that no chunk is blamed for their end."""
    return ["--lifetime", f"{seconds - 120}s", "--lifetime-stagger", "60s"] if seconds > 600 else []


def _fill(cluster: Any, kind: str, jobs: int, wait: float, logs: Path) -> None:
    """Submit the jobs, wait for the first worker, and have lost ones replaced from then on."""

    async def submit() -> None:
        for _ in range(jobs):
            cluster.worker_spec.update(cluster.new_worker_spec())
        await cluster._correct_state()  # unlike scale(), this tells when a submission fails

    try:
        cluster.sync(submit)
    except (RuntimeError, ValueError, OSError) as error:
        said = (
            str(error).partition("stderr:")[2].split("\n")
            if "stderr:" in str(error)
            else [str(error)]
        )
        raise Refused(
            f"{SUBMIT[kind]} turned the worker jobs down: {'; '.join(filter(str.strip, said))}. "
            "Check walltime, account, queue and memory."
        ) from error
    try:
        cluster.wait_for_workers(1, timeout=wait)
    except TimeoutError as error:
        raise Refused(
            f"{jobs} {kind.upper()} jobs were submitted, but no worker started within {wait:.0f} s; "
            f"they were cancelled. Look at {logs} and at the queue, or give a longer wait=."
        ) from error
    with suppress(TimeoutError):
        cluster.wait_for_workers(len(cluster.worker_spec), timeout=min(wait, 30))
    cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs, interval="5s")
