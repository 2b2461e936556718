"""Jobs: what runs in the background, how far it is, and whether it is still alive."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import psutil
from sqlalchemy import select, text
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

_CLOCKS = 2.0
"""Seconds by which the system's clock and its count of a process' age may differ."""

_LOCK = 0x6A6F6273
"""Number of the lock of those who begin a job on PostgreSQL."""


class Running(Outrun):
    """A job of the same kind runs already."""


def jobs(catalog: Catalog) -> list[Job]:
    """All jobs, the newest first; those whose process is gone are marked as stopped now."""
    with catalog.reading() as session:
        found = list(session.scalars(select(Job).order_by(Job.id.desc())))
    gone = [job.id for job in found if job.state == "running" and not _alive(job)]
    if not gone:
        return found
    with catalog.writing() as session:
        _mark_stopped(session, gone)
        return list(session.scalars(select(Job).order_by(Job.id.desc())))


def begin(catalog: Catalog, kind: str, user_name: str) -> Job:
    """A new job, which has no process yet; raises Running where one of its kind runs."""
    with catalog.writing() as session:
        _hold(catalog, session)
        user = session.scalars(select(User).where(User.name == user_name)).first()
        if user is None:
            raise Refused(f"There is no user {user_name!r}.")
        running = select(Job).where(Job.kind == kind, Job.state == "running").order_by(Job.id)
        for other in session.scalars(running):
            if _alive(other):
                where = (
                    f" on {other.host}" if other.host not in (None, socket.gethostname()) else ""
                )
                raise Running(
                    f"Job {other.id} ({kind}) runs already{where}, since {other.began_at:%H:%M:%S}: "
                    f"{other.told or 'it begins'}. Wait for it."
                )
            _mark_stopped(session, [other.id])
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
        row.pid, row.host, row.began_at = pid, socket.gethostname(), now()
        return True


@contextmanager
def reported(catalog: Catalog, job: int) -> Iterator[Tell]:
    """Carry out a job in this process, and have its row say how far it is and how it ended."""
    if not belongs(catalog, job, os.getpid()):
        raise Refused(f"There is no running job {job}.")

    def tell(done: float, words: str) -> None:
        with catalog.writing() as session:
            row = session.get_one(Job, job)
            row.done, row.told = done, words

    try:
        yield tell
    except AftermapError as error:
        _end(catalog, job, "failed", str(error))
        raise
    except Exception as error:
        _end(catalog, job, "failed", f"unexpected {type(error).__name__}: {error}")
        raise
    except BaseException:
        _end(catalog, job, "stopped", "interrupted")
        raise


def finish(catalog: Catalog, job: int, words: str) -> None:
    """Mark a job as done."""
    _end(catalog, job, "done", words)


def _end(catalog: Catalog, job: int, state: str, words: str) -> None:
    with catalog.writing() as session:
        row = session.get_one(Job, job)
        row.state, row.told, row.ended_at = state, words, now()
        if state == "done":
            row.done = 1.0


def _mark_stopped(session: Session, numbers: list[int]) -> None:
    wanted = select(Job).where(Job.id.in_(numbers), Job.state == "running").with_for_update()
    for job in session.scalars(wanted):
        job.state, job.ended_at = "stopped", now()
        job.told = f"its process is gone; it was at: {job.told}"


def _alive(job: Job) -> bool:
    """Whether the process of a running job lives; another machine's cannot be asked, and counts as such."""
    if job.pid is None:
        return now() - job.began_at < _BEGINS
    if job.host != socket.gethostname():
        return True
    try:
        process = psutil.Process(job.pid)
        # A later process may have been given the same number.
        same = process.create_time() <= job.began_at.timestamp() + _CLOCKS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _hold(catalog: Catalog, session: Session) -> None:
    if not catalog.database.is_file:  # a writer of SQLite is alone anyway
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
