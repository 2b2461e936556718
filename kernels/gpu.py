"""A GPU as the threads of one process share it: one has its turn to compute, the others copy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


class Lane:
    """The way to the current device and back: pinned staging, copies beside the computing.

    All computing goes through one stream, so that freed memory is used again at once and the peak
    is that of one batch, however many threads there are.
    """

    def __init__(self) -> None:
        self._compute, self._up, self._down = (torch.cuda.Stream() for _ in range(3))
        self._lock = threading.Lock()
        self._mine = threading.local()

    def run(self, work: Callable[..., Tensor], arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Compute `work` of arrays (uint8 or bool) on the device; the uint8 result comes back.

        Other threads copy while one computes, and nothing waits for more than it needs.
        """
        there, ready = self._upload(arrays)
        with self._lock, torch.cuda.stream(self._compute):
            self._compute.wait_event(ready)
            for tensor in there:
                tensor.record_stream(self._compute)
            result = work(*there)
            done = self._compute.record_event()
        return self._download(result, done)

    def _upload(self, arrays: Sequence[np.ndarray]) -> tuple[list[Tensor], torch.cuda.Event]:
        """Copy arrays to the device without waiting."""
        there = []
        with torch.cuda.stream(self._up):
            for place, array in enumerate(arrays):
                staged = self._staging(("up", place), array.nbytes)
                np.copyto(staged.numpy().view(array.dtype).reshape(array.shape), array)
                copy = staged.to("cuda", non_blocking=True)
                there.append(copy.view(_DTYPES[array.dtype]).view(array.shape))
            return there, self._up.record_event()

    def _download(self, result: Tensor, done: torch.cuda.Event) -> np.ndarray:
        """Bring a result back once it is there; other threads go on meanwhile."""
        staged = self._staging(("down", 0), result.numel())
        with torch.cuda.stream(self._down):
            self._down.wait_event(done)
            result.record_stream(self._down)
            staged.copy_(result.reshape(-1), non_blocking=True)
            arrived = self._down.record_event()
        arrived.synchronize()
        return staged.numpy().reshape(result.shape).copy()

    def _staging(self, key: tuple[str, int], size: int) -> Tensor:
        """This thread's page-locked buffer for one purpose, made larger when it must be."""
        buffers = self._mine.__dict__.setdefault("buffers", {})
        if key not in buffers or buffers[key].numel() < size:
            buffers[key] = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        return buffers[key][:size]


_DTYPES = {np.dtype(np.uint8): torch.uint8, np.dtype(bool): torch.bool}


_lanes: dict[int, Lane] = {}
_making = threading.Lock()


def lane() -> Lane:
    """The process's one way to the current device, whichever of its threads asks first."""
    device = torch.cuda.current_device()
    with _making:
        if device not in _lanes:
            # fp32 must be fp32, and the same kernels must be chosen every time.
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
            _lanes[device] = Lane()
        return _lanes[device]


def gpu_count() -> int:
    """GPUs that torch sees on this machine."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def free_bytes() -> int:
    """Memory that is free on the current device."""
    return int(torch.cuda.mem_get_info()[0])
