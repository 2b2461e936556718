"""Deep-Disaster: the teacher stays as it is, scores are those of eq. 9, and cards make it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from aftermap.models import build
from aftermap.models.card import Card
from aftermap.models.checkpoint import load, save
from aftermap.models.deep_disaster import DeepDisaster
from aftermap.models.distillation import Form
from aftermap.models.score_net import ScoreNet
from aftermap.scenes.errors import UsageError
from torch import Tensor
from torch.nn import functional

pytestmark = pytest.mark.usefixtures("one_thread")


def small(**options: Any) -> DeepDisaster:
    torch.manual_seed(0)
    network = build("deep-disaster", **{"width": 4, "teacher_width": 6, "side": 16} | options)
    assert isinstance(network, DeepDisaster)
    return network


def images(n: int = 4, seed: int = 1) -> Tensor:
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def learn_statistics(network: DeepDisaster) -> None:
    """Give BatchNorm running statistics that differ from those of a batch."""
    for module in (network.teacher, network.student):
        if module is not None:
            module.train()
            with torch.no_grad():
                module(images(16, 7) * 0.5)
    network.eval()


@pytest.mark.parametrize("form", ["paper", "code"])
def test_the_score_is_equation_9_of_both_networks(form: Form) -> None:
    network = small(form=form, alpha=0.6, unit=0.25).eval()
    learn_statistics(network)
    x = images()
    teacher, student = network.teacher, network.student
    assert teacher is not None
    assert student is not None
    with torch.no_grad():
        drawn, wanted = student.generator(x), teacher.generator(x)
        own, latent = student.discriminator(x)[1], student.discriminator(drawn)[1]
        told = teacher.discriminator(wanted)[1]
        expected = []
        for i in range(len(x)):
            mse = [functional.mse_loss(*p) for p in ((drawn[i], wanted[i]), (latent[i], told[i]))]
            turn = [
                1 - functional.cosine_similarity(a[i].flatten(), b[i].flatten(), dim=0)
                for a, b in ((drawn, wanted), (latent, told))
            ]
            if form == "code":
                first = functional.mse_loss(x[i], drawn[i])
                second = functional.mse_loss(own[i], latent[i])
                third = 0.6 * sum(mse) + sum(turn)
            else:
                first = functional.l1_loss(x[i], drawn[i])
                second = (own[i] - latent[i]).norm()
                third = sum(mse) + 0.6 * sum(turn)
            expected.append(0.4 * first + 0.2 * second + 0.4 * third)
        anomaly = network.anomaly(x)
        torch.testing.assert_close(anomaly, torch.stack(expected), rtol=1e-5, atol=1e-6)
        scores = network.scores(x)
    torch.testing.assert_close(scores, anomaly / (anomaly + 0.25))
    assert torch.equal(scores, network(x).detach())
    assert scores.dtype == torch.float32
    assert torch.equal(scores.argsort(), anomaly.argsort())


def test_an_anomaly_of_half_scores_one_half() -> None:
    network = small().eval()
    with torch.no_grad():
        anomaly = network.anomaly(images(1))
        assert float(small(unit=float(anomaly)).eval().scores(images(1))) == pytest.approx(0.5)


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_a_frozen_teacher_never_changes(batch_statistics: bool) -> None:
    network = small(batch_statistics=batch_statistics)
    teacher = network.teacher
    assert teacher is not None
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        network.train()
        network.scores(images()).sum().backward()
        optimizer.step()
        network.eval()
        network.scores(images())
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert not teacher.training


def test_a_thawed_teacher_learns() -> None:
    network = small()
    network.freeze(False)
    assert network.teacher is not None
    assert network.teacher.training
    assert not network.eval().teacher.training  # type: ignore[union-attr]
    assert all(p.requires_grad for p in network.parameters())
    network.train().freeze()
    assert not network.teacher.training
    assert not any(p.requires_grad for p in network.teacher.parameters())


def test_scores_do_not_depend_on_neighbours_unless_asked_for() -> None:
    x = images(6)
    plain, published = small(), small(batch_statistics=True)
    for network in (plain, published):
        learn_statistics(network)
    with torch.no_grad():
        together, alone = plain.scores(x), torch.cat([plain.scores(one[None]) for one in x])
        torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
        before = {k: v.clone() for k, v in published.state_dict().items()}
        together = published.scores(x)
        first = published.scores(x[:3])
    assert (together[:3] - first).abs().max() > 1e-3
    # The published mode is that of training: whoever scores like this leaves no trace.
    assert all(torch.equal(v, before[k]) for k, v in published.state_dict().items())
    with torch.no_grad():
        for network in (plain.teacher, plain.student):
            assert network is not None
            network.train()
        assert torch.equal(plain.scores(x), together)


def test_bottlenecks_of_different_length_are_compared_by_a_fixed_projection() -> None:
    hints = ("image", "latent", "bottleneck")
    network, usual = small(hints=hints).eval(), small().eval()
    usual.load_state_dict({k: v for k, v in network.state_dict().items() if k != "projection"})
    assert "projection" in network.state_dict()
    x = images()
    with torch.no_grad():
        lesson = network.lesson(x)
        assert lesson is not None
        assert network.student is not None
        assert lesson.bottleneck.shape == (4, network.student.bottleneck)
        assert (network.terms(x)[:, 2] > usual.terms(x)[:, 2]).all()
    # Equal lengths need none.
    assert "projection" not in small(hints=hints, teacher_width=4).state_dict()


@pytest.mark.parametrize("scored", ["teacher", "student"])
def test_one_network_alone_is_scored_without_comparison(scored: str) -> None:
    network = small(scored=scored).eval()
    assert (network.student is None) == (scored == "teacher")
    assert (network.teacher is None) == (scored == "student")
    x = images()
    with torch.no_grad():
        terms = network.terms(x)
        drawn = network.judged.generator(x)
    assert not terms[:, 2].any()
    assert float(terms[0, 0]) == pytest.approx(float(functional.l1_loss(x[0], drawn[0])), rel=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"hints": ["image", "latent", "bottleneck"], "omega": [0.1, 0.2, 0.7]}]
)
def test_a_saved_network_comes_back_with_its_card(tmp_path: Path, options: dict[str, Any]) -> None:
    network = small(form="code", unit=0.03, **options)
    learn_statistics(network)
    window = network.window()
    card = Card(
        method="deep-disaster",
        network="deep-disaster",
        options=network.options,
        classes=1,
        bands=3,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        resolution=(0.05, 2.0),
        nominal_resolution=0.5,
        core=window.core,
        halo=window.halo,
        scan=window.scan,
        stride=1,
    )
    save(tmp_path / "net.safetensors", network, card)
    again, read = load(tmp_path / "net.safetensors", method="deep-disaster")
    assert isinstance(again, DeepDisaster)
    assert isinstance(again, ScoreNet)
    assert again.side == read.scan == 16
    assert again.options == network.options
    assert again.teacher is not None
    assert not any(p.requires_grad for p in again.teacher.parameters())
    with torch.inference_mode():
        assert torch.equal(again.scores(images()), network.scores(images()))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scored": "both"}, "scored is one of pair, teacher, student; got 'both'"),
        ({"omega": (0.5, 0.5)}, "omega is three weights"),
        ({"omega": (0, 0, 0)}, "omega is three weights"),
        ({"omega": (-1, 1, 1)}, "omega is three weights"),
        ({"unit": 0.0}, "unit must be positive"),
        ({"form": "thesis"}, "form is one of paper, code"),
        ({"side": 20}, "got side 20"),
    ],
)
def test_unusable_options_are_said(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        small(**options)
