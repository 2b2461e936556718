"""Batches of training chips, prepared ahead on threads in a fixed order."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .augment import Augment, draw
from .chips import Chip, Chips


@dataclass(frozen=True)
class Batch:
    """Chips stacked for a network."""

    pre: Tensor
    """uint8 (n, 3, h, w)."""
    post: Tensor
    """uint8 (n, 3, h, w)."""
    codes: Tensor
    """uint8 (n, h, w)."""


def normalised(
    image: Tensor, mean: Sequence[float], std: Sequence[float], scale: float = 255.0
) -> Tensor:
    """uint8 (n, c, h, w) to fp32 in channels-last order: (image / scale − mean) / std."""
    x = image.to(dtype=torch.float32, memory_format=torch.channels_last) / scale
    shape = (1, len(mean), 1, 1)
    m, s = (torch.tensor(v, device=image.device).reshape(shape) for v in (mean, std))
    return (x - m) / s


def stacked(chips: Sequence[Chip]) -> Batch:
    """Chips of one size as one batch."""
    pre, post = (np.stack([getattr(c, name) for c in chips]) for name in ("pre", "post"))
    codes = np.stack([c.codes for c in chips])
    return Batch(torch.from_numpy(pre), torch.from_numpy(post), torch.from_numpy(codes))


def order(count: int, wanted: int, seed: int, epoch: int) -> list[int]:
    """Numbers of the chips of an epoch: shuffled, begun again as often as `wanted` asks."""
    rng = np.random.default_rng([seed, epoch])
    rounds = [rng.permutation(count) for _ in range(math.ceil(wanted / count))]
    return [int(i) for i in np.concatenate(rounds)[:wanted]]


def batches(
    chips: Chips,
    augment: Augment,
    size: int,
    batch: int,
    steps: int,
    seed: int,
    epoch: int,
    workers: int,
    part: range | None = None,
) -> Iterator[Batch]:
    """The batches of one epoch; the same for the same seed and epoch, whatever `workers` is.

    `part` takes only these places of each batch, where several processes share it.

    Threads suffice: reading, resampling and filtering happen outside of Python's lock. At most
    `workers` + 1 batches are in memory.
    """
    chosen = order(len(chips), batch * steps, seed, epoch)

    def prepare(step: int) -> Batch:
        places = range(step * batch, (step + 1) * batch)
        if part is not None:
            places = places[part.start : part.stop]
        return stacked(
            [draw(chips.chip(chosen[k]), size, augment, (seed, epoch, k)) for k in places]
        )

    pool = ThreadPoolExecutor(workers, thread_name_prefix="chips")
    waiting: deque[Future[Batch]] = deque()
    try:
        for step in range(steps):
            while len(waiting) <= workers and step + len(waiting) < steps:
                waiting.append(pool.submit(prepare, step + len(waiting)))
            yield waiting.popleft().result()
    finally:
        # Also when the loop is left early: nobody waits for batches that nobody takes.
        pool.shutdown(wait=True, cancel_futures=True)
