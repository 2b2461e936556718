"""Classifiers on features, against numpy and scikit-learn."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from aftermap.models import heads
from aftermap.models.heads import HEADS, Fitter, Forest, LinearHead, LinearSVM, Logistic, Softmax
from aftermap.models.inception_window import InceptionWindow
from aftermap.scenes.errors import Refused, UsageError
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

pytestmark = pytest.mark.usefixtures("one_thread")


def clouds(each: int = 60, gap: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two clouds of points in eight dimensions of very different scales."""
    rng = np.random.default_rng(seed)
    labels = np.arange(2 * each) % 2 == 1
    points = rng.normal(size=(2 * each, 8)) + gap * labels[:, None] * (np.arange(8) < 3)
    return (points * np.logspace(-2, 2, 8) + 5).astype(np.float32), labels


def fitters() -> dict[str, Fitter]:
    return {name: Forest(50) if name == "forest" else make() for name, make in HEADS.items()}


@pytest.mark.parametrize("name", HEADS)
def test_clouds_are_told_apart_by_all(name: str) -> None:
    features, labels = clouds(gap=3)
    features = (features - 5) / np.logspace(-2, 2, 8).astype(np.float32)
    head = fitters()[name].fit(features, labels)
    other, truth = clouds(gap=3, seed=1)
    scores = head.scores((other - 5) / np.logspace(-2, 2, 8).astype(np.float32))
    assert scores.shape == (120,)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert roc_auc_score(truth, scores) > 0.98
    assert ((scores > 0.5) == truth).mean() > 0.93
    again = fitters()[name].fit(features, labels)
    assert np.array_equal(again.scores(other), head.scores(other))


def test_softmax_is_the_gradient_descent_of_the_paper() -> None:
    features, labels = clouds(20)
    features = features / 100
    ours = Softmax(steps=60, batch=7, rate=0.05, seed=4).fit(features, labels)
    rng = np.random.default_rng(4)
    first = heads._layer(8, int(rng.integers(2**63)))
    weight, bias = first.weight.detach().numpy().astype(float), np.zeros(2)
    assert np.abs(weight).max() <= 0.002
    classes = [np.flatnonzero(~labels), np.flatnonzero(labels)]
    for _ in range(60):
        chosen = rng.integers(2, size=7)
        x = features[[rng.choice(classes[c]) for c in chosen]].astype(float)
        logits = x @ weight.T + bias
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        error = odds / odds.sum(axis=1, keepdims=True) - np.eye(2)[chosen]
        weight, bias = weight - 0.05 * error.T @ x / 7, bias - 0.05 * error.mean(axis=0)
    np.testing.assert_allclose(ours.weight, weight, atol=1e-5)
    np.testing.assert_allclose(ours.bias, bias, atol=1e-5)


def test_the_first_weights_are_a_truncated_normal() -> None:
    weight = heads._layer(50_000, 0).weight.detach().numpy()
    assert np.abs(weight).max() <= 0.002
    # A normal distribution cut off at two deviations has 0.8796 of the deviation.
    assert weight.std() == pytest.approx(0.8796e-3, rel=0.01)
    assert weight.mean() == pytest.approx(0, abs=2e-5)


def test_softmax_draws_classes_alike() -> None:
    """One damaged photo among a thousand is drawn as often as all others together."""
    features = np.zeros((1001, 1), np.float32)
    features[0] = 1
    labels = np.arange(1001) == 0
    head = Softmax(steps=4000).fit(features, labels)
    # With classes drawn by their frequency the bias would go towards "no damage" by log 1000.
    assert head.scores(features[1:2])[0] < 0.5 < head.scores(features[:1])[0]


def test_seeds_differ() -> None:
    features, labels = clouds()
    assert not np.array_equal(
        Softmax(seed=0).fit(features, labels).weight, Softmax(seed=1).fit(features, labels).weight
    )


def test_softmax_leaves_torch_s_generator_alone() -> None:
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    Softmax(steps=1).fit(*clouds())
    assert torch.equal(torch.rand(3), wanted)


