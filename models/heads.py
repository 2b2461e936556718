"""Classifiers on features of photos: the one layer that paper 003 trains, and others beside it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..scenes.errors import Refused, UsageError

_SPREAD = 0.001
"""Standard deviation of the first weights; beyond twice as much they are drawn again."""

_FOLDS = 5
"""Parts of the photos, of each of which an SVM that has not seen it says the scores."""


class Head(Protocol):
    """A fitted classifier."""

    def scores(self, features: np.ndarray) -> np.ndarray:
        """The probability of damage, float64 (n,), of features (n, d)."""
        ...


class Fitter(Protocol):
    """A way to fit a classifier."""

    def fit(self, features: np.ndarray, labels: np.ndarray) -> Head:
        """A classifier of features (n, d) and of whether each shows damage, bool (n,).

        The same arguments give the same classifier. Raises Refused where there is one class only,
        and for features that are not finite.
        """
        ...


@dataclass(frozen=True, eq=False)
class LinearHead:
    """One linear layer and a softmax, as `InceptionWindow` has."""

    weight: np.ndarray
    """fp32 (2, d): no damage, damage."""
    bias: np.ndarray
    """fp32 (2,)."""

    def scores(self, features: np.ndarray) -> np.ndarray:
        """See Head."""
        logits = features.astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias
        return _sigmoid(logits[:, 1] - logits[:, 0])

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Weight and bias for `InceptionWindow.set_head`."""
        return torch.from_numpy(self.weight), torch.from_numpy(self.bias)


@dataclass(frozen=True)
class ForestHead:
    """A random forest."""

    forest: Any
    """scikit-learn's."""

    def scores(self, features: np.ndarray) -> np.ndarray:
        """See Head."""
        return self.forest.predict_proba(features)[:, 1]


@dataclass(frozen=True)
class Softmax:
    """The layer of paper 003, section 3.5: softmax cross-entropy by plain gradient descent.

    Each photo of a batch is drawn with replacement: first its class, both alike, then the photo.
    TensorFlow's retraining script takes 4000 steps of 100; the paper's code 1000 of 10.
    """

    steps: int = 1000
    batch: int = 10
    rate: float = 0.01
    seed: int = 0

    def fit(self, features: np.ndarray, labels: np.ndarray) -> LinearHead:
        """See Fitter; fp32, weights from a truncated N(0, 0.001), biases from 0."""
        features, labels = _checked(features, labels)
        rng = np.random.default_rng(self.seed)
        inputs = torch.from_numpy(features)
        layer = _layer(inputs.shape[1], int(rng.integers(2**63)))
        optimizer = torch.optim.SGD(layer.parameters(), lr=self.rate)
        classes = [np.flatnonzero(~labels), np.flatnonzero(labels)]
        for _ in range(self.steps):
            chosen = rng.integers(2, size=self.batch)
            rows = np.array([rng.choice(classes[c]) for c in chosen])
            loss = functional.cross_entropy(layer(inputs[rows]), torch.from_numpy(chosen))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return LinearHead(layer.weight.detach().numpy(), layer.bias.detach().numpy())


@dataclass(frozen=True)
class Logistic:
    """Logistic regression on standardised features."""

    strength: float = 1.0
    """Inverse of the regularisation, scikit-learn's C."""

    def fit(self, features: np.ndarray, labels: np.ndarray) -> LinearHead:
        """See Fitter; UsageError without scikit-learn."""
        features, labels = _checked(features, labels)
        model = sklearn_module("linear_model").LogisticRegression(C=self.strength, max_iter=5000)
        slope, offset = _standardised(model, features, labels)
        return _binary(slope, offset)


