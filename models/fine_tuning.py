"""Fine-tuning of the window classifier on some hundred squares: backbone and last layer together."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from ..scenes.errors import Refused
from .batches import normalised
from .bottlenecks import Pictures
from .inception_window import InceptionWindow

BRIGHTNESS = 0.1
"""Largest change of a square's brightness, as a share."""

MOST_SQUARES = 24_000
"""That are looked at, counting each as often as it is: of more than 800 there are fewer epochs."""

_WARM_UP = 0.1
"""Share of the steps over which the rate rises: at once it would spoil the last layer, which is fitted."""


@dataclass(frozen=True)
class FineTuning:
    """How a network is tuned: AdamW, whose rate rises and falls to nothing along a cosine."""

    epochs: int = 30
    batch: int = 16
    rate: float = 1e-4
    decay: float = 0.01
    seed: int = 0


def fine_tune(
    network: InceptionWindow,
    pictures: Pictures,
    damaged: np.ndarray,
    learnt: np.ndarray,
    tuning: FineTuning | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> None:
    """Train all of a network, whose last layer was learnt before, from some of the pictures.

    `damaged` is bool (n,), what each shows; `learnt` (k,) are the numbers of those that are learnt from,
    whose two kinds count the same. They are turned, mirrored and relit, and read as they are needed.
    The network is in eval mode: batch norm keeps its statistics, of which a few squares tell little.
    On the same machine, with as many threads, the same arguments give the same weights. `progress` is
    told batches. Raises Refused where there is one kind only.
    """
    tuning = tuning or FineTuning()
    epochs = min(tuning.epochs, max(1, MOST_SQUARES // len(learnt)))
    share = float(damaged[learnt].mean())
    if share in (0.0, 1.0):
        raise Refused(f"All of the {len(learnt)} squares are of one kind. Tag some of the other.")
    device = network.head.weight.device
    weight = torch.tensor([0.5 / (1 - share), 0.5 / share], device=device)
    network.eval()
    optimizer = torch.optim.AdamW(network.parameters(), tuning.rate, weight_decay=tuning.decay)
    batches = -(-len(learnt) // tuning.batch)
    steps = epochs * batches
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    for step in range(steps):
        epoch, place = divmod(step, batches)
        # Each square is in one batch of an epoch.
        order = np.random.default_rng((tuning.seed, epoch)).permutation(learnt)
        some = order[place * tuning.batch : (place + 1) * tuning.batch]
        squares = [changed(pictures.image(i), (tuning.seed, epoch, i)) for i in some.tolist()]
        image = normalised(
            torch.from_numpy(np.stack(squares)).to(device), network.mean, network.std
        )
        target = torch.from_numpy(damaged[some].astype(np.int64)).to(device)
        loss = functional.cross_entropy(network(image), target, weight, reduction="sum")
        optimizer.zero_grad()
        (loss / len(some)).backward()
        optimizer.step()
        schedule.step()
        progress(step + 1, steps)


def changed(image: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
    """A square, uint8 (3, side, side), turned by quarters, mirrored and relit; the same for the same key."""
    rng = np.random.default_rng(key)
    turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
    light = rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS)
    moved = np.rot90(image[:, :, ::-1] if mirrored else image, turns, (1, 2))
    return np.rint(np.clip(moved * light, 0, 255)).astype(np.uint8)


def _rate(step: int, steps: int) -> float:
    """What the rate of a step is multiplied by, 0-1."""
    rise = max(1, round(_WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
