"""The fully convolutional change networks of paper 001: FC-EF, FC-Siam-conc and FC-Siam-diff."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..scenes.errors import UsageError
from ..scenes.plan import Window
from .damage_net import DamageNet, without_halo

Fusion = Literal["ef", "conc", "diff"]

CORE = 512
"""Side of a window's core, px, where nothing else is asked for."""


@dataclass(frozen=True)
class Layout:
    """Channels of a network's stages, shallowest first."""

    encoder: tuple[tuple[int, ...], ...]
    """Output channels of the 3×3 convolutions of each stage; a 2×2 max-pool follows each stage."""
    decoder: tuple[tuple[int, ...], ...]
    """Output channels of the 3×3 convolutions of each decoder stage; 0 stands for the classes."""


_MEDIUM = Layout(
    encoder=((16, 16), (32, 32), (64, 64, 64), (128, 128, 128)),
    decoder=((16, 0), (32, 16), (64, 64, 32), (128, 128, 64)),
)
LAYOUTS = {
    "small": Layout(encoder=((16,), (32,), (64,)), decoder=((0,), (16,), (32,))),
    "medium": _MEDIUM,
    "large": Layout(
        encoder=(*_MEDIUM.encoder, (256, 256, 256)),
        decoder=(*_MEDIUM.decoder, (256, 256, 128)),
    ),
    "daudt": _MEDIUM,
}
"""Sizes of paper 001, and "daudt": the network that Daudt et al. (2018) published."""


class ChangeNet(DamageNet):
    """Before and after in, one logit map per class out.

    An encoder-decoder with skips. "ef" stacks both images at the input; "conc" and "diff" send
    both through the same encoder, and hand the decoder both features or the absolute value of
    their difference. Only the after branch feeds the bottleneck.

    `forward(pre, post)`: two float tensors (n, in_channels, h, w), already normalised, with h and
    w divisible by `stride`; returns raw logits (n, classes, h, w). No sigmoid, softmax or
    log-softmax is applied, for size "daudt" neither, whose original ends in a log-softmax.

    Pooling keeps every other pixel's phase: a shifted input gives the shifted output only for
    shifts by multiples of `stride`, so windows must start on multiples of it.

    Source: paper 001 section IV and its published configurations; size "daudt" follows
    Daudt, Le Saux and Boulch, "Fully convolutional siamese networks for change detection", 2018.
    """

    def __init__(
        self,
        fusion: Fusion,
        size: str = "medium",
        classes: int = 1,
        in_channels: int = 3,
        dropout: float | None = None,
    ) -> None:
        """`dropout` is a probability; None takes 0.2 for "daudt" and 0.05 for the other sizes.

        Raises UsageError for a size, class count, band count or dropout that is not offered.
        """
        super().__init__()
        if size not in LAYOUTS:
            raise UsageError(f"Unknown size {size!r}. Valid sizes: {', '.join(LAYOUTS)}.")
        if classes not in (1, 5):
            raise UsageError(
                f"A change network has 1 class (damage) or 5 (background and four levels); "
                f"got classes={classes}."
            )
        if not 1 <= in_channels <= 64:
            raise UsageError(f"A network takes 1 to 64 bands per image; got {in_channels}.")
        if dropout is None:
            dropout = 0.2 if size == "daudt" else 0.05
        if not 0.0 <= dropout < 1.0:
            raise UsageError(f"Dropout is a probability in [0, 1); got {dropout}.")
        self.fusion = fusion
        self.size = size
        self.classes = classes
        self.in_channels = in_channels
        layout = LAYOUTS[size]
        self.stages = len(layout.encoder)
        """Number of 2×2 poolings; the input must be divisible by 2**stages."""
        original = size == "daudt"
        self._pads = original
        sources = 3 if fusion == "conc" else 2

        channels = in_channels * 2 if fusion == "ef" else in_channels
        encoder = []
        for widths in layout.encoder:
            encoder.append(_encoder_stage([channels, *widths], dropout, original))
            channels = widths[-1]
        self.encoder = nn.ModuleList(encoder)
        self.pool = nn.MaxPool2d(2)

        ups: list[nn.Module] = []
        decoder = []
        for level, coded in enumerate(layout.decoder):
            widths = tuple(width or classes for width in coded)
            skip = layout.encoder[level][-1]
            ups.append(_up(skip, original))
            convs = [skip * sources, *widths]
            decoder.append(_decoder_stage(convs, dropout, original, last=level == 0))
        self.ups = nn.ModuleList(ups)
        self.decoder = nn.ModuleList(decoder)

    @property
    def stride(self) -> int:
        """Pixels per side of the coarsest cell: what sizes and shifts must be divisible by."""
        return 2**self.stages

    @property
    def encoders(self) -> Sequence[nn.Module]:
        """The one encoder."""
        return (self.encoder,)

    def window(self, core: int | None = None, halo: int | None = None) -> Window:
        """Cores of 512 px with the whole receptive field around them."""
        return Window(core or CORE, receptive_field(self) if halo is None else halo)

    def forward(self, pre: Tensor, post: Tensor) -> Tensor:
        self._check(pre, post)
        if self.fusion == "ef":
            skips, x = self.encode(torch.cat([pre, post], dim=1))
        else:
            before, _ = self.encode(pre, bottleneck=False)
            after, x = self.encode(post)
            skips = [self._fuse(a, b) for a, b in zip(before, after, strict=True)]
        for up, convs, skip in zip(
            reversed(self.ups), reversed(self.decoder), reversed(skips), strict=True
        ):
            x = up(x)
            if self._pads:
                missing = skip.shape[-1] - x.shape[-1], skip.shape[-2] - x.shape[-2]
                if any(missing):
                    x = functional.pad(x, (0, missing[0], 0, missing[1]), mode="replicate")
            x = convs(torch.cat([x, skip], dim=1))
        return x

    def probabilities(self, pre: Tensor, post: Tensor, halo: int = 0) -> Tensor:
        """The sigmoid of one class, the softmax of five; see DamageNet."""
        logits = without_halo(self(pre, post), halo).float()
        return logits.sigmoid() if self.classes == 1 else logits.softmax(dim=1)

    def encode(self, x: Tensor, bottleneck: bool = True) -> tuple[list[Tensor], Tensor]:
        skips: list[Tensor] = []
        for stage in self.encoder:
            if skips:
                x = self.pool(x)
            x = stage(x)
            skips.append(x)
        return skips, self.pool(x) if bottleneck else x

    def _fuse(self, before: Tensor, after: Tensor) -> Tensor:
        if self.fusion == "diff":
            return (before - after).abs()
        # The two publications stack the branches in opposite order.
        pair = [before, after] if self.size == "daudt" else [after, before]
        return torch.cat(pair, dim=1)

    def _check(self, pre: Tensor, post: Tensor) -> None:
        if pre.shape != post.shape or pre.ndim != 4 or pre.shape[1] != self.in_channels:
            raise UsageError(
                f"The network takes two tensors (n, {self.in_channels}, h, w) of one shape; "
                f"got pre {tuple(pre.shape)} and post {tuple(post.shape)}."
            )
        if not self._pads and (pre.shape[-2] % self.stride or pre.shape[-1] % self.stride):
            raise UsageError(
                f"Height and width must be divisible by {self.stride} for size {self.size!r}; "
                f"got {pre.shape[-2]}×{pre.shape[-1]} px."
            )


