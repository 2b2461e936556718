"""Processor time and memory of this process and those it started."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Self

import psutil


def cpu_seconds() -> float:
    """User and system time of this process and its living descendants, s."""
    return sum(sum(process.cpu_times()[:2]) for process in family())


def family() -> list[psutil.Process]:
    """This process and its descendants that still live."""
    me = psutil.Process()
    return [me, *(child for child in me.children(recursive=True) if child.is_running())]


def isolated(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function of a module in a fresh process, which ends with it."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


class Peak:
    """The highest proportional set size of this process and its descendants during a block, bytes.

    `own` and `others` are this process's part of it and that of its descendants. Pages that processes share are counted once. It is looked at every `seconds`, so that a spike
    shorter than that is missed.
    """

    def __init__(self, seconds: float = 0.05) -> None:
        self.bytes = self.own = self.others = 0
        self._seconds = seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.is_set():
            self._look()
            time.sleep(self._seconds)

    def _look(self) -> None:
        me, *others = family()
        own = _pss(me)
        rest = sum(map(_pss, others))
        if own + rest > self.bytes:
            self.bytes, self.own, self.others = own + rest, own, rest


def _pss(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except psutil.Error:  # it ended while it was looked at
        return 0
