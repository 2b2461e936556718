"""Dual-HRNet, the network of paper 002: where buildings are, and how damaged they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..scenes.errors import UsageError
from ..scenes.plan import Window
from .damage_net import DamageNet, without_halo
from .hrnet import MOMENTUM, STRIDE, HRNet, Stem, from_timm, resized

LEVELS = 4
"""Damage levels that the second head tells apart."""


class DualHRNet(DamageNet):
    """Two HRNets, one for each date, that exchange features at three places.

    `forward(pre, post)`: two float tensors (n, 3, h, w), already normalised, with h and w divisible
    by 32; returns the logits of buildings (n, 2: background, building) and of damage levels (n, 4),
    both at a quarter of the height and width. The head of buildings sits on the image before, that
    of levels on the image after.

    Source: paper 002, section 2.2, and its published code.
    """

    classes = 1 + LEVELS
    in_channels = 3

    def __init__(self, width: int = 32, stem: Stem = "canonical") -> None:
        """`width` is that of the finest branch. Raises UsageError for unusable values."""
        super().__init__()
        self.before = HRNet(width, stem)
        self.after = HRNet(width, stem)
        widths = self.before.widths
        self.fusions = nn.ModuleList(Fusion(widths[:count]) for count in (2, 3, 4))
        self.buildings = _head(sum(widths), 2)
        self.levels = _head(sum(widths), LEVELS)

    @property
    def stride(self) -> int:
        """Pixels per side of the coarsest cell: what sizes must be divisible by."""
        return STRIDE

    @property
    def encoders(self) -> Sequence[nn.Module]:
        """Both bodies."""
        return (self.before, self.after)

    def window(self, core: int | None = None, halo: int | None = None) -> Window:
        """Squares of 1,024 px, as published, that fade into each other over 128 px.

        The network sees its whole square, and further: no halo makes tiles equal the whole image.
        """
        return Window(core or 896, 512 if halo is None else halo, blended=True)

    def forward(self, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        self._check(pre, post)
        first, second = self.before.start(pre), self.after.start(post)
        for i, fuse in enumerate(self.fusions):
            first, second = fuse(
                self.before.transitions[i](first), self.after.transitions[i](second)
            )
            first, second = self.before.stages[i](first), self.after.stages[i](second)
        return self.buildings(_joined(first)), self.levels(_joined(second))

    def probabilities(self, pre: Tensor, post: Tensor, halo: int = 0) -> Tensor:
        """Of background and of each level as a building's, (n, 5, h, w), fp32.

        Logits are upsampled bilinearly before softmax, as in the published inference.
        """
        buildings, levels = (without_halo(resized(x.float(), pre), halo) for x in self(pre, post))
        background, building = buildings.softmax(dim=1).split(1, dim=1)
        return torch.cat([background, building * levels.softmax(dim=1)], dim=1)

    def codes(self, probabilities: Tensor, threshold: float = 0.5) -> Tensor:
        """The most probable level where a building is more probable than none, else 0."""
        level = probabilities[:, 1:].max(dim=1).indices + 1
        building = probabilities[:, 0] < 0.5
        return (level * building).to(torch.uint8)

    def load_bodies(self, tensors: Mapping[str, Tensor]) -> None:
        """Begin both bodies with the tensors of timm's `hrnet_w32`; its classifier is left out.

        The published code left out the transitions too, without a word. Raises UsageError naming
        tensors that are missing, unknown or of another shape.
        """
        for body in (self.before, self.after):
            found = from_timm(tensors, body.kind)
            wanted = body.state_dict()
            # Older files do not count batches; the count changes nothing here.
            missing = [k for k in wanted.keys() - found.keys() if "num_batches" not in k]
            unfit = [k for k in found if k not in wanted or found[k].shape != wanted[k].shape]
            if missing or unfit:
                raise UsageError(
                    f"These are not the weights of an HRNet of width {body.widths[0]}: "
                    f"{len(missing)} tensors are missing ({', '.join(sorted(missing)[:3])}), "
                    f"{len(unfit)} are unknown or of another shape ({', '.join(unfit[:3])})."
                )
            body.load_state_dict(found, strict=False)

    def _check(self, pre: Tensor, post: Tensor) -> None:
        if pre.shape != post.shape or pre.ndim != 4 or pre.shape[1] != 3:
            raise UsageError(
                f"The network takes two tensors (n, 3, h, w) of one shape; got pre "
                f"{tuple(pre.shape)} and post {tuple(post.shape)}."
            )
        if pre.shape[-2] % STRIDE or pre.shape[-1] % STRIDE:
            raise UsageError(
                f"Height and width must be divisible by {STRIDE}; got "
                f"{pre.shape[-2]}×{pre.shape[-1]} px."
            )


class Fusion(nn.Module):
    """Each stream becomes a mix of both, branch by branch; paper 002, figure 3."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.before = nn.ModuleList(map(_mix, widths))
        self.after = nn.ModuleList(map(_mix, widths))

    def forward(
        self, before: list[Tensor], after: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        both = [torch.cat(pair, dim=1) for pair in zip(before, after, strict=True)]
        first, second = (
            [mix(x) for mix, x in zip(mixes, both, strict=True)]
            for mixes in (self.before, self.after)
        )
        return first, second


def _mix(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2 * width, width, 1, bias=False),
        nn.BatchNorm2d(width, momentum=MOMENTUM),
        nn.ReLU(inplace=True),
    )


def _head(channels: int, classes: int) -> nn.Sequential:
    head = nn.Sequential(
        nn.Conv2d(channels, channels, 1),
        nn.BatchNorm2d(channels, momentum=MOMENTUM),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, classes, 1),
    )
    for layer in head:
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.001)
    return head


def _joined(branches: list[Tensor]) -> Tensor:
    """All branches at the resolution of the finest, as channels."""
    return torch.cat([resized(x, branches[0]) for x in branches], dim=1)
