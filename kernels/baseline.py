"""What can be done without a network: thresholded difference and change of texture.

They need no weights, run through the same engine, and say what a learned method has to beat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from ..scenes.errors import Refused
from ..scenes.layer import Layer, encode
from ..scenes.pair import Pair
from ..scenes.plan import Window
from ..scenes.scene import ReadError

_SMOOTH = 7
"""Side of the box, px, over which a baseline averages."""
_FIT_TILE, _FIT_TILES = 256, 36
"""Side, px, and greatest number of the tiles that a threshold is fitted to."""
_WINDOW = Window(512, 16)


@dataclass(frozen=True)
class Baseline:
    """A binary method: a change score per pixel, damaged where it exceeds a threshold.

    `difference` is the absolute difference of the images, averaged over bands and a 7 px box;
    `texture` is the absolute change of the local standard deviation of brightness. Without a
    threshold, Otsu's is fitted to tiles spread over the scene. The stored probability is
    score / (score + level), so that 0.5 is the threshold.
    """

    method: Literal["difference", "texture"]
    level: float | None = None
    """Score that counts as damage, grey values; None until fitted."""
    window: Window = _WINDOW

    inputs: ClassVar[tuple[str, ...]] = ("pre", "post")
    bands: ClassVar[int] = 3
    batch: ClassVar[int] = 4
    layers: ClassVar[tuple[Layer, ...]] = (
        Layer("damage", "class"),
        Layer("damage_probability", "probability"),
    )
    resolution: ClassVar[tuple[float, float]] = (0.01, 30.0)
    threshold: ClassVar[float | None] = 0.5
    device_bytes: ClassVar[int] = 0
    fixed_bytes: ClassVar[int] = 300 << 20

    @property
    def ready(self) -> bool:
        """Whether there is a threshold."""
        return self.level is not None

    @property
    def window_bytes(self) -> int:
        """About ten float32 planes per window."""
        return 40 * self.window.size**2

    def facts(self) -> dict[str, object]:
        """The fitted level, for provenance."""
        return {
            "method": self.method,
            "weights_sha256": "",
            "precision": "fp32",
            "level": self.level,
        }

    def fitted(self, pair: Pair) -> Baseline:
        """With Otsu's threshold over at most 36 tiles spread over the scene."""
        if self.level is not None:
            return self
        scores = [score for tile in _tiles(pair) if (score := self._scores_of(pair, *tile)).size]
        if not scores:
            return replace(self, level=1.0)
        level = round(float(threshold_otsu(np.concatenate(scores))), 3)
        return replace(self, level=max(level, 0.001))  # two equal images: 0 / 0 is no probability

    def load(self) -> None:
        """Nothing to load."""

    def __call__(
        self, pre: np.ndarray, post: np.ndarray, valid: np.ndarray
    ) -> Mapping[str, np.ndarray]:
        """Score windows; see Kernel."""
        if self.level is None:
            raise Refused(f"{self.method} was not fitted; call fitted(pair) or give level=.")
        halo = self.window.halo
        # Alike where nothing was measured, so that the rim of a hole is no change.
        pre, post = (np.where(valid[:, None], image, np.uint8(0)) for image in (pre, post))
        score = self._score(pre, post)[:, halo:-halo, halo:-halo]
        return {
            "damage": np.where(score > self.level, 5, 0).astype(np.uint8),
            "damage_probability": encode(score / (score + self.level)),
        }

    def _score(self, pre: np.ndarray, post: np.ndarray) -> np.ndarray:
        """Change per pixel, grey values: (n, bands, h, w) to float32 (n, h, w)."""
        box = (1, _SMOOTH, _SMOOTH)
        if self.method == "difference":
            change = np.abs(post.astype(np.float32) - pre.astype(np.float32)).mean(axis=1)
            return ndimage.uniform_filter(change, box)
        spreads = []
        for image in (pre, post):
            grey = image.astype(np.float32).mean(axis=1)
            square = ndimage.uniform_filter(grey**2, box) - ndimage.uniform_filter(grey, box) ** 2
            spreads.append(np.sqrt(np.maximum(square, 0.0)))
        return np.abs(spreads[1] - spreads[0])

    def _scores_of(self, pair: Pair, row: int, col: int) -> np.ndarray:
        try:
            pixels = pair.read(row, col, row + _FIT_TILE, col + _FIT_TILE)
        except ReadError:
            return np.empty(0, np.float32)
        score = self._score(pixels.pre[None], pixels.post[None])[0]
        return score[ndimage.binary_erosion(pixels.valid, iterations=_SMOOTH)]


def _tiles(pair: Pair) -> list[tuple[int, int]]:
    """Corners of the tiles that a threshold is fitted to: spread evenly over the grid."""
    down, across = (max(1, n // _FIT_TILE) for n in pair.grid.shape)
    step = max(1, int(np.ceil(np.sqrt(down * across / _FIT_TILES))))
    return [
        (i * _FIT_TILE, j * _FIT_TILE) for i in range(0, down, step) for j in range(0, across, step)
    ]