def test_logistic_is_scikit_learn_s() -> None:
    features, labels = clouds()
    theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    wanted = theirs.fit(features.astype(float), labels).predict_proba(features.astype(float))[:, 1]
    np.testing.assert_allclose(Logistic().fit(features, labels).scores(features), wanted, atol=1e-4)


def test_svm_orders_as_scikit_learn_s_and_is_calibrated() -> None:
    features, labels = clouds(200, gap=0.7)
    head = LinearSVM().fit(features, labels)
    theirs = make_pipeline(StandardScaler(), LinearSVC(random_state=0, max_iter=20_000))
    margins = theirs.fit(features.astype(float), labels).decision_function(features.astype(float))
    scores = head.scores(features)
    assert np.corrcoef(np.log(scores / (1 - scores)), margins)[0, 1] > 0.99999
    other, truth = clouds(400, gap=0.7, seed=1)
    calibrated = CalibratedClassifierCV(theirs, cv=5, ensemble=False).fit(features, labels)
    wanted = log_loss(truth, calibrated.predict_proba(other)[:, 1])
    assert log_loss(truth, head.scores(other)) == pytest.approx(wanted, abs=0.02)


def test_forest_is_scikit_learn_s() -> None:
    features, labels = clouds()
    theirs = RandomForestClassifier(40, random_state=3).fit(features, labels)
    ours = Forest(40, seed=3).fit(features, labels)
    assert np.array_equal(ours.scores(features), theirs.predict_proba(features)[:, 1])
    assert Forest().trees == 1000


@pytest.mark.parametrize("name", ["softmax", "logistic", "svm"])
def test_linear_heads_go_into_the_network(name: str) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 512)).astype(np.float32)
    head = HEADS[name]().fit(features, np.arange(40) % 2 == 0)
    assert isinstance(head, LinearHead)
    network = InceptionWindow("resnet18", 32)
    network.set_head(*head.tensors())
    with torch.no_grad():
        logits = network.head(torch.from_numpy(features))
    found = logits.softmax(dim=1)[:, 1].numpy()
    np.testing.assert_allclose(found, head.scores(features), atol=1e-4)


def test_scores_of_extremes_are_finite() -> None:
    head = LinearHead(np.array([[0.0], [1.0]], np.float32), np.zeros(2, np.float32))
    with np.errstate(all="raise"):
        found = head.scores(np.array([[-600.0], [0.0], [600.0]]))
    np.testing.assert_allclose(found, [0, 0.5, 1], atol=1e-12)


@pytest.mark.parametrize("name", HEADS)
def test_one_class_and_broken_features_are_refused(name: str) -> None:
    features, labels = clouds(5)
    with pytest.raises(Refused, match="got 10 with damage and 0 without"):
        HEADS[name]().fit(features, np.ones(10, bool))
    features[3, 2] = np.nan
    with pytest.raises(Refused, match="features of 1 of 10 photos are not finite"):
        HEADS[name]().fit(features, labels)
    with pytest.raises(ValueError, match="do not match"):
        HEADS[name]().fit(features, labels[:4])


def test_an_svm_needs_two_of_each() -> None:
    features, labels = clouds(5)
    with pytest.raises(Refused, match="needs 2 photos or more of each class; got 1 with"):
        LinearSVM().fit(features, np.arange(10) == 0)
    assert LinearSVM().fit(features[:4], labels[:4]).scores(features).shape == (10,)


def test_features_that_never_vary_say_nothing() -> None:
    features, labels = clouds()
    features[:, 5] = 7
    for fitter in (Logistic(), LinearSVM()):
        head = fitter.fit(features, labels)
        assert np.isfinite(head.weight).all()
        assert abs(head.weight[1, 5]) < 1e-6


@pytest.mark.parametrize("name", ["logistic", "svm", "forest"])
def test_without_scikit_learn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("linear_model", "svm", "ensemble"):
        monkeypatch.setitem(sys.modules, f"sklearn.{module}", None)
    with pytest.raises(UsageError, match=r'pip install "aftermap\[zoo\]"'):
        HEADS[name]().fit(*clouds())
    assert Softmax(steps=5).fit(*clouds()).weight.shape == (2, 8)
