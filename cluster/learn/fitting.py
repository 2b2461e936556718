"""The layer that is learnt, and from what score on a square counts as damaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...models.heads import HEADS, LinearHead, sklearn_module
from ...models.inception_window import InceptionWindow
from .config import Heads
from .parts import kept_aside

_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Learning:
    """Chips that are learnt from."""

    features: np.ndarray
    """fp32 (n, d)."""
    damaged: np.ndarray
    """bool (n,)."""
    blocks: Sequence[str]
    """The ground that each shows; see `block_of`."""
    tuned: bool = False
    """Whether the backbone that the features are of was tuned, on all ground but what is kept aside."""

    @property
    def aside(self) -> np.ndarray:
        """Chips of ground that no backbone is tuned on, bool (n,)."""
        return np.array([kept_aside(block) for block in self.blocks], bool)

    @property
    def share(self) -> float:
        """Of chips with damage."""
        return float(self.damaged.mean())


def fitted(head: Heads, learning: Learning) -> tuple[LinearHead, float]:
    """The layer, and the threshold with the highest F1 on folds of the chips that were not learnt from.

    Chips of the same ground are in one fold, where there is enough ground for that. Of a tuned backbone
    only those count that it has not learnt from either, if there are some of both kinds. The same chips
    in the same order give the same.
    """
    fitter = HEADS[head]()
    scores = np.full(len(learning.damaged), np.nan)
    for seen, unseen in _folds(learning):
        if learning.damaged[seen].all() or not learning.damaged[seen].any():
            continue
        found = fitter.fit(learning.features[seen], learning.damaged[seen])
        scores[unseen] = found.scores(learning.features[unseen])
    judged = np.isfinite(scores)
    if learning.tuned and len(set(learning.damaged[judged & learning.aside])) == 2:
        judged &= learning.aside
    threshold = best_threshold(scores[judged], learning.damaged[judged], learning.share)
    layer = fitter.fit(learning.features, learning.damaged)
    assert isinstance(layer, LinearHead)
    return layer, threshold


def best_threshold(scores: np.ndarray, damaged: np.ndarray, share: float | None = None) -> float:
    """The threshold (inclusive) with the highest F1, half-way between two scores; 0.5 without damage.

    `share` is that of damage where it is for; None: as here. Of equals the middle one: few tags leave
    wide gaps, and nothing speaks for either end of them.
    """
    if not damaged.any():
        return 0.5
    weight = np.ones(len(damaged))
    if share is not None and not damaged.all():
        weight = np.where(damaged, share / damaged.mean(), (1 - share) / (1 - damaged.mean()))
    levels, level = np.unique(scores, return_inverse=True)
    cuts = np.concatenate([[levels[0] / 2], (levels[1:] + levels[:-1]) / 2])
    found = _at_least(level, weight, len(levels))
    right = _at_least(level[damaged], weight[damaged], len(levels))
    f1 = np.round(2 * right / (found + weight[damaged].sum()), 9)
    best = np.flatnonzero(f1 == f1.max())
    return float(cuts[best[len(best) // 2]])


def _at_least(level: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
    """What those weigh that have a level of at least 0, 1, …, count - 1."""
    return np.bincount(level, weight, count)[::-1].cumsum()[::-1]


@torch.inference_mode()
def scores_of(network: InceptionWindow, features: np.ndarray) -> np.ndarray:
    """What the network itself says of features (n, d): fp32 (n,)."""
    return network.head(torch.from_numpy(features)).float().softmax(dim=1)[:, 1].numpy()


def _folds(learning: Learning) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    selection = sklearn_module("model_selection")
    blocks = np.unique(np.asarray(learning.blocks), return_inverse=True)[1]
    classes = [int(part.sum()) for part in (learning.damaged, ~learning.damaged)]
    grounds = [len(set(blocks[part])) for part in (learning.damaged, ~learning.damaged)]
    if min(grounds) < 2:
        folds = selection.StratifiedKFold(min(_FOLDS, *classes), shuffle=True, random_state=0)
        yield from folds.split(learning.features, learning.damaged)
        return
    folds = selection.StratifiedGroupKFold(min(_FOLDS, *grounds), shuffle=True, random_state=0)
    yield from folds.split(learning.features, learning.damaged, blocks)
