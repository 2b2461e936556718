"""Both networks of paper 004 as one method: footprints before, damage of grid cells after."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..scenes.errors import UsageError
from ..scenes.plan import Window
from .damage_net import DAMAGED, DamageNet, without_halo
from .unet import CELL, GridClassifier, UNetFootprints

_INTACT = 1
_BORDER = 32
"""Px around the four cells of a square, over which footprints fade into those of the next square."""


class UNetGrid(DamageNet):
    """Where buildings stood before, and whether the grid cell that they lie in is damaged.

    Probabilities are two maps: of buildings, from the image before, and of damage, from the image
    after, which is the same all over a cell. Cells lie on a grid anchored to the raster: four around
    each corner of the window's cores. Codes are 1 for buildings and 5 for buildings in damaged
    cells, after specks of one or two pixels are opened away. Paper 004.
    """

    classes = 2
    cut = 1
    margin = 2

    def __init__(
        self,
        footprints: str = "efficientnet-b5",
        cells: str = "resnet34",
        cell: int = CELL,
        building_threshold: float = 0.5,
    ) -> None:
        """`footprints` and `cells` are the networks' encoders, `cell` the side of a cell, px.

        A pixel is a building's where that is more probable than `building_threshold`. Raises
        UsageError for other encoders, for cells that are no multiple of 32 px, and without [zoo].
        """
        super().__init__()
        check_cell(cell)
        if not 0 < building_threshold < 1:
            raise UsageError(f"building_threshold {building_threshold} is not between 0 and 1.")
        self.footprints = UNetFootprints(footprints)
        self.cells = GridClassifier(cells, cell)
        self.building_threshold = building_threshold

    @property
    def stride(self) -> int:
        """What sizes must be divisible by, px."""
        return self.footprints.stride

    @property
    def encoders(self) -> Sequence[nn.Module]:
        """Those of both networks."""
        return (*self.footprints.encoders, *self.cells.encoders)

    def window(self, core: int | None = None, halo: int | None = None) -> Window:
        """Cores of two by two cells, whose squares fade into each other over 64 px."""
        side = 2 * self.cells.cell
        return Window(core or side, side // 2 + _BORDER if halo is None else halo, blended=True)

    def forward(self, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of buildings (n, 1, h, w), and of the four cells around the middle (n, 1, 2, 2)."""
        side = 2 * self.cells.cell
        rows, columns = self._border(post)
        inner = post.narrow(-2, rows, side).narrow(-1, columns, side)
        return self.footprints(pre), self.cells.cells(inner)

    def probabilities(self, pre: Tensor, post: Tensor, halo: int = 0) -> Tensor:
        """Of buildings, and of damage within the four cells around the middle, 0 further out.

        (n, 2, h, w), fp32, without `halo` px on each side.
        """
        buildings, cells = (x.float().sigmoid() for x in self(pre, post))
        rows, columns = self._border(post)
        side = self.cells.cell
        damage = cells.repeat_interleave(side, 2).repeat_interleave(side, 3)
        damage = functional.pad(damage, (columns, columns, rows, rows))
        return without_halo(torch.cat([buildings, damage], dim=1), halo)

    def codes(self, probabilities: Tensor, threshold: float = 0.5) -> Tensor:
        """5 where a building lies in a cell more damaged than `threshold`, 1 where in another, else 0."""
        buildings = opened(probabilities[:, 0] > self.building_threshold)
        damaged = probabilities[:, 1] > threshold
        codes = torch.where(damaged, DAMAGED, _INTACT)
        return (codes * buildings).to(torch.uint8)

    def _border(self, image: Tensor) -> tuple[int, int]:
        """Rows and columns of pixels around the four cells."""
        rows, columns = ((side - 2 * self.cells.cell) // 2 for side in image.shape[-2:])
        if min(rows, columns) < 0:
            raise UsageError(
                f"Four cells of {self.cells.cell} px do not lie within {image.shape[-2]}×"
                f"{image.shape[-1]} px. Give a halo of {self.cells.cell} px or more."
            )
        return rows, columns


def check_cell(side: int) -> None:
    """Refuse cells that squares of four do not leave room for; UsageError."""
    if side < 2 * _BORDER:
        raise UsageError(
            f"Cells of unet-grid have a side of {2 * _BORDER} px or more; got {side}. Train the grid "
            f"classifier with --chip {2 * _BORDER} or more."
        )


def opened(mask: Tensor) -> Tensor:
    """The opening of masks (n, h, w), bool, by a cross of 3 × 3: what no cross fits into is gone.

    What lies outside counts as no building, so a pixel depends on those up to 2 px away.
    """
    eroded = ~_grown(~functional.pad(mask, (1, 1, 1, 1)))[:, 1:-1, 1:-1]
    return _grown(eroded)


def _grown(mask: Tensor) -> Tensor:
    """A mask with the four neighbours of each of its pixels."""
    wide = functional.pad(mask, (1, 1, 1, 1))
    middle = slice(1, -1)
    return (
        mask
        | wide[:, :-2, middle]
        | wide[:, 2:, middle]
        | wide[:, middle, :-2]
        | wide[:, middle, 2:]
    )
