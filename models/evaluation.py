"""How right a network is on chips: over all pixels together, per image, and per level."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..scenes.legend import UNGRADED
from .batches import seen, stacked
from .building_score import building_counts
from .chips.chip import Chip
from .curves import ScoreCounts
from .damage_net import DamageNet, RasterNet
from .losses import IGNORE
from .metrics import DAMAGED, LEVELS, Confusion, XView2Counts, confusion, xview2_counts

FIGURES = ("accuracy", "precision", "recall", "f1", "iou")
"""Of a yes-or-no decision, in the order of paper 001, table III."""


@dataclass(frozen=True, eq=False)
class Levels:
    """Counts of a network that knows levels, over pixels whose level is known; add them up."""

    xview2: XView2Counts = field(default_factory=XView2Counts)
    table: np.ndarray = field(
        default_factory=lambda: np.zeros((len(LEVELS) + 1, len(LEVELS) + 1), np.int64)
    )
    """Pixels by true code 0-4 (rows) and predicted code 0-4 (columns), int64."""
    buildings: XView2Counts = field(default_factory=XView2Counts)
    """As `xview2`, with buildings in the place of pixels."""

    @classmethod
    def of(cls, truth: np.ndarray, found: np.ndarray, known: np.ndarray) -> Levels:
        """Count codes 0-4 of one image, uint8 (h, w), where `known`, bool (h, w)."""
        side = len(LEVELS) + 1
        t, f = truth[known], found[known]
        pairs = np.bincount(t.astype(int) * side + f, minlength=side**2)
        buildings = building_counts(np.where(known, truth, 0), np.where(known, found, 0))
        return cls(xview2_counts(t, t, f, f), pairs.reshape(side, side), buildings)

    def __add__(self, other: Levels) -> Levels:
        return Levels(
            self.xview2 + other.xview2,
            self.table + other.table,
            self.buildings + other.buildings,
        )

    def score(self) -> dict[str, Any]:
        """The xView2 score and its parts, as of `XView2Counts`."""
        return self.xview2.score()


@dataclass(frozen=True)
class Evaluation:
    """Counts over chips; add them up."""

    pixels: Confusion = field(default_factory=Confusion)
    """Damaged or not, over all pixels together (micro), as in paper 001."""
    images: tuple[tuple[str, Confusion], ...] = ()
    """The same for each chip, by name."""
    scores: ScoreCounts = field(default_factory=ScoreCounts)
    levels: Levels | None = None
    """Of networks that know levels."""
    left_out: int = 0
    """Pixels of code 255, which count in no way."""

    def __add__(self, other: Evaluation) -> Evaluation:
        known = [levels for levels in (self.levels, other.levels) if levels is not None]
        return Evaluation(
            self.pixels + other.pixels,
            self.images + other.images,
            self.scores + other.scores,
            sum(known[1:], known[0]) if known else None,
            self.left_out + other.left_out,
        )

    @property
    def damaged_images(self) -> list[tuple[str, Confusion]]:
        """The chips that show damage: of others IoU and recall say nothing."""
        return [(name, found) for name, found in self.images if found.tp + found.fn]

    def per_image(self, average: Callable[[Sequence[float]], float]) -> dict[str, float]:
        """Each figure's average, such as `statistics.fmean`, over the chips that show damage."""
        rows = self.damaged_images
        return {name: average([getattr(c, name) for _, c in rows]) for name in FIGURES if rows}

    def metrics(self) -> dict[str, float]:
        """What a training goes by and a study keeps, over all pixels together.

        "score" is the xView2 score, with its parts, or for one class the IoU of damaged pixels, as
        in paper 001, table III; the figures of damaged pixels are called `damaged_...`.
        """
        damaged = {f"damaged_{name}": getattr(self.pixels, name) for name in FIGURES}
        if self.levels is None:
            return {"score": self.pixels.iou, **damaged}
        score = self.levels.score()
        f1 = {f"f1_level_{i}": v for i, v in enumerate(score.pop("damage_f1_per_class"), 1)}
        return {**score, **f1, **damaged}

    def to_dict(self) -> dict[str, Any]:
        """All figures, named, as plain values; ratios in 0-1."""
        return {
            "micro": {name: getattr(self.pixels, name) for name in FIGURES},
            "mean_over_damaged_images": self.per_image(statistics.fmean),
            "median_over_damaged_images": self.per_image(statistics.median),
            "roc_auc": self.scores.auc,
            "average_precision": self.scores.average_precision,
            "levels": None if self.levels is None else self.levels.score(),
            "building_levels": None if self.levels is None else self.levels.buildings.score(),
            "level_table": None if self.levels is None else self.levels.table.tolist(),
            "images": len(self.images),
            "damaged_images": len(self.damaged_images),
            "pixels": sum(vars(self.pixels).values()),
            "damaged_pixels": self.pixels.tp + self.pixels.fn,
            "left_out_pixels": self.left_out,
        }


@dataclass(frozen=True)
class Prediction:
    """What a network says of a chip."""

    probability: np.ndarray
    """Of damage, float32 (h, w): of the one class, or of levels 2 to 4 together."""
    codes: np.ndarray
    """Damage codes, uint8 (h, w)."""


def predict_chip(network: DamageNet, chip: Chip, threshold: float = 0.5) -> Prediction:
    """Run a network on one chip of any size; see `probability_map`.

    `threshold` is for one class (strictly above it is damaged); levels are the largest
    probability's.
    """
    found = probability_map(network, chip)
    probability = found[0, 0] if network.classes == 1 else found[0, 2:].sum(dim=0)
    codes = network.codes(found, threshold)[0]
    return Prediction(probability.cpu().numpy(), codes.cpu().numpy())


def probability_map(network: RasterNet, chip: Chip) -> Tensor:
    """A network's probabilities of one chip of any size (1, classes, h, w), fp32, on its device.

    The chip is padded to a multiple of the network's stride with the mean colour, as the engine
    pads a raster.
    """
    device = next(network.parameters()).device
    height, width = chip.codes.shape
    pad = (0, -width % network.stride, 0, -height % network.stride)
    images = (functional.pad(x, pad) for x in seen(stacked([chip], network.inputs), device))
    # Otherwise GPUs convolve in a narrower precision, and not always by the same kernel.
    exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), exact:
        return network.eval().probabilities(*images)[..., :height, :width]


def evaluate_chips(network: DamageNet, chips: Iterable[Chip], threshold: float = 0.5) -> Evaluation:
    """Count how right a network is on chips, one at a time; pixels of code 255 are left out."""
    total = Evaluation()
    for chip in chips:
        total += judged(chip, predict_chip(network, chip, threshold), network.classes > 1)
    return total


def judged(chip: Chip, prediction: Prediction, graded: bool) -> Evaluation:
    """The counts of one chip."""
    counts = chip.codes != IGNORE
    truth, found = chip.codes[counts], prediction.codes[counts]
    true = np.isin(truth, DAMAGED)
    pixels = confusion(true, np.isin(found, DAMAGED))
    known = counts & (chip.codes != UNGRADED)
    return Evaluation(
        pixels,
        ((chip.name, pixels),),
        # A sum of levels may exceed 1 by rounding.
        ScoreCounts.of(np.clip(prediction.probability[counts], 0, 1), true),
        Levels.of(chip.codes, prediction.codes, known) if graded else None,
        int(np.count_nonzero(~counts)),
    )
