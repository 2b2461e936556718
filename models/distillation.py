"""Knowledge distillation between two Skip-GANomaly networks: losses and the anomaly score (paper 000)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..scenes.errors import UsageError
from .roc import auc
from .skip_ganomaly import Reconstruction

Form = Literal["paper", "code"]
"""Whose numbers: the paper's equations, or its published code, which differs from them."""

Hint = Literal["image", "latent", "bottleneck"]
"""Where a student is compared with its teacher: x̂, f(x̂) or z; paper 000, IV.C.3."""

OMEGA = (0.4, 0.2, 0.4)
"""Weights of L, R and the comparison in the anomaly score; paper 000, IV."""

CODE_ALPHA = 0.7
"""The weight that the published code gives to the errors in value."""

_LEAST = 1e-8


@dataclass(frozen=True)
class Distillation:
    """How two networks are taught and compared. Raises UsageError for what does not exist.

    The paper (eq. 3, 4) adds value + alpha · direction, its code alpha · value + direction; the
    latent error is a length in the paper (eq. 7) and a mean square in the code; the generator
    minimises log(1 - D(x̂)) in the paper (eq. 5) and -log D(x̂) in the code; and the score is of
    absolute errors of the image in the paper (eq. 6), of squared ones in the code.
    """

    form: Form = "paper"
    alpha: float = 1.0
    """Brings value and direction into one range; see `initial_alpha`."""
    hints: tuple[Hint, ...] = ("image", "latent")
    """What is compared; () compares nothing."""
    adversarial: float = 1.0
    """Weight of a loss, as the others; paper 000, IV."""
    contextual: float = 20.0
    latent: float = 1.0
    knowledge_image: float = 50.0
    knowledge_latent: float = 1.0
    """Of f(x̂), and of z, for which the paper gives no weight of its own."""

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise UsageError(f"form is one of {', '.join(get_args(Form))}; got {self.form!r}.")
        unknown = [hint for hint in self.hints if hint not in get_args(Hint)]
        if unknown or len(set(self.hints)) < len(self.hints):
            raise UsageError(
                f"hints are some of {', '.join(get_args(Hint))}; got {', '.join(self.hints)}."
            )
        if not 0 <= self.alpha < float("inf"):
            raise UsageError(f"alpha must be 0 or more and finite; got {self.alpha}.")

    def latent_error(self, own: Tensor, other: Tensor) -> Tensor:
        """Per image (n,), between f(x) and f(x̂): eq. 7, or its mean square in the code."""
        if self.form == "code":
            return value_error(own, other)
        return torch.linalg.vector_norm(_flat(own) - _flat(other), dim=1)

    def knowledge(self, value: Tensor, direction: Tensor) -> Tensor:
        """Errors in value and in direction as one; eq. 3 and 4."""
        if self.form == "code":
            return self.alpha * value + direction
        return value + self.alpha * direction

    def lesson(self, hint: Hint, student: Reconstruction, teacher: Reconstruction) -> Tensor:
        """Per image (n,), how far the student is from its teacher at one place."""
        mine, wanted = getattr(student, hint), getattr(teacher, hint)
        return self.knowledge(value_error(mine, wanted), direction_error(mine, wanted))

    def generator_loss(
        self,
        images: Tensor,
        own: Tensor,
        made: Reconstruction,
        teacher: Reconstruction | None = None,
    ) -> Tensor:
        """What a generator minimises, eq. 8; `own` is f(x). Without a teacher that of Skip-GANomaly."""
        loss = (
            self.adversarial * self._fooled(made.probability)
            + self.contextual * absolute_error(images, made.image).mean()
            + self.latent * self.latent_error(own, made.latent).mean()
        )
        if teacher is not None:
            for hint in self.hints:
                loss = loss + self._weight(hint) * self.lesson(hint, made, teacher).mean()
        return loss

    def discriminator_loss(
        self, real: tuple[Tensor, Tensor], made: Reconstruction, teacher: Reconstruction | None
    ) -> Tensor:
        """What a discriminator minimises: eq. 5, and, as in the code, errors of its latent vectors.

        `real` is D(x) and f(x). `made` must come from an x̂ that was cut off its generator, which
        has changed since.
        """
        probability, own = real
        loss = self.adversarial * (
            functional.binary_cross_entropy(probability, torch.ones_like(probability))
            + functional.binary_cross_entropy(made.probability, torch.zeros_like(probability))
        )
        loss = loss + self.latent * self.latent_error(own, made.latent).mean()
        if teacher is not None and "latent" in self.hints:
            loss = loss + self._weight("latent") * self.lesson("latent", made, teacher).mean()
        return loss

    def objective(
        self,
        images: Tensor,
        real: tuple[Tensor, Tensor],
        made: Reconstruction,
        teacher: Reconstruction | None,
    ) -> Tensor:
        """Eq. 8 with eq. 5 as printed, per image (n,): what maps of damage differentiate."""
        probability, own = real
        adversarial = _log(probability) + _log(1 - made.probability)
        found = (
            self.adversarial * adversarial
            + self.contextual * absolute_error(images, made.image)
            + self.latent * self.latent_error(own, made.latent)
        )
        if teacher is not None:
            for hint in self.hints:
                found = found + self._weight(hint) * self.lesson(hint, made, teacher)
        return found

    def score_terms(
        self, images: Tensor, own: Tensor, made: Reconstruction, teacher: Reconstruction | None
    ) -> Tensor:
        """L, R and V with D of eq. 9: fp32 (n, 3), to be weighed by `OMEGA`. Nothing is normalised.

        Without a teacher the third is 0.
        """
        error = squared_error if self.form == "code" else absolute_error
        terms = [error(images, made.image), self.latent_error(own, made.latent)]
        compared = torch.zeros_like(terms[0])
        if teacher is not None:
            for hint in self.hints:
                compared = compared + self.lesson(hint, made, teacher)
        return torch.stack([*terms, compared], dim=1)

    def _weight(self, hint: Hint) -> float:
        return self.knowledge_image if hint == "image" else self.knowledge_latent

    def _fooled(self, probability: Tensor) -> Tensor:
        """The generator's part of eq. 5; the code's variant has slopes where the paper's has none."""
        if self.form == "code":
            return functional.binary_cross_entropy(probability, torch.ones_like(probability))
        return -functional.binary_cross_entropy(probability, torch.zeros_like(probability))


