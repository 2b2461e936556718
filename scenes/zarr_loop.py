"""Zarr's coroutines, run in the thread that asks for them.

Zarr runs all of a process's reading and writing in one thread of its own, which the many threads of
a worker would wait for.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Value = TypeVar("Value")


class _Inline(ThreadPoolExecutor):
    """Does at once what it is given; an event loop accepts only thread pools."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class _Mine(threading.local):
    """This thread's event loop."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.runner.get_loop().set_default_executor(_Inline(1))


_mine = _Mine()


def run_here(work: Coroutine[Any, Any, Value]) -> Value:
    """Run a coroutine to its end in this thread, and all that it would give to other threads.

    A thread that is running an event loop already, as that of a notebook is, has it done by another.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _mine.runner.run(work)
    with ThreadPoolExecutor(1) as other:
        return other.submit(asyncio.run, work).result()
