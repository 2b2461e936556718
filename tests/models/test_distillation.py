"""Losses and score of Deep-Disaster, computed a second time with numpy and scipy."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from aftermap.models.distillation import (
    OMEGA,
    Distillation,
    Form,
    best_omega,
    direction_error,
    initial_alpha,
    projection,
    value_error,
)
from aftermap.models.roc import auc
from aftermap.models.skip_ganomaly import Reconstruction
from aftermap.scenes.errors import UsageError
from scipy.spatial.distance import cosine
from torch import Tensor
from torch.nn import functional

pytestmark = pytest.mark.usefixtures("one_thread")

FORMS: tuple[Literal["paper", "code"], ...] = ("paper", "code")


def made(seed: int, n: int = 3) -> Reconstruction:
    g = torch.Generator().manual_seed(seed)
    return Reconstruction(
        torch.rand(n, 3, 4, 4, generator=g) * 2 - 1,
        torch.randn(n, 8, 1, 1, generator=g),
        torch.rand(n, generator=g),
        torch.randn(n, 10, 1, 1, generator=g),
    )


IMAGES, OWN, REAL = made(0).image, made(0).latent, made(0).probability
STUDENT, LEADER = made(1), made(2)


def rows(x: Tensor) -> np.ndarray:
    return x.double().numpy().reshape(len(x), -1)


def mse(a: Tensor, b: Tensor) -> np.ndarray:
    return ((rows(a) - rows(b)) ** 2).mean(axis=1)


def angle(a: Tensor, b: Tensor) -> np.ndarray:
    return np.array([cosine(*pair) for pair in zip(rows(a), rows(b), strict=True)])


def mae(a: Tensor, b: Tensor) -> np.ndarray:
    return np.abs(rows(a) - rows(b)).mean(axis=1)


def latent(a: Tensor, b: Tensor, form: Form) -> np.ndarray:
    return mse(a, b) if form == "code" else np.linalg.norm(rows(a) - rows(b), axis=1)


def knowledge(a: Tensor, b: Tensor, form: Form, alpha: float) -> np.ndarray:
    if form == "code":
        return alpha * mse(a, b) + angle(a, b)
    return mse(a, b) + alpha * angle(a, b)


def test_errors_in_value_and_direction() -> None:
    a, b = STUDENT.latent, LEADER.latent
    np.testing.assert_allclose(value_error(a, b).numpy(), mse(a, b), rtol=1e-5)
    np.testing.assert_allclose(direction_error(a, b).numpy(), angle(a, b), rtol=1e-5)
    assert float(value_error(a, b).mean()) == pytest.approx(float(functional.mse_loss(a, b)))
    assert direction_error(a, 3 * a).abs().max() < 1e-6
    assert direction_error(a, -a).sub(2).abs().max() < 1e-6
    assert torch.equal(value_error(a, a), torch.zeros(3))


@pytest.mark.parametrize("form", FORMS)
def test_the_generators_loss(form: Form) -> None:
    terms = Distillation(form, 0.3, ("image", "latent", "bottleneck"))
    found = float(terms.generator_loss(IMAGES, OWN, STUDENT, LEADER))
    p = rows(STUDENT.probability)
    adversarial = (-np.log(p)).mean() if form == "code" else np.log(1 - p).mean()
    expected = (
        adversarial
        + 20 * mae(IMAGES, STUDENT.image).mean()
        + latent(OWN, STUDENT.latent, form).mean()
        + 50 * knowledge(STUDENT.image, LEADER.image, form, 0.3).mean()
        + knowledge(STUDENT.latent, LEADER.latent, form, 0.3).mean()
        + knowledge(STUDENT.bottleneck, LEADER.bottleneck, form, 0.3).mean()
    )
    assert found == pytest.approx(expected, rel=1e-5)
    alone = float(terms.generator_loss(IMAGES, OWN, STUDENT))
    assert alone == pytest.approx(
        adversarial
        + 20 * mae(IMAGES, STUDENT.image).mean()
        + latent(OWN, STUDENT.latent, form).mean(),
        rel=1e-5,
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_discriminators_loss(form: Form) -> None:
    terms = Distillation(form, 0.3)
    found = float(terms.discriminator_loss((REAL, OWN), STUDENT, LEADER))
    expected = (
        -np.log(rows(REAL)).mean()
        - np.log(1 - rows(STUDENT.probability)).mean()
        + latent(OWN, STUDENT.latent, form).mean()
        + knowledge(STUDENT.latent, LEADER.latent, form, 0.3).mean()
    )
    assert found == pytest.approx(expected, rel=1e-5)
    image_only = Distillation(form, 0.3, ("image",))
    assert float(image_only.discriminator_loss((REAL, OWN), STUDENT, LEADER)) == pytest.approx(
        float(terms.discriminator_loss((REAL, OWN), STUDENT, None))
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_score(form: Form) -> None:
    terms = Distillation(form, 0.7)
    found = terms.score_terms(IMAGES, OWN, STUDENT, LEADER).double().numpy() @ np.array(OMEGA)
    pixels = mse if form == "code" else mae
    expected = (
        0.4 * pixels(IMAGES, STUDENT.image)
        + 0.2 * latent(OWN, STUDENT.latent, form)
        + 0.4 * knowledge(STUDENT.latent, LEADER.latent, form, 0.7)
        + 0.4 * knowledge(STUDENT.image, LEADER.image, form, 0.7)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not terms.score_terms(IMAGES, OWN, STUDENT, None)[:, 2].any()


@pytest.mark.parametrize("form", FORMS)
def test_the_objective_of_maps_is_equation_8_with_5_as_printed(form: Form) -> None:
    found = Distillation(form, 0.3).objective(IMAGES, (REAL, OWN), STUDENT, LEADER)
    expected = (
        np.log(rows(REAL)[:, 0])
        + np.log(1 - rows(STUDENT.probability)[:, 0])
        + 20 * mae(IMAGES, STUDENT.image)
        + latent(OWN, STUDENT.latent, form)
        + 50 * knowledge(STUDENT.image, LEADER.image, form, 0.3)
        + knowledge(STUDENT.latent, LEADER.latent, form, 0.3)
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_the_forms_differ_where_the_paper_and_its_code_do() -> None:
    paper, code = Distillation("paper", 0.7), Distillation("code", 0.7)
    value, direction = torch.tensor(2.0), torch.tensor(3.0)
    assert float(paper.knowledge(value, direction)) == pytest.approx(2 + 0.7 * 3)
    assert float(code.knowledge(value, direction)) == pytest.approx(0.7 * 2 + 3)
    both = [t.score_terms(IMAGES, OWN, STUDENT, LEADER) for t in (paper, code)]
    assert (both[0] != both[1]).all()


def test_alpha_brings_both_errors_into_one_range() -> None:
    alpha = initial_alpha(("image", "latent"), STUDENT, LEADER)
    value = mse(STUDENT.image, LEADER.image).mean() + mse(STUDENT.latent, LEADER.latent).mean()
    turn = angle(STUDENT.image, LEADER.image).mean() + angle(STUDENT.latent, LEADER.latent).mean()
    assert alpha == pytest.approx(value / turn, rel=1e-5)
    assert np.isfinite(initial_alpha(("image",), STUDENT, STUDENT))


def test_certain_discriminators_give_finite_slopes() -> None:
    certain = STUDENT._replace(probability=torch.tensor([1.0, 0.0, 1.0]).requires_grad_())
    for form in FORMS:
        terms = Distillation(form)
        for loss in (
            terms.generator_loss(IMAGES, OWN, certain, LEADER),
            terms.discriminator_loss((REAL, OWN), certain, LEADER),
            terms.objective(IMAGES, (REAL, OWN), certain, LEADER).sum(),
        ):
            (slope,) = torch.autograd.grad(loss, certain.probability)
            assert torch.isfinite(loss)
            assert torch.isfinite(slope).all()


def test_the_projection_is_fixed_and_keeps_distances_on_average() -> None:
    assert torch.equal(projection(512, 128), projection(512, 128))
    assert not torch.equal(projection(512, 128), projection(512, 128, seed=1))
    x = torch.randn(200, 512, generator=torch.Generator().manual_seed(5))
    kept = (x @ projection(512, 128).T).norm(dim=1) / x.norm(dim=1)
    assert float(kept.mean()) == pytest.approx(1, abs=0.02)
    assert float(kept.std()) < 0.1


def test_the_search_for_weights_finds_the_term_that_tells() -> None:
    rng = np.random.default_rng(0)
    damaged = rng.random(80) < 0.5
    damaged[:2] = [True, False]
    terms = rng.random((80, 3))
    terms[:, 1] += 0.8 * damaged
    omega = best_omega(terms, damaged)
    assert sum(omega) == pytest.approx(1)
    assert omega[1] >= 0.6
    best, usual = (auc(terms @ np.array(w), damaged) for w in (omega, OMEGA))
    assert best is not None
    assert usual is not None
    assert best > usual
    # Where nothing tells better, the paper's weights stay.
    assert best_omega(np.repeat(terms[:, 1:2], 3, axis=1), damaged) == pytest.approx(OMEGA)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"form": "thesis"}, "form is one of paper, code; got 'thesis'"),
        ({"hints": ("image", "z")}, "hints are some of image, latent, bottleneck; got image, z"),
        ({"hints": ("image", "image")}, "got image, image"),
        ({"alpha": float("nan")}, "alpha must be 0 or more"),
    ],
)
def test_what_does_not_exist_is_said(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Distillation(**options)
