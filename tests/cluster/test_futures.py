"""Bounded tasks: results as they come, failures set aside, killed workers survived."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from threading import Event, Timer

import pytest
from aftermap.cluster import futures
from aftermap.cluster.client import connected
from aftermap.cluster.futures import Failure, Stopped, map_ordered, run_bounded
from distributed import Client


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with connected("local", workers=2, memory="1GiB") as client:
        yield client


def double(item: int) -> int:
    return 2 * item


def fail_on_three(factor: int, item: int) -> int:
    if item == 3:
        raise ValueError("three")
    return factor * item


def die_on_three(item: int) -> int:
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)
    return item


def test_every_item_comes_back_once(client: Client) -> None:
    assert sorted(run_bounded(client, double, range(50))) == [2 * n for n in range(50)]
    assert list(map_ordered(client, double, range(50))) == [2 * n for n in range(50)]


def test_items_are_taken_only_as_there_is_room(client: Client) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for n in range(100):
            taken.append(n)
            yield n

    results = run_bounded(client, double, items())
    for _ in range(10):
        next(results)
    assert len(taken) <= 10 + 2 * 2
    results = map_ordered(client, double, items())
    taken.clear()
    next(results)
    assert len(taken) <= 5


def test_a_wish_to_stop_is_heeded_while_a_result_is_waited_for(client: Client) -> None:
    stop, began = Event(), time.monotonic()
    results = map_ordered(client, doze, range(6), stop)
    assert next(results) == 0
    Timer(0.3, stop.set).start()
    with pytest.raises(Stopped):
        list(results)
    assert time.monotonic() - began < 2  # the second one sleeps for three seconds


def doze(item: int) -> int:
    time.sleep(3.0 * item)
    return item


def test_a_failure_is_set_aside_and_the_rest_goes_on(client: Client) -> None:
    results = list(run_bounded(client, fail_on_three, range(8), 10))
    failures = [r for r in results if isinstance(r, Failure)]
    assert [f.item for f in failures] == [3]
    assert isinstance(failures[0].error, ValueError)
    assert sorted(r for r in results if not isinstance(r, Failure)) == [0, 10, 20, 40, 50, 60, 70]


def test_a_fatal_error_stops_everything(client: Client) -> None:
    with pytest.raises(ValueError, match="three"):
        list(run_bounded(client, fail_on_three, range(8), 10, fatal=(ValueError,)))


@pytest.mark.slow
def test_an_item_that_kills_its_worker_is_the_only_one_set_aside(client: Client) -> None:
    results = list(run_bounded(client, die_on_three, range(12)))
    assert [r.item for r in results if isinstance(r, Failure)] == [3]
    assert sorted(r for r in results if not isinstance(r, Failure)) == [
        n for n in range(12) if n != 3
    ]


@pytest.mark.slow
def test_a_worker_killed_from_outside_loses_nothing(client: Client) -> None:
    results = run_bounded(client, slow, range(20))
    got = [next(results) for _ in range(3)]
    os.kill(got[0][1], signal.SIGKILL)
    got += list(results)
    assert sorted(item for item, _ in got) == list(range(20))


def slow(item: int) -> tuple[int, int]:
    time.sleep(0.1)
    return item, os.getpid()


@pytest.mark.slow
def test_workers_that_join_in_mid_run_get_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(futures, "_LOOK_AGAIN", 0.2)
    with connected("local", workers=1, memory="1GiB") as client:
        seen, most = set(), 0
        for address in run_bounded(client, _where, range(120)):
            seen.add(address)
            most = max(most, len(client.futures))
            if len(seen) == 1 and len(client.scheduler_info(n_workers=-1)["workers"]) == 1:
                client.cluster.scale(3)
        assert len(seen) == 3
        assert most > 2


def _where(item: int) -> str:
    time.sleep(0.1)
    return str(os.getpid())
