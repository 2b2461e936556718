"""Jobs say how they end, and those whose process is gone are known to be over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest
from aftermap.cluster.catalog.tables import Entry, Job, now
from aftermap.cluster.learn.jobs import (
    LEARN,
    Running,
    begin,
    belongs,
    finish,
    jobs,
    reported,
    stop,
)
from aftermap.cluster.learn.start import start_learning
from aftermap.scenes.errors import Refused
from learn_town import Town
from sqlalchemy import select

_SLEEPS = "import signal, time; {}; print(flush=True); time.sleep(60)"


@contextmanager
def _process(first: str = "pass") -> Iterator[subprocess.Popen[bytes]]:
    """Something that sleeps; its parent, the test, does not wait for it, as a server does not."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SLEEPS.format(first), "aftermap"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _state(town: Town) -> tuple[str, str]:
    found = jobs(town.catalog)[0]
    return found.state, found.told


def test_a_job_whose_process_was_killed_is_stopped(town: Town) -> None:
    town.user("ana")
    with _process() as process:
        job = begin(town.catalog, LEARN, "ana")
        assert belongs(town.catalog, job.id, process.pid)
        assert _state(town)[0] == "running"
        with pytest.raises(Running, match=rf"Job {job.id} \(learn\) runs already"):
            begin(town.catalog, LEARN, "ana")
        os.kill(process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while _state(town)[0] == "running" and time.monotonic() < deadline:
            time.sleep(0.02)
    assert _state(town) == ("stopped", "its process is gone; it was at: begins")
    assert jobs(town.catalog)[0].ended_at is not None
    assert not belongs(town.catalog, job.id, os.getpid())
    begin(town.catalog, LEARN, "ana")


def test_a_later_process_with_the_same_number_is_another_one(plain: Town) -> None:
    plain.user("ana")
    with _process() as process:
        job = begin(plain.catalog, LEARN, "ana")
        belongs(plain.catalog, job.id, process.pid)
        with plain.catalog.writing() as session:
            session.get_one(Job, job.id).began_at = now() - timedelta(minutes=5)
        assert _state(plain)[0] == "stopped"


def test_a_job_that_never_had_a_process_is_over_after_a_minute(plain: Town) -> None:
    plain.user("ana")
    job = begin(plain.catalog, LEARN, "ana")
    assert _state(plain)[0] == "running"
    with plain.catalog.writing() as session:
        session.get_one(Job, job.id).began_at = now() - timedelta(minutes=2)
    assert begin(plain.catalog, LEARN, "ana").id > job.id
    assert [found.state for found in jobs(plain.catalog)] == ["running", "stopped"]


def test_a_job_of_another_machine_is_left_alone(plain: Town) -> None:
    plain.user("ana")
    job = begin(plain.catalog, LEARN, "ana")
    with plain.catalog.writing() as session:
        row = session.get_one(Job, job.id)
        row.pid, row.host, row.began_at = 2**22 + 1, "another", now() - timedelta(days=1)
        row.heard_at = now() - timedelta(minutes=5)
    assert _state(plain)[0] == "running"
    with pytest.raises(Running, match="on another"):
        begin(plain.catalog, LEARN, "ana")


def test_a_job_of_another_machine_that_was_silent_for_long_is_over(town: Town) -> None:
    town.user("ana")
    for over in (lambda: _state(town), lambda: begin(town.catalog, LEARN, "ana")):
        job = begin(town.catalog, LEARN, "ana")
        with town.catalog.writing() as session:
            row = session.get_one(Job, job.id)
            row.pid, row.host, row.told = os.getpid(), "another", "learning"
            row.heard_at = now() - timedelta(minutes=11)
        over()
        with town.catalog.writing() as session:
            row = session.get_one(Job, job.id)
            assert (row.state, row.ended_at is None) == ("stopped", False)
            assert row.told.startswith("nothing was heard of it on another since ")
            assert row.told.endswith("; it was at: learning")


def test_a_job_says_again_and_again_that_it_lives(town: Town) -> None:
    town.user("ana")
    job = begin(town.catalog, LEARN, "ana").id

    def heard() -> datetime:
        return jobs(town.catalog)[0].heard_at

    with reported(town.catalog, job, beat=0.05) as tell:
        for _ in range(2):
            last, deadline = heard(), time.monotonic() + 10
            while heard() == last and time.monotonic() < deadline:
                time.sleep(0.02)
            assert heard() > last
        with town.catalog.writing() as session:
            session.get_one(Job, job).heard_at = now() - timedelta(hours=1)
        tell(0.5, "half-way")
        assert now() - heard() < timedelta(minutes=1)
        finish(town.catalog, job, "all well")
    last = heard()
    time.sleep(0.2)
    assert heard() == last


def test_what_was_stopped_stays_so_and_ends_when_it_next_tells(town: Town) -> None:
    town.user("ana")
    job = begin(town.catalog, LEARN, "ana").id
    with (  # noqa: PT012
        pytest.raises(Refused, match=rf"Job {job} is over: taken for dead\. Begin it again"),
        reported(town.catalog, job) as tell,
    ):
        with town.catalog.writing() as session:
            row = session.get_one(Job, job)
            row.state, row.told, row.ended_at = "stopped", "taken for dead", now()
        finish(town.catalog, job, "all well")
        assert _state(town) == ("stopped", "taken for dead")
        tell(0.5, "half-way")
    assert _state(town) == ("stopped", "taken for dead")
    assert jobs(town.catalog)[0].done == 0.0


def test_of_several_who_begin_at_once_one_does(town: Town) -> None:
    town.user("ana")

    def attempt(_: int) -> bool:
        try:
            begin(town.catalog, LEARN, "ana")
        except Running:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(attempt, range(8))) == 1


