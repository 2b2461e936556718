"""The whole network learnt: tuned on most of the ground, and held against the last layer alone on the rest."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...models.bottlenecks import Pictures
from ...models.curves import ScoreCounts
from ...models.fine_tuning import FineTuning, fine_tune
from ...models.heads import HEADS, LinearHead
from ...models.inception_window import InceptionWindow
from .config import Heads
from .fitting import Learning, best_threshold, scores_of
from .parts import LEAST


@dataclass(frozen=True)
class Trial:
    """A tuned network and the last layer alone, on chips of ground that neither has learnt from."""

    aside: int
    """Chips of that ground."""
    damaged: int
    """Of them, those with damage."""
    head: float | None = None
    """Average precision of the last layer alone; None where too few chips were there to tune."""
    network: float | None = None
    """Average precision of the tuned network."""

    @property
    def better(self) -> bool:
        """Whether the tuned network is."""
        return self.head is not None and self.network is not None and self.network > self.head

    def text(self) -> str:
        """In words."""
        on = f"{self.aside} chips kept aside ({self.damaged} with damage)"
        if self.head is None or self.network is None:
            return (
                f"the last layer alone: to tune the network {LEAST} chips of each kind are needed on the "
                f"ground that is kept aside, and on the rest; there are {on}"
            )
        which = "the whole network" if self.better else "the last layer alone is kept"
        return (
            f"{which}: average precision tuned {self.network:.3f}, last layer alone {self.head:.3f}, "
            f"on {on}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def tuned(
    network: InceptionWindow,
    pictures: Pictures,
    learning: Learning,
    head: Heads,
    features_of: Callable[[InceptionWindow], np.ndarray],
    progress: Callable[[int, int], None],
    tuning: FineTuning | None = None,
) -> tuple[Trial, float]:
    """Tune a network on ground that is not kept aside, and say how it does on what is.

    It begins with the last layer fitted to the same chips. Where it is better than that layer alone the
    network is left tuned, else as it was. `learning` has the network's features of the pictures, and
    `features_of` gives those of another. Also returns the threshold, the one with the highest F1 on the
    chips kept aside.
    """
    aside, damaged = learning.aside, learning.damaged
    counts = [int((damaged[part] == kind).sum()) for part in (~aside, aside) for kind in (0, 1)]
    trial = Trial(int(aside.sum()), counts[-1])
    if min(counts) < LEAST:
        return trial, 0.5
    layer = HEADS[head]().fit(learning.features[~aside], damaged[~aside])
    assert isinstance(layer, LinearHead)
    other = copy.deepcopy(network)
    other.set_head(*layer.tensors())
    before = scores_of(other, learning.features[aside])
    fine_tune(other, pictures, damaged, np.flatnonzero(~aside), tuning, progress)
    after = scores_of(other, features_of(other)[aside])
    precisions = [_average_precision(scores, damaged[aside]) for scores in (before, after)]
    trial = Trial(trial.aside, trial.damaged, *precisions)
    if trial.better:
        network.load_state_dict(other.state_dict())
    return trial, best_threshold(after, damaged[aside], learning.share)


def _average_precision(scores: np.ndarray, damaged: np.ndarray) -> float:
    if not np.isfinite(scores).all():  # what was tuned came apart
        return 0.0
    found = ScoreCounts.of(scores, damaged).average_precision
    assert found is not None
    return round(found, 6)  # two that make no error are equal
