"""Jobs: what runs in the background, how far it is, and whether it is still alive."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Event, Thread

import psutil
from sqlalchemy import select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from ...scenes.errors import AftermapError, Refused
from ..catalog.catalog import Catalog, note
from ..catalog.tables import Job, User, now
from ..catalog.tagging import Outrun

Tell = Callable[[float, str], None]
"""Takes the share that is done, 0-1, and what it is at."""

LEARN = "learn"
"""The kind of job that `aftermap learn` is."""

_BEGINS = timedelta(seconds=60)
"""How long a job may be without a process: from its row to the start of it."""

_BEAT = 60.0
"""Seconds after which a job says again that it lives."""

_SILENT = timedelta(minutes=10)
"""How long a job of another machine may say nothing."""

_CLOCKS = 2.0
"""Seconds by which the system's clock and its count of a process' age may differ."""

_PATIENCE = 10.0
"""Seconds that a process which is stopped has to end by itself."""

_LOCK = 0x6A6F6273
"""Number of the lock of those who begin a job on PostgreSQL."""


class Running(Outrun):
    """A job of the same kind runs already."""


def jobs(catalog: Catalog) -> list[Job]:
    """All jobs, the newest first; those that are not alive any more are marked as stopped now."""
    with catalog.reading() as session:
        found = list(session.scalars(select(Job).order_by(Job.id.desc())))
    gone = [job.id for job in found if job.state == "running" and not _alive(job)]
    if not gone:
        return found
    with catalog.writing() as session:
        query = select(Job).where(Job.id.in_(gone), Job.state == "running").order_by(Job.id)
        for job in session.scalars(query.with_for_update()):
            if not _alive(job):  # it may have said so since
                _mark_stopped(job)
        return list(session.scalars(select(Job).order_by(Job.id.desc())))


def begin(catalog: Catalog, kind: str, user_name: str) -> Job:
    """A new job, which has no process yet; raises Running where one of its kind runs."""
    with catalog.writing() as session:
        _hold(catalog, session)
        user = session.scalars(select(User).where(User.name == user_name)).first()
        if user is None:
            raise Refused(f"There is no user {user_name!r}.")
        running = select(Job).where(Job.kind == kind, Job.state == "running").order_by(Job.id)
        for other in session.scalars(running.with_for_update()):
            if _alive(other):
                where = (
                    f" on {other.host}" if other.host not in (None, socket.gethostname()) else ""
                )
                raise Running(
                    f"Job {other.id} ({kind}) runs already{where}, since {other.began_at:%H:%M:%S}: "
                    f"{other.told or 'it begins'}. Wait for it."
                )
            _mark_stopped(other)
        job = Job(kind=kind, user_id=user.id, told="begins")
        session.add(job)
        session.flush()
        note(session, user, "begin", f"job {job.id}", kind=kind)
        return job


def belongs(catalog: Catalog, job: int, pid: int) -> bool:
    """Note the process of this machine that a job is, unless the job is over; and whether it is not.

    The moment of it counts as the job's beginning, so that processes are known to be older than it.
    """
    with catalog.writing() as session:
        row = session.get(Job, job, with_for_update=True)
        if row is None or row.state != "running":
            return False
        row.pid, row.host, row.began_at, row.heard_at = pid, socket.gethostname(), now(), now()
        return True


@contextmanager
def reported(catalog: Catalog, job: int, beat: float = _BEAT) -> Iterator[Tell]:
    """Carry out a job in this process, and have its row say how far it is and how it ended.

    Every `beat` seconds it says that it lives. To tell of one that was marked as stopped meanwhile
    raises Refused: another may have begun.
    """
    if not belongs(catalog, job, os.getpid()):
        raise Refused(f"There is no running job {job}.")

    def tell(done: float, words: str) -> None:
        with catalog.writing() as session:
            row = session.get_one(Job, job, with_for_update=True)
            if row.state != "running":
                raise Refused(f"Job {job} is over: {row.told}. Begin it again.")
            row.done, row.told, row.heard_at = done, words, now()

    try:
        with _beating(catalog, job, beat):
            yield tell
    except AftermapError as error:
        _end(catalog, job, "failed", str(error))
        raise
    except Exception as error:
        # Everybody can read the row, and nobody knows what the error tells of.
        words = f"unexpected {type(error).__name__}; the terminal or cache/jobs/{job}.log says more"
        _end(catalog, job, "failed", words)
        raise
    except BaseException:
        _end(catalog, job, "stopped", "interrupted")
        raise


def finish(catalog: Catalog, job: int, words: str) -> None:
    """Mark a job as done, unless it is over already."""
    _end(catalog, job, "done", words)


def stop(catalog: Catalog, job: int, user: User, patience: float = _PATIENCE) -> None:
    """End a running job: its process is asked to, and killed where it still lives after `patience` seconds.

    What is left is what any job leaves whose process ended. Raises Refused, and nothing is ended, where
    the job is over, is another machine's, has no process yet, or has one that only others may end.
    """
    with catalog.writing() as session:
        row = session.get(Job, job, with_for_update=True)
        if row is None:
            raise Refused(f"There is no job {job}.")
        process = _process_to_stop(row)
        note(session, user, "stop", f"job {job}", kind=row.kind, was_at=row.told)
        row.state, row.ended_at = "stopped", now()
        row.told = f"stopped by {user.name}; it was at: {row.told}"
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            return
        except psutil.AccessDenied:
            raise Refused(
                f"Job {job} was started from another account, which alone can stop it."
            ) from None
    with suppress(psutil.NoSuchProcess):
        try:
            process.wait(patience)
        except psutil.TimeoutExpired:
            process.kill()


def _end(catalog: Catalog, job: int, state: str, words: str) -> None:
    with catalog.writing() as session:
        row = session.get_one(Job, job, with_for_update=True)
        if row.state != "running":
            return
        row.state, row.told, row.ended_at = state, words, now()
        if state == "done":
            row.done = 1.0


@contextmanager
def _beating(catalog: Catalog, job: int, beat: float) -> Iterator[None]:
    """Say that a job lives, also while it is at something that has nothing to tell for long."""
    over = Event()
    alive = update(Job).where(Job.id == job, Job.state == "running")

    def beating() -> None:
        while not over.wait(beat):
            # One that is missed does no harm.
            with suppress(SQLAlchemyError), catalog.writing() as session:
                session.execute(alive.values(heard_at=now()))

    thread = Thread(target=beating, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _mark_stopped(job: Job) -> None:
    elsewhere = job.pid is not None and job.host != socket.gethostname()
    silent = f"nothing was heard of it on {job.host} since {job.heard_at:%Y-%m-%d %H:%M:%S} UTC"
    job.state, job.ended_at = "stopped", now()
    job.told = f"{silent if elsewhere else 'its process is gone'}; it was at: {job.told}"


def _alive(job: Job) -> bool:
    """Whether the process of a running job lives; one of another machine while it was heard of lately."""
    if job.pid is None:
        return now() - job.began_at < _BEGINS
    if job.host != socket.gethostname():
        return now() - job.heard_at < _SILENT
    return _process(job) is not None


def _process(job: Job) -> psutil.Process | None:
    """The living process that a job of this machine is."""
    assert job.pid is not None
    try:
        process = psutil.Process(job.pid)
        # A later process may have been given the same number.
        same = process.create_time() <= job.began_at.timestamp() + _CLOCKS
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _process_to_stop(job: Job) -> psutil.Process:
    if job.state != "running":
        raise Refused(f"Job {job.id} is over: {job.told}.")
    if job.pid is None:
        raise Refused(f"Job {job.id} only begins: stop it in a moment.")
    if job.host != socket.gethostname():
        raise Refused(
            f"Job {job.id} runs on {job.host}: stop it there, with Ctrl-C or kill {job.pid}."
        )
    process = _process(job)
    if process is None:
        raise Refused(f"Job {job.id} is over: its process is gone.")
    # Where several machines have one name, as containers do, the number may be anybody's.
    if not _is_ours(process):
        raise Refused(
            f"Process {job.pid} of this machine is not job {job.id}, which runs elsewhere: stop it there."
        )
    return process


def _is_ours(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return any("aftermap" in word for word in process.cmdline())
    return True  # of another account, whose process nobody here can end


def _hold(catalog: Catalog, session: Session) -> None:
    if not catalog.database.is_file:  # a writer of SQLite is alone anyway
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
