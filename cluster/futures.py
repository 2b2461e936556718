"""A bounded number of tasks in flight: the graph never grows with the scene."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from distributed import Client, Future, as_completed
from distributed.scheduler import KilledWorker

Item = TypeVar("Item", bound=Hashable)
Value = TypeVar("Value")

_PER_THREAD = 2
"""Tasks in flight per worker thread: one runs while the next one waits beside it."""

_LOOK_AGAIN = 5.0
"""Seconds after which workers are counted again: batch jobs join and leave in mid-run."""


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
    client: Client, function: Callable[[Item], Value], items: Iterable[Item]
) -> Iterator[Value]:
    """Map over the cluster with a bounded number in flight; results in the order of the items."""
    waiting: deque[Future] = deque()
    todo = iter(items)
    room = _in_flight(client)
    while True:
        waiting.extend(
            client.submit(function, item, pure=False) for item in islice(todo, room - len(waiting))
        )
        if not waiting:
            return
        yield waiting.popleft().result()


def _run(
    client: Client,
    function: Callable[..., Value],
    items: Iterator[Item],
    arguments: tuple[object, ...],
    alone: bool = False,
) -> Iterator[Value | Failure[Item]]:
    def submit(item: Item) -> Future:
        future = client.submit(function, *arguments, item, pure=False)
        asked[future.key] = item
        return future

    asked: dict[str, Item] = {}
    room, looked = 1 if alone else _in_flight(client), time.monotonic()
    running = as_completed([submit(item) for item in islice(items, room)])
    try:
        for future in running:
            item = asked.pop(future.key)
            if not alone and time.monotonic() - looked > _LOOK_AGAIN:
                room, looked = _in_flight(client), time.monotonic()
            for following in islice(items, max(0, room - len(asked))):
                running.add(submit(following))
            error = CancelledError() if future.status == "cancelled" else future.exception()
            yield Failure(item, error) if error is not None else future.result()
            future.release()
    finally:
        if client.status == "running":
            client.cancel(list(running.futures), force=True)


def _in_flight(client: Client) -> int:
    threads = sum(client.nthreads().values())
    return max(2, _PER_THREAD * threads)
