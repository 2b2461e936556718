"""Photos as points of a plane in which like ones lie together: t-SNE; paper 003, section 4.1.1."""

from __future__ import annotations

import numpy as np

from ..scenes.errors import Refused
from .heads import sklearn_module

PERPLEXITY = 30.0
"""About how many neighbours of each photo count; less where there are few photos."""


def embedded(features: np.ndarray, seed: int = 0) -> np.ndarray:
    """Points (n, 2), fp32, of features (n, d), which are standardised first.

    The paper embeds `channel_moments`. The same features and seed give the same points on one
    machine; of photos that do not differ at all, all points are 0. Raises Refused for fewer than
    four photos, and UsageError without scikit-learn.
    """
    if len(features) < 4:
        raise Refused(f"t-SNE needs four photos or more; got {len(features)}. Change --data.")
    features = features.astype(np.float64)
    telling = features[:, np.ptp(features, axis=0) > 0]
    if not telling.shape[1]:
        return np.zeros((len(features), 2), np.float32)  # scikit-learn would end the process
    ready = (telling - telling.mean(axis=0)) / telling.std(axis=0)
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    tsne = sklearn_module("manifold").TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return tsne.fit_transform(ready).astype(np.float32)
