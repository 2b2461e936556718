"""Windows that fade into their neighbours, for networks that look at their whole square."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from ..scenes.plan import Window
from .kernel import Kernel


@runtime_checkable
class Blending(Kernel, Protocol):
    """A kernel that tells probabilities before it makes layers of them."""

    @property
    def cut(self) -> int:
        """How many of the last classes do not fade: half-way neighbours take turns."""

    @property
    def margin(self) -> int:
        """Pixels around an area that its layers depend on; at most core less halo."""

    def probabilities(self, pre: np.ndarray, post: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Of one whole square (1, bands, size, size): float32 (classes, size, size)."""

    def stored(self, probabilities: np.ndarray, valid: np.ndarray) -> Mapping[str, np.ndarray]:
        """Every layer as stored bytes (h, w), of what is known of an area with its margin.

        `probabilities` are float32 (classes, h + 2 * margin, w + 2 * margin), `valid` bool.
        """


def blended(
    kernel: Blending, pre: np.ndarray, post: np.ndarray, valid: np.ndarray
) -> Mapping[str, np.ndarray]:
    """Run a kernel of blended windows over one block; see `run_block` for the arguments.

    Each pixel is the mean of the one, two or four squares that see it, weighted linearly by how far
    it is from their edges within the overlap, and summed in an order that does not depend on the
    block. The squares at a block's edge reach over it as far as a margin may, so blocks need
    nothing of each other. Squares without a valid pixel are not run.
    """
    window, margin = kernel.window, kernel.margin
    core, halo, size = window.core, window.halo, window.size
    down, across = ((side - 2 * halo) // core for side in valid.shape)
    weights = _weights(window, fade=True), _weights(window, fade=False)
    sums = np.zeros((0, *valid.shape), np.float32)
    for i in range(down + 1):
        for j in range(across + 1):
            there = np.s_[..., i * core : i * core + size, j * core : j * core + size]
            if not valid[there].any():
                continue
            found = kernel.probabilities(pre[there][None], post[there][None], valid[there][None])
            if not len(sums):
                sums = np.zeros((len(found), *valid.shape), np.float32)
            faded = len(found) - kernel.cut
            for classes, weight in zip((slice(faded), slice(faded, None)), weights, strict=True):
                sums[classes][there] += found[classes] * weight
    rows, columns = (slice(halo - margin, side - halo + margin) for side in valid.shape)
    return kernel.stored(sums[:, rows, columns], valid[rows, columns])


def _weights(window: Window, fade: bool) -> np.ndarray:
    """How much the pixels of a square count, float32 (size, size); where squares overlap they add up
    to 1."""
    steps = (np.arange(window.overlap, dtype=np.float32) + 0.5) / max(window.overlap, 1)
    rising = steps if fade else (steps >= 0.5).astype(np.float32)
    middle = np.ones(window.size - 2 * window.overlap, np.float32)
    along = np.concatenate([rising, middle, 1 - rising])
    return np.outer(along, along)
