"""The results that papers published, beside which ours are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Variant = Literal["none", "pretrained", "frozen"]
"""How a network's encoder begins: at random, pre-trained, or pre-trained and then frozen."""

VARIANTS: tuple[Variant, ...] = ("none", "pretrained", "frozen")


@dataclass(frozen=True)
class PublishedRow:
    """One row of paper 001, table III, percent, over all pixels of 28 test chips of 1024 px together."""

    method: str
    variant: Variant
    accuracy: float
    precision: float
    recall: float
    f1: float
    iou: float


TABLE_III: tuple[PublishedRow, ...] = (
    PublishedRow("fc-ef", "none", 94.45, 53.54, 53.15, 53.34, 36.37),
    PublishedRow("fc-siam-conc", "none", 94.58, 54.12, 55.95, 55.02, 37.95),
    PublishedRow("fc-siam-diff", "none", 94.99, 59.12, 52.50, 55.62, 38.52),
    PublishedRow("fc-ef", "pretrained", 94.76, 57.46, 47.21, 51.83, 34.98),
    PublishedRow("fc-siam-conc", "pretrained", 93.30, 45.09, 59.83, 51.42, 34.61),
    PublishedRow("fc-siam-diff", "pretrained", 93.20, 44.79, 58.87, 50.87, 34.11),
    PublishedRow("fc-ef", "frozen", 88.80, 26.64, 49.82, 34.71, 21.00),
    PublishedRow("fc-siam-conc", "frozen", 92.99, 41.69, 45.87, 43.68, 27.94),
    PublishedRow("fc-siam-diff", "frozen", 88.84, 25.47, 44.95, 32.52, 19.42),
)


@dataclass(frozen=True)
class PublishedScore:
    """What the challenge's server said of paper 002, percent, over all pixels of a test set."""

    where: str
    score: float
    localization_f1: float | None = None
    damage_f1: float | None = None
    """None where nothing but the score was told."""


@dataclass(frozen=True)
class PublishedValidation:
    """At what a training of paper 004 stopped."""

    loss: float
    accuracy: float
    """0-1."""


AMATRICE_VALIDATION = PublishedValidation(0.28, 0.89)
"""Paper 004, of its network of footprints; it tells no other figure."""


XVIEW2_SCORES = (
    PublishedScore("the challenge's test set", 76.775, 86.570, 72.577),
    PublishedScore("the hold-out", 77.862),
)
"""Paper 002, table 2, with the third digit of its text. F1 of single levels were not published."""
