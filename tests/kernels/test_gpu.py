"""The way to a GPU: one for all threads of a process, or their turns on it would be nobody's."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from aftermap.kernels import gpu

THREADS = 16


class Slow:
    """In place of a `Lane`, which only a GPU can have; its making takes a while, as theirs does."""

    def __init__(self) -> None:
        time.sleep(0.05)


def lanes(device: int, monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The lanes that many threads get that ask for one at the same moment."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: device)
    together = threading.Barrier(THREADS)

    def ask(_: int) -> gpu.Lane:
        together.wait(30)
        return gpu.lane()

    with ThreadPoolExecutor(THREADS) as pool:
        return {id(lane) for lane in list(pool.map(ask, range(THREADS)))}


def test_all_threads_of_a_process_share_one_lane_to_each_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu, "Lane", Slow)
    monkeypatch.setattr(gpu, "_lanes", {})
    with torch.backends.cudnn.flags():  # puts back what a lane sets
        first = lanes(0, monkeypatch)
        assert len(first) == 1
        assert lanes(0, monkeypatch) == first
        assert len(lanes(1, monkeypatch) | first) == 2