def absolute_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference per image (n,): eq. 6 over the number of values, as its weight wants."""
    return (_flat(a) - _flat(b)).abs().mean(dim=1)


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference per image (n,)."""
    return (_flat(a) - _flat(b)).square().mean(dim=1)


value_error = squared_error
"""Difference of activations in value, eq. 1."""


def direction_error(a: Tensor, b: Tensor) -> Tensor:
    """One less the cosine between the flattened activations of each image (n,), 0-2; eq. 2.

    The paper prints one less the sum of the cosines of all places compared, which falls below 0;
    here, as in its code, each place has its own.
    """
    return 1 - functional.cosine_similarity(_flat(a), _flat(b), dim=1, eps=_LEAST)


def initial_alpha(hints: Sequence[Hint], student: Reconstruction, teacher: Reconstruction) -> float:
    """The alpha that gives direction the range of value, from errors before training; III.B.

    The ratio of both errors, each summed over the places compared.
    """
    pairs = [(getattr(student, hint), getattr(teacher, hint)) for hint in hints]
    value = sum(float(value_error(a, b).mean()) for a, b in pairs)
    direction = sum(float(direction_error(a, b).mean()) for a, b in pairs)
    return value / max(direction, _LEAST)


def projection(wide: int, narrow: int, seed: int = 0) -> Tensor:
    """A fixed random map (narrow, wide) of vectors that keeps their lengths and angles on average.

    Bottlenecks z of networks of different width have different lengths, which no equation of the
    paper provides for: the longer one is mapped to the length of the other.
    """
    random = torch.Generator().manual_seed(seed)
    return torch.randn(narrow, wide, generator=random) / narrow**0.5


def best_omega(terms: np.ndarray, damaged: np.ndarray, steps: int = 10) -> tuple[float, ...]:
    """The weights of eq. 9 of the highest AUC on labelled images that are not tested on.

    `terms` are those of `score_terms`, `damaged` bool (n,). All weights in steps of 1 / `steps`
    that sum to 1 are tried; of equals those nearest to `OMEGA` win.
    """
    grid = [
        (a / steps, b / steps, (steps - a - b) / steps)
        for a, b in itertools.product(range(steps + 1), repeat=2)
        if a + b <= steps
    ]

    def worth(omega: tuple[float, ...]) -> tuple[float, float]:
        area = auc(terms @ np.array(omega), damaged)
        return (area or 0.0, -float(np.square(np.subtract(omega, OMEGA)).sum()))

    return max(grid, key=worth)


def spread_of(terms: np.ndarray) -> np.ndarray:
    """The standard deviation of each term over images, (3,); 1 for a term that is always the same."""
    found = terms.std(axis=0)
    return np.where(found > 0, found, 1.0)


def _flat(x: Tensor) -> Tensor:
    """One row per image, in fp32 where it was less."""
    return x.to(torch.promote_types(x.dtype, torch.float32)).flatten(1)


def _log(probability: Tensor) -> Tensor:
    # So that a discriminator that is certain gives no infinity.
    return torch.log(probability.clamp(min=1e-12))
