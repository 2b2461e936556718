"""Skip-GANomaly: a U-Net that draws an image anew, and a discriminator that sees through it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..scenes.errors import UsageError

SIDE = 64
"""Height and width of the images of paper 000, px."""

LATENT = 100
"""Length of the discriminator's latent vector f(x); paper 000, figure 2."""

TEACHER, STUDENT = 64, 16
"""Widths of the networks of paper 000: those of its published code, the paper itself says "fewer"."""

_INNER = 512
"""Channels of the levels below the fourth, whatever the width, as in the code of paper 000."""

_SLOPE = 0.2


class Reconstruction(NamedTuple):
    """What a network makes of images."""

    image: Tensor
    """The images drawn anew, x̂: (n, 3, side, side), -1 to 1."""
    bottleneck: Tensor
    """What the generator drew them from, z: (n, 8 · width, 1, 1), larger with fewer `downs`."""
    probability: Tensor
    """That x̂ is a real image, D(x̂): (n,)."""
    latent: Tensor
    """What the discriminator makes of x̂, f(x̂): (n, 100, 1, 1)."""


class SkipGANomaly(nn.Module):
    """A generator and a discriminator for images (n, 3, side, side) of -1 to 1; paper 000, III.A.

    Both networks of paper 000 are of this kind; teacher and student differ in width. Weights begin
    as N(0, 0.02), those of BatchNorm as N(1, 0.02).
    """

    def __init__(
        self, width: int = TEACHER, side: int = SIDE, latent: int = LATENT, downs: int | None = None
    ) -> None:
        """`width` is the channels of the first level: 64 for the teacher, 16 for the student.

        `downs` is the number of levels, each of which halves the image; None halves it down to one
        pixel. Raises UsageError for a side that is no power of two, and for levels that do not fit.
        """
        super().__init__()
        full = math.log2(side) if side > 0 else 0.0
        if side < 8 or not full.is_integer():
            raise UsageError(f"Skip-GANomaly wants images of 8, 16, 32, 64 … px; got side {side}.")
        levels = int(full) if downs is None else downs
        if not 2 <= levels <= full:
            raise UsageError(
                f"An image of {side} px can be halved 2 to {int(full)} times; got downs {levels}."
            )
        if width < 1 or latent < 1:
            raise UsageError(f"width {width} and latent {latent} must be 1 or more.")
        self.side = side
        self.generator = Generator(width, levels)
        self.bottleneck = 8 * width * (side >> levels) ** 2
        """Length of z."""
        self.discriminator = Discriminator(width, side, latent)
        self.apply(_begin)

    def forward(self, x: Tensor) -> Reconstruction:
        """Draw images anew, and have the discriminator look at what came out."""
        image, bottleneck = self.generator.reconstruct(x)
        return Reconstruction(image, bottleneck, *self.discriminator(image))


class Generator(nn.Module):
    """A U-Net of strided convolutions, down to one pixel and back; paper 000, figure 2."""

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        channels = [3, *_channels(width, levels)]
        last = levels - 1
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level in range(levels):
            outer, inner = channels[level], channels[level + 1]
            down: list[nn.Module] = [nn.Conv2d(outer, inner, 4, 2, 1, bias=False)]
            if 0 < level < last:
                down.append(nn.BatchNorm2d(inner))
            source = inner if level == last else 2 * inner
            # No activation works in place: explanations hook their gradients.
            up: list[nn.Module] = [
                nn.ReLU(),
                nn.ConvTranspose2d(source, outer, 4, 2, 1, bias=level == 0),
                nn.BatchNorm2d(outer) if level else nn.Tanh(),
            ]
            self.down.append(nn.Sequential(*down))
            self.up.append(nn.Sequential(*up))

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 3, h, w) drawn anew, of the same size, -1 to 1."""
        return self.reconstruct(x)[0]

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images drawn anew, and the bottleneck z that they were drawn from, before its activation."""
        skips: list[Tensor] = []
        for level, down in enumerate(self.down):
            if level:
                # The skip is what went into the convolution, activated: the original activates in
                # place. What it goes to begins with a ReLU, which makes the same of either.
                x = nn.functional.leaky_relu(x, _SLOPE)
                skips.append(x)
            x = down(x)
        bottleneck = x
        for level in reversed(range(len(self.up))):
            x = self.up[level](x)
            if level:
                x = torch.cat([skips.pop(), x], dim=1)
        return x, bottleneck


class Discriminator(nn.Module):
    """Halves images down to 4 px, then tells a latent vector from them and whether they are real."""

    def __init__(self, width: int, side: int, latent: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.LeakyReLU(_SLOPE)]
        while side > 8:
            layers += [
                nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
                nn.BatchNorm2d(2 * width),
                nn.LeakyReLU(_SLOPE),
            ]
            side, width = side // 2, 2 * width
        self.features = nn.Sequential(*layers, nn.Conv2d(width, latent, 4, 1, 0, bias=False))
        self.classifier = nn.Sequential(nn.Conv2d(latent, 1, 3, 1, 1, bias=False), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of images: how probable each is real (n,), and its latent vector (n, latent, 1, 1)."""
        latent = self.features(x)
        return self.classifier(latent).flatten(), latent


def _channels(width: int, levels: int) -> list[int]:
    """Channels after each level: doubled up to the fourth, 512 below it, 8 · width at the bottom."""
    outer = [width * factor for factor in (1, 2, 4, 8)][: levels - 1]
    return [*outer, *[_INNER] * (levels - 1 - len(outer)), 8 * width]


def _begin(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
