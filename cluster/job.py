"""What a worker needs to work on chunks, and the one task that it runs: read, kernel, write.

The job is pickled once into the run folder and read once per process; a task is its path, its
digest and a chunk's index, so that the graph stays small whatever the scene and the network.
"""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import shutil
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..kernels.apply import apply_chunk
from ..kernels.kernel import Kernel
from ..scenes.pair import Pair
from ..scenes.plan import Plan
from ..scenes.store import Store

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO}


class StorageError(RuntimeError):
    """The run folder can no longer be written: the run stops, and what is written stays."""


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that is the same for all chunks of a run."""

    kernel: Kernel
    pair: Pair
    plan: Plan
    store: Store


@dataclass(frozen=True)
class JobFile:
    """A job on disk."""

    path: str
    digest: str

    @classmethod
    def write(cls, job: Job, path: Path) -> JobFile:
        """Pickle a job into the run folder, for its owner alone to read."""
        content = pickle.dumps(job)
        part = path.with_name(f"{path.name}.part")
        part.unlink(missing_ok=True)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        os.replace(part, path)
        return cls(str(path), hashlib.sha256(content).hexdigest())

    def current(self) -> bool:
        """Whether the run that wrote the job still wants it: it is there, and the same."""
        try:
            return hashlib.sha256(Path(self.path).read_bytes()).hexdigest() == self.digest
        except OSError:
            return False


@dataclass(frozen=True)
class ChunkReport:
    """What came of one chunk."""

    index: tuple[int, int]
    analysed: bool
    """False where the chunk held nothing to analyse."""
    seconds: float
    kept: bool = False
    """Whether it was done before, and could be read."""


def run_chunk(file: JobFile, index: tuple[int, int]) -> ChunkReport:
    """Work on one chunk and write it, unless it is done: the one task of a file-backed run."""
    start = time.perf_counter()
    job = load_job(file)
    chunk = job.plan.at(*index)
    if job.store.sound(chunk):
        return ChunkReport(index, True, time.perf_counter() - start, kept=True)
    block = apply_chunk(job.kernel, job.pair, job.plan, chunk)
    if job.store.whole() and not file.current():
        # Whoever asked was killed, and the folder may belong to another run by now.
        raise RuntimeError(f"{file.path} is no longer there: nobody waits for chunk {index}.")
    problem = None
    try:
        if block is None:
            job.store.blank(chunk)
        else:
            job.store.write(chunk, block)
    except OSError as error:
        if error.errno not in _DISK and job.store.whole():
            raise
        problem = error.strerror or str(error)
    if not job.store.whole():
        shutil.rmtree(job.store.path, ignore_errors=True)  # Zarr makes a shard's folders again
        problem = "it was removed while the run was going on"
    if problem is not None:  # raised here: what Zarr chains to its errors cannot travel
        raise StorageError(f"{job.store.path}: {problem}")
    return ChunkReport(index, block is not None, time.perf_counter() - start)


@lru_cache(maxsize=8)  # scenes of a region take turns
def load_job(file: JobFile) -> Job:
    """The job, unpickled once per process, and only if it is the one that the client wrote."""
    content = Path(file.path).read_bytes()
    if hashlib.sha256(content).hexdigest() != file.digest:
        raise RuntimeError(
            f"{file.path} changed while the run was going on; start the command again."
        )
    return pickle.loads(content)
