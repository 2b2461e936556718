"""A network tuned as a whole: what it learns from, what changes, and that it is worth it."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from aftermap.models.batches import normalised
from aftermap.models.fine_tuning import BRIGHTNESS, FineTuning, changed, fine_tune
from aftermap.models.heads import Logistic
from aftermap.models.inception_window import InceptionWindow
from aftermap.models.roc import auc
from aftermap.scenes.errors import Refused
from checks_made import Squares
from threadpoolctl import threadpool_limits

SIDE = 32
"""Of squares, px."""

QUICK = FineTuning(epochs=2, rate=1e-3, decay=0.0)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


def _network() -> InceptionWindow:
    torch.manual_seed(0)
    return InceptionWindow("test_resnet", SIDE).eval()


@torch.inference_mode()
def _features(network: InceptionWindow, pixels: np.ndarray) -> torch.Tensor:
    return network.features(normalised(torch.from_numpy(pixels), network.mean, network.std))


@torch.inference_mode()
def _auc(network: InceptionWindow, squares: Squares, some: np.ndarray) -> float:
    scores = network.head(_features(network, squares.pixels[some])).softmax(dim=1)[:, 1]
    found = auc(scores.numpy(), squares.damaged[some])
    assert found is not None
    return found


def test_it_learns_what_the_last_layer_alone_does_not() -> None:
    squares = Squares(500)
    learnt, unseen = np.arange(200), np.arange(200, 500)
    network = _network()
    features = _features(network, squares.pixels[learnt]).numpy()
    network.set_head(*Logistic().fit(features, squares.damaged[learnt]).tensors())
    alone = _auc(network, squares, unseen)
    fine_tune(network, squares, squares.damaged, learnt, FineTuning(epochs=14, rate=3e-3))
    assert alone < 0.85
    assert _auc(network, squares, unseen) > 0.95


def test_everything_learns_but_the_statistics_of_batch_norm() -> None:
    squares, network = Squares(40), _network()
    before = copy.deepcopy(network.state_dict())
    fine_tune(network, squares, squares.damaged, np.arange(40), QUICK)
    learning = {name for name, _ in network.named_parameters()}
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]) == (name not in learning), name
    assert any("running_mean" in name for name in set(before) - learning)
    assert not network.training


def test_squares_are_read_once_an_epoch_and_others_never() -> None:
    squares, told = Squares(40), []
    learnt = np.arange(3, 40, 2)
    fine_tune(_network(), squares, squares.damaged, learnt, QUICK, lambda *done: told.append(done))
    assert squares.read == Counter(dict.fromkeys(learnt.tolist(), QUICK.epochs))
    assert told == [(step, 4) for step in range(1, 5)]


def test_of_very_many_squares_there_are_fewer_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aftermap.models.fine_tuning.MOST_SQUARES", 45)
    for count, epochs in ((22, 2), (24, 1), (40, 1)):
        squares = Squares(50)
        fine_tune(_network(), squares, squares.damaged, np.arange(count), QUICK)
        assert set(squares.read.values()) == {epochs}


def test_the_same_squares_give_the_same_weights() -> None:
    squares = Squares(40)

    def tuned(seed: int) -> list[bytes]:
        network = _network()
        torch.manual_seed(seed + 17)  # whatever else was drawn before does not matter
        tuning = FineTuning(epochs=2, seed=seed)
        fine_tune(network, squares, squares.damaged, np.arange(40), tuning)
        return [tensor.numpy().tobytes() for tensor in network.state_dict().values()]

    first, other = tuned(0), tuned(1)
    torch.manual_seed(3)
    assert tuned(0) == first
    assert other != first


def test_both_kinds_count_the_same() -> None:
    """A blind network, which sees no square at all, learns odds of one to one, however few are damaged."""
    squares = Squares(60)
    squares.damaged[:] = np.arange(60) < 6
    network = _network()
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.copy_(torch.tensor([1.0, -1.0]))
    for parameter in (*network.encoder.parameters(), network.head.weight):
        parameter.requires_grad_(False)
    fine_tune(network, squares, squares.damaged, np.arange(60), FineTuning(60, 60, 0.05, 0.0))
    assert float(network.head.bias.detach().softmax(0)[1]) == pytest.approx(0.5, abs=0.05)


def test_squares_are_turned_mirrored_and_relit_by_their_key_alone() -> None:
    image = np.zeros((3, 9, 9), np.uint8)
    image[0, 1, 2] = 200
    seen = {key: changed(image, (0, 1, key)) for key in range(60)}
    places = {tuple(np.argwhere(found[0])[0]) for found in seen.values()}
    assert places == {(1, 2), (2, 1), (1, 6), (6, 1), (7, 2), (2, 7), (7, 6), (6, 7)}
    light = np.array([found.max() / 200 for found in seen.values()])
    assert 1 - BRIGHTNESS <= light.min() < 0.95
    assert 1.05 < light.max() <= 1 + BRIGHTNESS
    for key, found in seen.items():
        assert np.array_equal(found, changed(image, (0, 1, key)))
    assert changed(np.full((3, 4, 4), 250, np.uint8), (0, 0, 5)).max() <= 255


def test_one_kind_alone_teaches_nothing() -> None:
    squares = Squares(40)
    with pytest.raises(Refused, match=r"All of the \d+ squares are of one kind"):
        fine_tune(_network(), squares, squares.damaged, np.flatnonzero(squares.damaged))
