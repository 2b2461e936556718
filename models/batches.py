"""Batches of training chips, prepared ahead on threads in a fixed order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .chips.chip import Chip
from .recipes import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class Batch:
    """Chips stacked for a network."""

    pre: Tensor
    """uint8 (n, 3, h, w)."""
    post: Tensor
    """uint8 (n, 3, h, w)."""
    codes: Tensor
    """uint8 (n, h, w)."""
    damaged: Tensor
    """bool (n): whether each shows damage."""
    names: tuple[str, ...] = ()
    """What the chips are called."""
    inputs: tuple[str, ...] = ("pre", "post")
    """The images that a network looks at."""

    def __len__(self) -> int:
        return len(self.codes)

    def split(self, parts: int) -> list[Batch]:
        """The batch in equal parts, in order."""
        tensors = zip(
            *(x.chunk(parts) for x in (self.pre, self.post, self.codes, self.damaged)), strict=True
        )
        size = len(self) // parts
        return [
            Batch(pre, post, codes, damaged, self.names[i * size : (i + 1) * size], self.inputs)
            for i, (pre, post, codes, damaged) in enumerate(tensors)
        ]


def normalised(
    image: Tensor, mean: Sequence[float], std: Sequence[float], scale: float = 255.0
) -> Tensor:
    """uint8 (n, c, h, w) to fp32 in channels-last order: (image / scale − mean) / std."""
    x = image.to(dtype=torch.float32, memory_format=torch.channels_last) / scale
    shape = (1, len(mean), 1, 1)
    m, s = (torch.tensor(v, device=image.device).reshape(shape) for v in (mean, std))
    return (x - m) / s


def seen(batch: Batch, device: torch.device) -> tuple[Tensor, ...]:
    """The `inputs` of a batch as networks see them: normalised, and zero where before or after is black.

    Zero is the mean colour; the engine gives networks the same where a raster has no data.
    """
    pre, post = batch.pre.to(device), batch.post.to(device)
    valid = pre.any(dim=1, keepdim=True) & post.any(dim=1, keepdim=True)
    images = {"pre": pre, "post": post}
    return tuple(normalised(images[k], IMAGENET_MEAN, IMAGENET_STD) * valid for k in batch.inputs)


def stacked(chips: Sequence[Chip], inputs: tuple[str, ...] = ("pre", "post")) -> Batch:
    """Chips of one size as one batch, for a network that looks at these of their images."""
    pre, post = (np.stack([getattr(c, name) for c in chips]) for name in ("pre", "post"))
    codes = np.stack([c.codes for c in chips])
    return Batch(
        torch.from_numpy(pre),
        torch.from_numpy(post),
        torch.from_numpy(codes),
        torch.tensor([c.shows_damage for c in chips]),
        tuple(c.name for c in chips),
        inputs,
    )


def batches(
    draw: Callable[[int], Chip],
    batch: int,
    steps: int,
    workers: int,
    part: range | None = None,
    inputs: tuple[str, ...] = ("pre", "post"),
) -> Iterator[Batch]:
    """The batches of one epoch, in order, whatever `workers` is.

    `draw` gives the chip at a place of the epoch; place k is number k % batch of batch k // batch.
    `part` takes only these numbers of each batch, where several processes share it. `inputs` are the
    images that the network looks at.

    Threads suffice: reading, resampling and filtering happen outside of Python's lock. At most
    `workers` + 1 batches are in memory.
    """

    def prepare(step: int) -> Batch:
        places = range(step * batch, (step + 1) * batch)
        if part is not None:
            places = places[part.start : part.stop]
        return stacked([draw(place) for place in places], inputs)

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
