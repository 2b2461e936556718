"""What a kernel is: one window's work, declared so that anything can plan and run it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Self, runtime_checkable

import numpy as np

from ..scenes.layer import Layer
from ..scenes.pair import Pair
from ..scenes.plan import Window

PATHS = ("weights", "ensemble")
"""Facts that say where something lies, and not what it is."""


@runtime_checkable
class Kernel(Protocol):
    """Work on batches of fixed windows; picklable as a small key, loads what it needs once.

    A kernel never sees chunks: `kernels.apply` cuts blocks into windows, batches them, crops the
    halo, and writes 255 where a pixel was not valid.
    """

    @property
    def method(self) -> str:
        """The name a user chooses it by."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Which images it needs: "pre", "post" or both."""

    @property
    def bands(self) -> int:
        """Bands per image that it expects."""

    @property
    def window(self) -> Window:
        """The fixed square it looks at."""

    @property
    def batch(self) -> int:
        """Windows given to it at once; halved when memory runs out, which changes no bit."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The rasters it makes; `damage` is one of them."""

    @property
    def resolution(self) -> tuple[float, float]:
        """Least and greatest ground sample distance, m, that it is meant for."""

    @property
    def threshold(self) -> float | None:
        """Damage probability from which a binary method says damaged; None for graded methods."""

    @property
    def ready(self) -> bool:
        """Whether it can run as it is; False for a method that must learn from the scene first."""

    @property
    def window_bytes(self) -> int:
        """Working memory that one window of a batch takes, bytes, at the most."""

    @property
    def device_bytes(self) -> int:
        """Memory of a GPU that a process needs, bytes; 0 for kernels that use none."""

    @property
    def fixed_bytes(self) -> int:
        """Memory that a process needs whatever it works on: libraries and weights."""

    def facts(self) -> dict[str, object]:
        """What `run.json` and, apart from `PATHS`, the fingerprint record: weights, precision, options.

        "weights" is a file and "ensemble" a list of further ones; "weights_sha256" joins the digests
        of all with "+".
        """

    def fitted(self, pair: Pair) -> Self:
        """The kernel with what it must learn from the whole scene first; most return themselves."""

    def load(self) -> None:
        """Get ready in this process: weights read, and on their device."""

    def __call__(
        self, pre: np.ndarray, post: np.ndarray, valid: np.ndarray
    ) -> Mapping[str, np.ndarray]:
        """Work on n windows: images (n, bands, size, size) uint8, validity (n, size, size) bool.

        Returns every layer as stored bytes (n, core / every, core / every). Raises MemoryError
        when the batch does not fit.
        """
