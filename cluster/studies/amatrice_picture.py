"""The figures of paper 004 for test chips: probability, binarised, opened, and the map of buildings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...models.chips.chip import Chip
from ...models.evaluation import probability_map
from ...models.unet import GridClassifier, UNetFootprints
from ...models.unet_grid import opened
from ...scenes.legend import UNGRADED, entry
from .sheet import draw_sheet

_TITLES = ("before", "after", "truth", "probability", "binarised", "opened", "map")


@dataclass(frozen=True)
class Shown:
    """What both networks say of a chip."""

    chip: Chip
    probability: np.ndarray
    """Of buildings, float32 (h, w)."""
    binary: np.ndarray
    """Where that exceeds the threshold; bool."""
    opened: np.ndarray
    """The same without specks; bool."""
    codes: np.ndarray
    """1 for buildings, 5 for those in damaged cells; uint8."""

    @classmethod
    def of(
        cls,
        chip: Chip,
        footprints: UNetFootprints,
        threshold: float,
        cells: GridClassifier,
        damage_threshold: float,
    ) -> Shown:
        """Run both on a chip of whole cells."""
        probability = probability_map(footprints, chip)[0, 0]
        damage = probability_map(cells, chip)[0, 0].cpu().numpy()
        binary = probability > threshold
        kept = opened(binary[None])[0].cpu().numpy()
        codes = np.where(kept, np.where(damage > damage_threshold, UNGRADED, 1), 0)
        return cls(
            chip, probability.cpu().numpy(), binary.cpu().numpy(), kept, codes.astype(np.uint8)
        )


def draw_shown(rows: Sequence[Shown], side: int = 190) -> bytes:
    """Draw a row of seven pictures of `side` px for each chip; PNG.

    The first three of the study's own are those of the paper's figure 3, the last that of figure 4.
    """
    return draw_sheet(
        [(s.chip.name, list(zip(_pictures(s), _TITLES, strict=True))) for s in rows], side
    )


def _pictures(shown: Shown) -> list[np.ndarray]:
    """The seven, uint8 (h, w, 3)."""
    chip = shown.chip
    grey = [
        np.repeat((255 * x).astype(np.uint8)[..., None], 3, axis=2)
        for x in (shown.probability, shown.binary, shown.opened)
    ]
    after = chip.post.transpose(1, 2, 0)
    truth = _painted(np.zeros_like(after), chip.codes)
    return [chip.pre.transpose(1, 2, 0), after, truth, *grey, _painted(after, shown.codes)]


def _painted(ground: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """A picture with the legend's colours where codes are not background."""
    out = ground.copy()
    for code in np.unique(codes[codes > 0]).tolist():
        out[codes == code] = entry(code).rgb
    return out
