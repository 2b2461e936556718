"""Folders of small chips with known damage, as `open_chips` reads them; made here, never downloaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

BLACKENED = 10
"""What damage looks like unless something else is said; images are 60-140."""


def write_chips(
    root: Path,
    masks: Iterable[np.ndarray],
    looks: Mapping[int, int] | None = None,
    name: str = "{:02d}",
) -> Path:
    """Write pre/, post/ and mask/ with a noisy image per mask, uint8 (h, w); returns the folder.

    The after image is the before image but where the mask is not 0: there it has one value, `looks`
    of the mask's code.
    """
    rng = np.random.default_rng(0)
    for folder in ("pre", "post", "mask"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, mask in enumerate(masks):
        pre = rng.integers(60, 140, (*mask.shape, 3)).astype(np.uint8)
        post = pre.copy()
        for code in np.unique(mask[mask > 0]):
            post[mask == code] = (looks or {}).get(int(code), BLACKENED)
        for folder, array in (("pre", pre), ("post", post), ("mask", mask)):
            Image.fromarray(array).save(root / folder / f"{name.format(number)}.png")
    return root


def square(side: int, rows: slice, columns: slice, code: int = 1) -> np.ndarray:
    """A mask of one rectangle."""
    mask = np.zeros((side, side), np.uint8)
    mask[rows, columns] = code
    return mask


def half_damaged(root: Path, count: int = 60) -> Path:
    """Chips of 32 px, every second one with a damaged square in its middle."""
    middle = square(32, np.s_[8:24], np.s_[8:24])
    return write_chips(root, [middle * (number % 2) for number in range(count)])


def with_levels(root: Path, count: int = 60) -> Path:
    """Chips of 32 px, every second one with a strip of each damage level, the darker the worse."""
    strips = np.zeros((32, 32), np.uint8)
    for level in (1, 2, 3, 4):
        strips[8 * (level - 1) : 8 * level, 4:28] = level
    looks = {1: 100, 2: 60, 3: 30, 4: 5}
    return write_chips(root, [strips * (number % 2) for number in range(count)], looks)
