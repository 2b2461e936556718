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


@dataclass(frozen=True)
class PublishedPoint:
    """A point of a ROC curve, 0-1."""

    threshold: float
    true_positive_rate: float
    false_positive_rate: float


OAXACA_POINT = PublishedPoint(0.983629, 0.529412, 0.0)
"""Paper 003, section 4.3; its accuracies are `learning_curve.PUBLISHED`."""

DAD_EVENTS = ("Ruby Typhoon", "Nepal Earthquake", "Ecuador Earthquake", "Matthew Hurricane")
"""The events of paper 000, in the order of its table III."""


@dataclass(frozen=True)
class PublishedAreas:
    """A row of paper 000, table III: areas under the ROC curve, 0-1, of `DAD_EVENTS`."""

    category: str
    method: str
    seen: tuple[float, float, float, float]
    unseen: tuple[float, float, float, float]
    """Of each event, the mean of the models trained on the others."""


DAD_TABLE_III = (
    PublishedAreas(
        "supervised", "VGG19", (0.884, 0.905, 0.8846, 0.765), (0.679, 0.758, 0.822, 0.765)
    ),
    PublishedAreas(
        "supervised", "VGG16", (0.897, 0.898, 0.9276, 0.828), (0.655, 0.795, 0.817, 0.768)
    ),
    PublishedAreas(
        "domain adaptation", "DANN", (0.732, 0.738, 0.795, 0.779), (0.639, 0.73, 0.751, 0.72)
    ),
    PublishedAreas(
        "domain adaptation",
        "SocialTrans",
        (0.742, 0.779, 0.839, 0.806),
        (0.688, 0.745, 0.801, 0.756),
    ),
    PublishedAreas(
        "unsupervised", "Deep-Disaster", (0.857, 0.771, 0.91, 0.822), (0.765, 0.803, 0.945, 0.701)
    ),
)

DAD_EQUAL_WIDTH = (0.715, 0.635, 0.82, 0.631)
"""Paper 000, table II: a student as wide as its teacher, of `DAD_EVENTS`. What its figures 4 and 5 show
of other ablations stands nowhere in numbers."""
