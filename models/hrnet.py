"""HRNet, the backbone of paper 002: branches at four resolutions that keep exchanging features."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from ..scenes.errors import UsageError

Stem = Literal["canonical", "released"]

STRIDE = 32
"""Pixels per side of the coarsest branch's cell."""

MOMENTUM = 0.01
"""Of every BatchNorm."""

_MODULES = (1, 4, 3)
"""Exchange modules of stages 2, 3 and 4."""

_BLOCKS = 4
"""Residual blocks per branch of a module, and of the first stage."""


class HRNet(nn.Module):
    """One HRNetV2 body, without a head; stages are called one by one.

    `start(x)` turns images (n, 3, h, w) into 4 · 64 channels at stride 4. `transitions[i]` and then
    `stages[i]`, for i of 0 to 2, turn a list of branches into one with a branch more, of strides
    4, 8, 16 and 32 and `widths` channels.

    Tensors are those of HRNet-W32 as timm has it, except for upsampling, which is bilinear here as
    in segmentation. `stem` "released" moves the first ReLU behind the second convolution, as the
    published code of paper 002 does. Source: Wang et al., "Deep high-resolution representation
    learning for visual recognition", 2020; paper 002, section 2.2.
    """

    def __init__(self, width: int = 32, stem: Stem = "canonical") -> None:
        """Raises UsageError for a width below 1 or an unknown stem."""
        super().__init__()
        if width < 1:
            raise UsageError(f"An HRNet is at least 1 channel wide; got width={width}.")
        if stem not in ("canonical", "released"):
            raise UsageError(f'The stem is "canonical" or "released"; got {stem!r}.')
        self.kind = stem
        self.widths = tuple(width * 2**branch for branch in range(4))
        first = [nn.Conv2d(3, 64, 3, 2, 1, bias=False), _norm(64)]
        second = nn.Conv2d(64, 64, 3, 2, 1, bias=False)
        between = [_relu(), second] if stem == "canonical" else [second, _relu()]
        self.stem = nn.Sequential(*first, *between, _norm(64), _relu())
        self.layer1 = nn.Sequential(
            _bottleneck(64), *(_bottleneck(256) for _ in range(_BLOCKS - 1))
        )
        self.transitions = nn.ModuleList()
        self.stages = nn.ModuleList()
        before: Sequence[int] = (256,)
        for branches, modules in enumerate(_MODULES, 2):
            widths = self.widths[:branches]
            self.transitions.append(Transition(before, widths))
            self.stages.append(nn.Sequential(*(Exchange(widths) for _ in range(modules))))
            before = widths
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.001)

    def start(self, x: Tensor) -> list[Tensor]:
        """Images to the one branch at stride 4 that the first transition takes."""
        return [self.layer1(self.stem(x))]


class Transition(nn.Module):
    """Adds a branch of half the resolution; branches whose width changes pass a convolution."""

    def __init__(self, before: Sequence[int], after: Sequence[int]) -> None:
        super().__init__()
        self.paths = nn.ModuleList()
        for branch, width in enumerate(after):
            if branch == len(before):
                self.paths.append(_conv(before[-1], width, step=2))
            elif before[branch] == width:
                self.paths.append(nn.Identity())
            else:
                self.paths.append(_conv(before[branch], width))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        # The new branch, without a source of its own, comes of the coarsest one.
        sources = [*features, features[-1]]
        return [path(x) for path, x in zip(self.paths, sources, strict=True)]


class Exchange(nn.Module):
    """Residual blocks along each branch, then each branch becomes the sum of all, resampled."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(Residual(_basic(width)) for _ in range(_BLOCKS))) for width in widths
        )
        self.paths = nn.ModuleList(
            nn.ModuleList(_path(widths, source, target) for source in range(len(widths)))
            for target in range(len(widths))
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        found = [branch(x) for branch, x in zip(self.branches, features, strict=True)]
        joined = []
        for target, paths in zip(found, self.paths, strict=True):
            parts = [
                resized(path(x), target)
                for path, x in zip(paths, found, strict=True)  # type: ignore[call-overload]
            ]
            joined.append(functional.relu(sum(parts[1:], parts[0])))
        return joined


class Residual(nn.Module):
    """Convolutions around which the input goes, too."""

    def __init__(self, convs: nn.Sequential, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.convs = convs
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.convs(x) + self.shortcut(x))


def resized(x: Tensor, like: Tensor) -> Tensor:
    """Features at the height and width of others, bilinearly."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return functional.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


def from_timm(tensors: Mapping[str, Tensor], stem: Stem = "canonical") -> dict[str, Tensor]:
    """The tensors of timm's HRNet (`hrnet_w32` and its sisters) under the names of `HRNet`.

    Those of the classifier, which a body does not have, are left out.
    """
    return {
        _renamed(name, stem): tensor
        for name, tensor in tensors.items()
        if not name.startswith(CLASSIFIER)
    }


CLASSIFIER = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")
"""How the names of timm's tensors begin that classify images."""


def _renamed(name: str, stem: Stem) -> str:
    places = {"conv1": 0, "bn1": 1, "conv2": 3 if stem == "canonical" else 2, "bn2": 4}
    if found := re.match(r"(conv1|bn1|conv2|bn2)\.", name):
        return name.replace(found[1], f"stem.{places[found[1]]}", 1)
    name = re.sub(r"^transition(\d)\.", lambda m: f"transitions.{int(m[1]) - 1}.paths.", name)
    name = re.sub(r"^stage(\d)\.", lambda m: f"stages.{int(m[1]) - 2}.", name)
    # A transition's new branch is a chain of one.
    name = re.sub(r"^(transitions\.\d\.paths\.\d)\.0\.(\d\.)", r"\1.\2", name)
    name = re.sub(r"\.conv(\d)\.", lambda m: f".convs.{3 * int(m[1]) - 3}.", name)
    name = re.sub(r"\.bn(\d)\.", lambda m: f".convs.{3 * int(m[1]) - 2}.", name)
    return name.replace(".fuse_layers.", ".paths.").replace(".downsample.", ".shortcut.")


def _path(widths: Sequence[int], source: int, target: int) -> nn.Module:
    """From one branch to another: widened and later upsampled, or halved step by step."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(
            nn.Conv2d(widths[source], widths[target], 1, bias=False), _norm(widths[target])
        )
    # Halving keeps the width up to its last step.
    steps = [widths[source]] * (target - source) + [widths[target]]
    chain = [_conv(a, b, step=2) for a, b in pairwise(steps)]
    return nn.Sequential(*chain[:-1], _without_relu(chain[-1]))


def _basic(width: int) -> nn.Sequential:
    return nn.Sequential(*_conv(width, width), *_without_relu(_conv(width, width)))


def _without_relu(conv: nn.Sequential) -> nn.Sequential:
    return nn.Sequential(*list(conv)[:-1])


def _bottleneck(channels: int) -> Residual:
    convs = nn.Sequential(
        nn.Conv2d(channels, 64, 1, bias=False), _norm(64), _relu(),
        *_conv(64, 64),
        nn.Conv2d(64, 256, 1, bias=False), _norm(256),
    )  # fmt: skip
    if channels == 256:
        return Residual(convs)
    return Residual(convs, nn.Sequential(nn.Conv2d(channels, 256, 1, bias=False), _norm(256)))


def _conv(channels: int, width: int, step: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, step, 1, bias=False), _norm(width), _relu())


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, momentum=MOMENTUM)


def _relu() -> nn.ReLU:
    return nn.ReLU(inplace=True)