@dataclass(frozen=True)
class LinearSVM:
    """A linear support vector machine on standardised features.

    Its probabilities are a logistic curve over the margin (Platt), fitted to the margins of photos
    that the machine had not seen; so it stays a linear layer.
    """

    strength: float = 1.0
    """Inverse of the regularisation, scikit-learn's C."""

    def fit(self, features: np.ndarray, labels: np.ndarray) -> LinearHead:
        """See Fitter; UsageError without scikit-learn. Needs two photos of each class."""
        features, labels = _checked(features, labels, least=2)
        svm = sklearn_module("svm").LinearSVC(C=self.strength, random_state=0, max_iter=20_000)
        slope, offset = _standardised(svm, features, labels)
        selection = sklearn_module("model_selection")
        folds = min(_FOLDS, int(labels.sum()), int((~labels).sum()))
        margins = np.empty(len(labels))
        parts = selection.StratifiedKFold(folds, shuffle=True, random_state=0)
        for seen, unseen in parts.split(features, labels):
            a, b = _standardised(svm, features[seen], labels[seen])
            margins[unseen] = features[unseen] @ a + b
        curve = (
            sklearn_module("linear_model").LogisticRegression(C=1e6).fit(margins[:, None], labels)
        )
        rise = float(curve.coef_[0, 0])
        return _binary(rise * slope, rise * offset + float(curve.intercept_[0]))


@dataclass(frozen=True)
class Forest:
    """A random forest; paper 003's code takes a thousand trees for its classical baselines."""

    trees: int = 1000
    seed: int = 0

    def fit(self, features: np.ndarray, labels: np.ndarray) -> ForestHead:
        """See Fitter; UsageError without scikit-learn."""
        features, labels = _checked(features, labels)
        forest = sklearn_module("ensemble").RandomForestClassifier(
            self.trees, random_state=self.seed
        )
        return ForestHead(forest.fit(features, labels))


HEADS: dict[str, Callable[[], Fitter]] = {
    "softmax": Softmax,
    "logistic": Logistic,
    "svm": LinearSVM,
    "forest": Forest,
}
"""Ways to fit a classifier, by name."""


def _checked(
    features: np.ndarray, labels: np.ndarray, least: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Features as fp32 (n, d) and labels as bool (n,)."""
    features, labels = np.ascontiguousarray(features, np.float32), np.asarray(labels, bool)
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(f"features {features.shape} and labels {labels.shape} do not match")
    damaged = int(labels.sum())
    if min(damaged, len(labels) - damaged) < least:
        raise Refused(
            f"A classifier needs {least} photos or more of each class; got {damaged} with damage and "
            f"{len(labels) - damaged} without. Give more photos, or change --data."
        )
    broken = int((~np.isfinite(features).all(axis=1)).sum())
    if broken:
        raise Refused(
            f"The features of {broken} of {len(labels)} photos are not finite: the backbone's weights "
            f"are unsound. Give others with --backbone."
        )
    return features, labels


def _layer(length: int, seed: int) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, length, 2)  # torch's own generator stays where it is
    generator = torch.Generator().manual_seed(seed)
    ends = 2 * _SPREAD
    nn.init.trunc_normal_(layer.weight, std=_SPREAD, a=-ends, b=ends, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def _standardised(model: Any, features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit a linear model to standardised features; slope (d,) and offset for features as they are."""
    features = features.astype(np.float64)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    # What never varies says nothing.
    scale = np.where(deviation > 0, deviation, 1.0)
    model.fit((features - mean) / scale, labels)
    slope = model.coef_[0] / scale
    return slope, float(model.intercept_[0] - slope @ mean)


def _binary(slope: np.ndarray, offset: float) -> LinearHead:
    """The layer whose logits differ by slope · features + offset."""
    weight = np.stack([-slope / 2, slope / 2]).astype(np.float32)
    return LinearHead(weight, np.array([-offset / 2, offset / 2], np.float32))


def _sigmoid(values: np.ndarray) -> np.ndarray:
    # Never the exponential of a large number.
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1, small) / (1 + small)


def sklearn_module(name: str) -> Any:
    """A module of scikit-learn; UsageError where it is not installed."""
    try:
        return importlib.import_module(f"sklearn.{name}")
    except ImportError as error:
        raise UsageError(
            f"scikit-learn could not be imported ({error}). It comes with\n"
            f'  pip install "aftermap[zoo]"'
        ) from error