def _encoder_stage(channels: Sequence[int], dropout: float, original: bool) -> nn.Sequential:
    # Conv and BatchNorm stay neighbours in one Sequential, so that they can be folded together.
    layers: list[nn.Module] = []
    for a, b in pairwise(channels):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b)]
        if original:
            layers += [nn.ReLU(inplace=True), nn.Dropout2d(dropout)]
        else:
            layers += [nn.Dropout(dropout), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _decoder_stage(
    channels: Sequence[int], dropout: float, original: bool, last: bool
) -> nn.Sequential:
    convolution = nn.ConvTranspose2d if original else nn.Conv2d
    layers: list[nn.Module] = []
    for a, b in pairwise(channels):
        layers += [
            convolution(a, b, 3, padding=1),
            nn.BatchNorm2d(b),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
        ]
    # The last convolution of the last stage gives the logits: nothing may follow it.
    return nn.Sequential(*(layers[:-3] if last else layers))


def _up(channels: int, original: bool) -> nn.ConvTranspose2d:
    if original:
        return nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1)
    return nn.ConvTranspose2d(channels, channels, 2, stride=2)


def receptive_field(network: ChangeNet) -> int:
    """How far an output pixel sees, px: the halo with which tiles equal the whole image.

    The exact theoretical radius, the larger of both directions over all positions within the
    pooling grid, rounded up to a multiple of `network.stride`. It is read from the kernel sizes,
    strides and paddings of the layers, by following an interval of output pixels to the input.
    """
    radius = 0
    for pixel in range(network.stride):
        low, high = _seen(network, 0, (pixel, pixel))
        radius = max(radius, pixel - low, high - pixel)
    return -(-radius // network.stride) * network.stride


_Interval = tuple[int, int]


def _seen(network: ChangeNet, level: int, output: _Interval) -> _Interval:
    """The input interval that the decoder's output `output` at `level` depends on."""
    joined = _through(network.decoder[level], output)
    low, high = _encoded(network, level, joined)
    below = _through(network.ups[level], joined)
    if level + 1 < network.stages:
        deep_low, deep_high = _seen(network, level + 1, below)
    else:
        deep_low, deep_high = _encoded(network, level, _through(network.pool, below))
    return min(low, deep_low), max(high, deep_high)


def _encoded(network: ChangeNet, level: int, output: _Interval) -> _Interval:
    """The input interval that encoder features `output` of stage `level` depend on."""
    interval = _through(network.encoder[level], output)
    return _encoded(network, level - 1, _through(network.pool, interval)) if level else interval


def _through(module: nn.Module, output: _Interval) -> _Interval:
    """The interval of a module's input that its output interval depends on (one axis)."""
    low, high = output
    if isinstance(module, nn.Sequential):
        for layer in reversed(module):
            low, high = _through(layer, (low, high))
        return low, high
    if isinstance(module, nn.ConvTranspose2d):
        size, step, pad = module.kernel_size[0], module.stride[0], int(module.padding[0])
        return -(-(low + pad - size + 1) // step), (high + pad) // step
    if isinstance(module, nn.Conv2d):
        size, step, pad = module.kernel_size[0], module.stride[0], int(module.padding[0])
        return low * step - pad, high * step - pad + size - 1
    if isinstance(module, nn.MaxPool2d):
        # A 2×2 pool, as this file builds it; its sizes are typed as "number or pair".
        return low * 2, high * 2 + 1
    return low, high
