"""A kernel that does next to nothing: what is left is everything but the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from aftermap.scenes.layer import Layer
from aftermap.scenes.pair import Pair
from aftermap.scenes.plan import Window


@dataclass(frozen=True)
class NullKernel:
    """Calls a pixel destroyed where the after image is bright: one comparison per pixel."""

    window: Window

    method: ClassVar[str] = "null"
    inputs: ClassVar[tuple[str, ...]] = ("pre", "post")
    bands: ClassVar[int] = 3
    batch: ClassVar[int] = 1
    ready: ClassVar[bool] = True
    layers: ClassVar[tuple[Layer, ...]] = (Layer("damage", "class"),)
    resolution: ClassVar[tuple[float, float]] = (0.01, 30.0)
    threshold: ClassVar[float | None] = None
    window_bytes: ClassVar[int] = 1 << 20
    device_bytes: ClassVar[int] = 0
    fixed_bytes: ClassVar[int] = 300 << 20

    def facts(self) -> dict[str, object]:
        """Nothing to tell but its name."""
        return {"method": self.method, "weights_sha256": "", "precision": "fp32"}

    def fitted(self, pair: Pair) -> NullKernel:
        """Itself."""
        return self

    def load(self) -> None:
        """Nothing to load."""

    def __call__(
        self, pre: np.ndarray, post: np.ndarray, valid: np.ndarray
    ) -> Mapping[str, np.ndarray]:
        """Compare one band of the core with a constant; see Kernel."""
        kept = slice(self.window.halo, self.window.halo + self.window.core)
        return {"damage": (post[:, 0, kept, kept] > 220).view(np.uint8) * np.uint8(4)}
