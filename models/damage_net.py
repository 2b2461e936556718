"""What every network that finds damage between two images has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..scenes.plan import Window

DAMAGED = 5
"""The code that a one-class network writes above its threshold: damaged, level not graded."""


class DamageNet(nn.Module):
    """Before and after in, logits out; how these become probabilities and damage codes."""

    classes: int
    """Channels of probabilities: 1 (damage), or 5 (background and four levels)."""

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

    @abstractmethod
    def probabilities(self, pre: Tensor, post: Tensor, halo: int = 0) -> Tensor:
        """From normalised images (n, bands, h, w) to probabilities (n, classes, h, w), fp32.

        Five classes sum to 1: background, then levels 1 to 4. `halo` px are left out on each side.
        """

    def codes(self, probabilities: Tensor, threshold: float = 0.5) -> Tensor:
        """Damage codes (n, h, w), uint8, of probabilities (n, classes, h, w).

        `threshold` is for one class. See `damage_codes`, which networks may refine.
        """
        return damage_codes(probabilities, threshold)


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
