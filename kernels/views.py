"""Ways in which a window is turned for test-time augmentation, and back."""

from __future__ import annotations

from torch import Tensor

VIEWS = (
    (False, False, False), (True, False, False), (False, True, False), (True, True, False),
    (False, False, True), (True, False, True), (False, True, True), (True, True, True),
)  # fmt: skip
"""Whether rows are flipped, columns are, and both change places: first none, then the flips, then the
quarter turns with theirs."""


def turned(x: Tensor, rows: bool, columns: bool, swapped: bool) -> Tensor:
    """Square maps (n, c, side, side) in one of `VIEWS`."""
    if rows or columns:
        x = x.flip([axis for axis, asked in ((-2, rows), (-1, columns)) if asked])
    return x.transpose(-1, -2) if swapped else x


def turned_back(x: Tensor, rows: bool, columns: bool, swapped: bool) -> Tensor:
    """The maps of a turned window as they were before."""
    return turned(x.transpose(-1, -2) if swapped else x, rows, columns, False)
