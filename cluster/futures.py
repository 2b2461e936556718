"""A bounded number of tasks in flight: the graph never grows with the scene."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from threading import Event
from typing import Any, Generic, TypeVar

from distributed import Client, Future, as_completed, wait
from distributed.scheduler import KilledWorker

Item = TypeVar("Item", bound=Hashable)
Value = TypeVar("Value")

_PER_THREAD = 2
"""Tasks in flight per worker thread: one runs while the next one waits beside it."""

_SHARE = 8
"""Tasks are handed out once an eighth of those in flight is done: each call costs the client and
the scheduler a millisecond, and the scheduler some bytes that it never forgets."""

_LOOK_AGAIN = 5.0
"""Seconds after which workers are counted again: batch jobs join and leave in mid-run."""

_PATIENCE = 0.2
"""Seconds that a result is waited for before the wish to stop is looked at again."""


class Stopped(Exception):
    """The run was told to stop; what is done is kept."""


@dataclass(frozen=True)
class Failure(Generic[Item]):
    """An item whose task failed for good."""

    item: Item
    error: BaseException


def run_bounded(
    client: Client,
    function: Callable[..., Value],
    items: Iterable[Item],
    *arguments: object,
    fatal: tuple[type[BaseException], ...] = (),
) -> Iterator[Value | Failure[Item]]:
    """Run `function(*arguments, item)` on the cluster for every item, as results come in.

    A task that raises yields a Failure. One whose worker died with it is tried once more, alone,
    so that its neighbours on that worker are not blamed. Errors of `fatal` types are raised, and
    whatever comes of a scheduler that is gone.
    """
    died: list[Item] = []
    for result in _run(client, function, iter(items), arguments):
        if isinstance(result, Failure):
            if isinstance(result.error, fatal) or client.status != "running":
                raise result.error
            if isinstance(result.error, (KilledWorker, CancelledError)):
                died.append(result.item)
                continue
        yield result
    yield from _run(client, function, iter(died), arguments, alone=True)


def map_ordered(
    client: Client,
    function: Callable[[Item], Value],
    items: Iterable[Item],
    stop: Event | None = None,
) -> Iterator[Value]:
    """Map over the cluster with a bounded number in flight; results in the order of the items.

    Once `stop` is set Stopped is raised, also while a result is waited for.
    """
    waiting: deque[Future] = deque()
    todo = iter(items)
    room = _in_flight(client)
    try:
        while True:
            waiting.extend(
                client.submit(function, item, pure=False)
                for item in islice(todo, room - len(waiting))
            )
            if not waiting:
                return
            yield _result(waiting.popleft(), stop)
    finally:
        for future in waiting:
            future.release()


def heed(stop: Event | None, items: Iterable[Value]) -> Iterator[Value]:
    """The items as they come; Stopped is raised instead of the next one once `stop` is set."""
    for item in items:
        check_stop(stop)
        yield item


def check_stop(stop: Event | None) -> None:
    """Raise Stopped where `stop` is set."""
    if stop is not None and stop.is_set():
        raise Stopped


def _result(future: Future, stop: Event | None) -> Any:
    """What came of a task; Stopped as soon as `stop` is set, whatever the task does."""
    while stop is not None:
        check_stop(stop)
        with suppress(TimeoutError):
            wait(future, timeout=_PATIENCE)
            break
    return future.result()


def _run(
    client: Client,
    function: Callable[..., Value],
    items: Iterator[Item],
    arguments: tuple[object, ...],
    alone: bool = False,
) -> Iterator[Value | Failure[Item]]:
    def submit(count: int) -> list[Future]:
        taken = list(islice(items, count))
        given = [[argument] * len(taken) for argument in arguments]
        futures = client.map(function, *given, taken, pure=False) if taken else []
        asked.update(zip((future.key for future in futures), taken, strict=True))
        return futures

    asked: dict[str, Item] = {}
    room, looked = 1 if alone else _in_flight(client), time.monotonic()
    running = as_completed(submit(room))
    try:
        for future in running:
            item = asked.pop(future.key)
            if not alone and time.monotonic() - looked > _LOOK_AGAIN:
                room, looked = _in_flight(client), time.monotonic()
            if room - len(asked) >= max(1, room // _SHARE):
                running.update(submit(room - len(asked)))
            error = CancelledError() if future.status == "cancelled" else future.exception()
            yield Failure(item, error) if error is not None else future.result()
            future.release()
    finally:
        if client.status == "running":
            client.cancel(list(running.futures), force=True)


def _in_flight(client: Client) -> int:
    threads = sum(client.nthreads().values())
    return max(2, _PER_THREAD * threads)
