"""What networks have in common that give a whole square of an image one score."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

from torch import Tensor, nn


class ScoreNet(nn.Module):
    """Says of a square how probable it is that it shows damage, or how far it is from ordinary."""

    inputs: ClassVar[tuple[Literal["pre", "post"], ...]] = ("post",)
    """The image that it looks at."""

    @property
    @abstractmethod
    def side(self) -> int:
        """Height and width of the squares that it is given, px."""

    @abstractmethod
    def scores(self, image: Tensor) -> Tensor:
        """Of normalised squares (n, bands, side, side): fp32 (n,), 0-1, the higher the more damage."""
