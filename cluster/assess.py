"""The run itself: check, lock, plan, run chunks, set aside what fails, finish; or go on with it."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Any

from distributed import Client
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker
from odc.geo.geobox import GeoBox

from ..scenes.errors import AftermapError, NothingToAnalyse, Refused
from ..scenes.holding import watched
from ..scenes.pair import Source
from ..scenes.plan import Chunk, Plan
from ..scenes.store import Store
from .budget import check_memory
from .client import connected, dashboard
from .fingerprint import differences, digest, plain, without
from .fit import fitted
from .folder import RunFolder
from .futures import Failure, Stopped, check_stop, run_bounded
from .heap import trim
from .job import Job, JobFile, StorageError, run_chunk
from .placement import placed
from .prepare import FINISH, Prepared, prepare
from .progress import RunProgress
from .request import Request, versions
from .run import Run
from .write import write_outputs

_LEAST_FREE = 16 << 20
"""With less room than this, bytes, any failure to write counts as a full disk."""


def assess(
    pre: Source | None,
    post: Source,
    out: str | Path = "run",
    method: str | None = None,
    footprints: str | Path | None = None,
    client: Client | None = None,
    **options: Any,
) -> Run:
    """Turn a before/after pair into a run folder with a damage map; goes on where it stopped.

    `options` are those of `Request` (weights, aoi, bbox, resolution, chunk, ...). Without a
    `client`, one single-threaded process per core is started and stopped. Raises UsageError,
    Refused or NothingToAnalyse in words before anything is written; chunks that fail are set
    aside (`Run.quarantined`) and tried again by the same call.
    """
    chosen: dict[str, Any] = {"method": method, "cluster": client}
    request = Request(
        pre=pre,
        post=post,
        out=Path(out),
        footprints=None if footprints is None else Path(footprints),
        **{name: value for name, value in chosen.items() if value is not None} | options,
    )
    return run_request(request)


class StorageGone(AftermapError):
    """The run folder can no longer be written: nothing else on this disk can go on either."""


def run_request(request: Request, quiet: bool = True, stop: Event | None = None) -> Run:
    """Carry out a request; `quiet` says nothing on standard error.

    Safe from several threads at once. After `stop` is set, Stopped is raised as soon as the next
    chunk is done, or while the results are written. A run whose options differ only in what becomes
    of its layers (see `FINISH`) goes on with its chunks, and its results are written anew.
    """
    prepared = prepare(request, probe=False)
    check_stop(stop)
    folder = RunFolder(request.out)
    with folder.locked():
        facts = plain(prepared.facts())
        record = folder.begin(facts, request.fresh, may_change=FINISH)
        if changed := differences(record["facts"], facts):
            _say(_anew(folder, changed), quiet)
        elif record.get("state") == "done" and folder.whole(record):
            _say(f"{folder.path} is complete already; nothing to do. --fresh starts over.", quiet)
            return Run(folder.path)
        plan = _plan(prepared, record)
        prepared = fitted(prepared, record, quiet)
        budget = prepared.budget
        check_memory(prepared.kernel, plan, budget.limit_bytes, budget.threads)
        store = Store(folder.store.absolute(), plan, prepared.kernel.layers)
        job = Job(prepared.kernel, prepared.pair, plan, store)
        record |= _opening(prepared, facts, record, plan)
        with (
            _client(prepared) as client,
            _told(folder, client),
        ):
            folder.write(record)
            store.create(_region_grid(job), {"layers_id": record["layers_id"]})
            watched(folder.path, dashboard(client))
            _say(f"dashboard  {dashboard(client)}", quiet)
            started = time.perf_counter()
            record |= _run_chunks(client, job, folder, quiet, stop)
            record["seconds_chunks"] = round(time.perf_counter() - started, 2)
            client.run(trim, on_error="ignore")
            trim()
            if not record["quarantined"] and not _analysed(store, plan):
                folder.clear()
                raise NothingToAnalyse("No pixel could be analysed, and nothing was written.")
            record["totals"] = write_outputs(client, folder, prepared, job, record, stop)
        record["seconds_total"] = round(time.perf_counter() - started, 2)
        record["state"] = "quarantined" if record["quarantined"] else "done"
        folder.write(record)
    return Run(folder.path)


def _plan(prepared: Prepared, record: dict[str, Any]) -> Plan:
    """The plan of this run: on resuming, the chunks that the store is already cut into."""
    plan = prepared.budget.plan
    chunk = record.get("plan", {}).get("chunk_px", plan.chunk)
    if chunk != plan.chunk and prepared.request.chunk is not None:
        raise Refused(
            f"{prepared.request.out} was begun with chunks of {chunk} px, and --chunk "
            f"{prepared.request.chunk} asks for {plan.chunk}. Leave out --chunk, or start over with --fresh."
        )
    return replace(plan, chunk=chunk)


def _opening(
    prepared: Prepared, facts: dict[str, Any], record: dict[str, Any], plan: Plan
) -> dict[str, Any]:
    """What run.json says when the first chunk starts.

    The store outlives a change of what is made of it, so that it has an id of its own.
    """
    shift, corrected = prepared.shift, prepared.request.coregister
    settled = facts | {"method": prepared.method}
    return {
        "facts": facts,
        "run_id": digest(settled)[:16],
        "layers_id": digest(without(settled, FINISH))[:16],
        "state": "running",
        "attempts": record["attempts"] + 1,
        "started": record.get("started", time.strftime("%FT%TZ", time.gmtime())),
        "plan": prepared.budget.to_dict() | {"chunk_px": plan.chunk, "chunks": len(plan)},
        "method": prepared.kernel.facts(),
        "shift": None if shift is None else shift.to_dict() | {"corrected": corrected},
        "colour": [list(band) for band in prepared.pair.colour],
        "versions": versions(),
        "notes": prepared.notes(),
        "sha256": prepared.digests(),
    }


def _anew(folder: RunFolder, changed: list[str]) -> str:
    listed = "\n  ".join(changed)
    return (
        f"{folder.path} holds a run of the same layers with other options:\n  {listed}\n"
        "Its chunks are kept; tables, rasters and report are written anew."
    )


def _client(prepared: Prepared) -> AbstractContextManager[Client]:
    """The cluster of a request, of as many workers as were planned; one that is given is left alone."""
    request = prepared.request
    if isinstance(request.cluster, Client):
        return nullcontext(request.cluster)
    return connected(request.cluster, prepared.budget.workers, request.memory)


def _run_chunks(
    client: Client, job: Job, folder: RunFolder, quiet: bool, stop: Event | None
) -> dict[str, Any]:
    """Work on every chunk that is not done; what fails is set aside with its reason.

    Those that are done by the sizes of their shards come last: the workers read them, and work on
    them again where that fails.
    """
    there = {chunk.index for chunk in job.plan if job.store.done(chunk)}
    missing = (chunk.index for chunk in job.plan if chunk.index not in there)
    file = JobFile.write(job, folder.path.absolute() / ".job")
    todo, worked_on, quarantined = chain(missing, sorted(there)), 0, []
    try:
        with (
            placed(client, job, file, quiet, stop),
            RunProgress(len(job.plan), len(there), quiet) as progress,
        ):
            for result in run_bounded(client, run_chunk, todo, file, fatal=(StorageError,)):
                check_stop(stop)
                if isinstance(result, Failure):
                    chunk = job.plan.at(*result.item)
                    job.store.discard(chunk)
                    quarantined.append(_entry(chunk, result.error))
                    _say(f"chunk {chunk.index} set aside: {quarantined[-1]['reason']}", quiet)
                elif result.kept:
                    continue
                else:
                    chunk, worked_on = job.plan.at(*result.index), worked_on + 1
                progress.advance(chunk.shape[0] * chunk.shape[1], again=chunk.index in there)
    finally:
        (folder.path / ".job").unlink(missing_ok=True)
    return {
        "chunks_run": worked_on,
        "quarantined": sorted(quarantined, key=lambda entry: entry["chunk"]),
    }


@contextmanager
def _told(folder: RunFolder, client: Client) -> Iterator[None]:
    """Say in words that the run folder is full or gone, or the cluster, whoever noticed it."""
    try:
        yield
    except (AftermapError, Stopped):
        raise
    except Exception as error:
        if isinstance(error, KilledWorker):
            raise AftermapError(
                f"A worker died again and again while the results were written ({error}). The chunks "
                "are kept: run the same command again, with more --memory or fewer --workers."
            ) from error
        there = folder.record.exists()
        free = shutil.disk_usage(folder.path).free if there else 0
        if isinstance(error, StorageError) or free < _LEAST_FREE:
            raise StorageGone(
                f"The run folder {folder.path} can no longer be written ({error}; {free >> 20} MiB "
                "free). What is done is kept: make room or restore the folder, and run the same "
                "command again."
            ) from error
        if client.status != "running" or isinstance(error, CommClosedError):
            raise AftermapError(
                f"The cluster is gone: its scheduler does not answer any more ({error}). What is "
                "done is kept: run the same command again, if need be with another --cluster."
            ) from error
        raise


def _entry(chunk: Chunk, error: BaseException) -> dict[str, Any]:
    reason = str(error).strip().splitlines()
    return {
        "chunk": list(chunk.index),
        "rows": [chunk.row0, chunk.row1],
        "cols": [chunk.col0, chunk.col1],
        "reason": f"{type(error).__name__}: {reason[0] if reason else 'no message'}"[:500],
    }


def _analysed(store: Store, plan: Plan) -> bool:
    """Whether any pixel of the run was analysed."""
    return any((store.read_chunk("damage", chunk) != 255).any() for chunk in plan)


def _region_grid(job: Job) -> GeoBox:
    row0, col0, row1, col1 = job.plan.region
    return job.pair.grid[row0:row1, col0:col1]


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        print(text, file=sys.stderr, flush=True)