@pytest.mark.parametrize("first", ["pass", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"])
def test_a_job_is_stopped_even_where_its_process_does_not_listen(town: Town, first: str) -> None:
    ana = town.user("ana")
    with _process(first) as process:
        job = begin(town.catalog, LEARN, "ana").id
        assert belongs(town.catalog, job, process.pid)
        stop(town.catalog, job, ana, patience=0.2)
        process.wait(10)
        assert not psutil.pid_exists(process.pid)
    assert _state(town) == ("stopped", "stopped by ana; it was at: begins")
    assert jobs(town.catalog)[0].ended_at is not None
    with town.catalog.reading() as session:
        told = session.scalars(select(Entry).where(Entry.action == "stop")).one()
    assert (told.user_id, told.subject) == (ana.id, f"job {job}")
    assert told.details == {"kind": LEARN, "was_at": "begins"}
    with pytest.raises(Refused, match=rf"Job {job} is over: stopped by ana"):
        stop(town.catalog, job, ana)
    begin(town.catalog, LEARN, "ana")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"host": "another"}, "runs on another: stop it there"),
        ({"pid": None}, "only begins"),
        ({"state": "done", "told": "all well"}, "is over: all well"),
        ({"began_at": now() - timedelta(minutes=5)}, "its process is gone"),
    ],
)
def test_only_the_process_that_a_job_is_is_ended(
    plain: Town, values: dict[str, object], words: str
) -> None:
    ana = plain.user("ana")
    with _process() as process:
        job = begin(plain.catalog, LEARN, "ana").id
        belongs(plain.catalog, job, process.pid)
        with plain.catalog.writing() as session:
            row = session.get_one(Job, job)
            for name, value in values.items():
                setattr(row, name, value)
        with pytest.raises(Refused, match=words):
            stop(plain.catalog, job, ana, patience=0.2)
        assert process.poll() is None
    with plain.catalog.reading() as session:
        assert session.scalars(select(Entry).where(Entry.action == "stop")).all() == []


def test_how_a_job_ends_is_told(plain: Town) -> None:
    plain.user("ana")

    def job() -> int:
        return begin(plain.catalog, LEARN, "ana").id

    with reported(plain.catalog, job()) as tell:
        tell(0.5, "half-way")
        assert (_state(plain), jobs(plain.catalog)[0].done) == (("running", "half-way"), 0.5)
        finish(plain.catalog, jobs(plain.catalog)[0].id, "all well")
    assert (_state(plain), jobs(plain.catalog)[0].done) == (("done", "all well"), 1.0)
    for error, state, words in (
        (Refused("Too few."), "failed", "Too few."),
        (
            KeyError("a password"),
            "failed",
            "unexpected KeyError; the terminal or cache/jobs/3.log says more",
        ),
        (KeyboardInterrupt(), "stopped", "interrupted"),
    ):
        with pytest.raises(type(error)), reported(plain.catalog, job()):
            raise error
        assert _state(plain) == (state, words)


def test_a_learning_in_the_background_is_seen_to_its_end(town: Town, tmp_path: Path, quick) -> None:  # type: ignore[no-untyped-def]
    town.tag(town.cells(110))
    job = start_learning(town.catalog, "ana", quick())
    deadline = time.monotonic() + 120
    while (found := jobs(town.catalog)[0]).state == "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    log = town.catalog.folder / "cache" / "jobs" / f"{job}.log"
    assert (found.id, found.state) == (job, "done"), log.read_text()
    assert found.told.startswith("model 1 is in use")
    with town.catalog.reading() as session:
        row = session.scalars(select(Job)).one()
        assert row.pid != os.getpid()
    # It prints what it learnt after it has said that it is done.
    while "promoted" not in (said := log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "promoted" in said
    psutil.Process(row.pid).wait(30)
    if town.catalog.database.is_file:
        # Gone, the file would be without what is written from now on.
        assert (town.catalog.folder / "catalog.db-wal").is_file()
