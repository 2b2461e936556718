"""What every network that makes maps of rasters has in common: of two images, or of one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ..scenes.plan import Window

DAMAGED = 5
"""The code that a one-class network writes above its threshold: damaged, level not graded."""


class RasterNet(nn.Module):
    """Images in, logits out; how these become probabilities and codes."""

    inputs: ClassVar[tuple[Literal["pre", "post"], ...]]
    """The images that it looks at, in the order in which it takes them."""
    classes: int
    """Channels of probabilities."""
    probabilities: Callable[..., Tensor]
    """From normalised images (n, bands, h, w), as many as `inputs`, to probabilities (n, classes, h, w),
    fp32. A further `halo`, px, is left out on each side; 0 leaves out nothing."""

    @property
    @abstractmethod
    def stride(self) -> int:
        """What heights, widths and shifts must be divisible by, px."""

    @property
    @abstractmethod
    def encoders(self) -> Sequence[nn.Module]:
        """What may begin with weights from elsewhere, be frozen, or learn at a rate of its own."""

    @abstractmethod
    def window(self, core: int | None = None, halo: int | None = None) -> Window:
        """The window of a raster to use it with; what is None is the network's own choice, px."""

    def codes(self, probabilities: Tensor, threshold: float = 0.5) -> Tensor:
        """Codes (n, h, w), uint8, of probabilities (n, classes, h, w); `threshold` is for one class.

        See `damage_codes`, which networks may refine.
        """
        return damage_codes(probabilities, threshold)


class DamageNet(RasterNet):
    """Finds damage between two images.

    Classes are 1 (damage), 2 (buildings, and damage within them) or 5 (background and four levels).
    """

    inputs = ("pre", "post")
    cut: ClassVar[int] = 0
    """How many of the last classes do not fade where windows overlap."""
    margin: ClassVar[int] = 0
    """Pixels around a pixel that its code depends on, beside its own probabilities."""

    @abstractmethod
    def probabilities(self, pre: Tensor, post: Tensor, halo: int = 0) -> Tensor:
        """From normalised images (n, bands, h, w) to probabilities (n, classes, h, w), fp32.

        Five classes sum to 1: background, then levels 1 to 4. `halo` px are left out on each side.
        """


class SceneNet(RasterNet):
    """Says one thing of one image: how probable it is, and whether it is so."""

    classes = 1

    @abstractmethod
    def probabilities(self, image: Tensor, halo: int = 0) -> Tensor:
        """From a normalised image (n, bands, h, w) to probabilities (n, 1, h, w), fp32.

        `halo` px are left out on each side.
        """

    @abstractmethod
    def truth(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """By damage codes (n, h, w): which pixels it should say yes of, and of which that is known; bool."""

    @abstractmethod
    def labels(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` should say where damage codes (n, h, w) are true, 0-1, and where that is known.

        fp32 and bool, both in the shape of what `forward` gives.
        """

    @abstractmethod
    def load_encoder(self, tensors: Mapping[str, Tensor]) -> None:
        """Begin the encoder with the tensors of a timm checkpoint; UsageError where they do not fit."""


def damage_codes(probabilities: Tensor, threshold: float = 0.5) -> Tensor:
    """Turn probabilities (n, classes, h, w) into damage codes (n, h, w), uint8.

    Five classes: the most probable one (0 background, 1-4 levels). One class: 5 where the
    probability exceeds `threshold` (strictly, paper 001), 0 elsewhere.
    """
    if probabilities.shape[1] == 1:
        return (probabilities[:, 0] > threshold).to(torch.uint8) * DAMAGED
    return probabilities.max(dim=1).indices.to(torch.uint8)


def without_halo(x: Tensor, halo: int) -> Tensor:
    """Maps (n, c, h, w) without `halo` px on each side."""
    return x[..., halo:-halo, halo:-halo] if halo else x
