"""Training Deep-Disaster: it finds what it never saw, goes on where it stopped, and spares its teacher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aftermap.models.adversarial import print_progress, train_student, train_teacher
from aftermap.models.adversarial_course import Course, adversarial_step
from aftermap.models.adversarial_recipe import AdversarialConfig, linear_rule
from aftermap.models.batches import normalised
from aftermap.models.checkpoint import load, read_card
from aftermap.models.deep_disaster import DeepDisaster
from aftermap.models.distillation import OMEGA, Distillation, Form
from aftermap.models.loop import Tick, silence
from aftermap.models.roc import auc
from aftermap.models.skip_ganomaly import SkipGANomaly
from aftermap.models.state import history
from aftermap.scenes.errors import Refused, UsageError
from textures import Textures, clouds, waves
from torch import Tensor
from torch.nn import functional

pytestmark = pytest.mark.usefixtures("one_thread")


def config(out: Path, **changes: Any) -> AdversarialConfig:
    basic = AdversarialConfig(out=str(out), side=16, width=4, batch=16, epochs=4, lr=1e-3)
    return replace(basic, **changes)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A teacher of clouds, trained for about a second."""
    torch.set_num_threads(1)
    recipe = config(tmp_path_factory.mktemp("teacher"), width=8, epochs=6)
    return str(train_teacher(recipe, clouds(256), silence))


def seen(textures: Textures) -> Tensor:
    return normalised(torch.from_numpy(textures.pictures), (0.5,) * 3, (0.5,) * 3)


def loaded(path: Path) -> DeepDisaster:
    network, _ = load(path)
    assert isinstance(network, DeepDisaster)
    return network


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_the_learning_rate_falls_as_in_the_published_code() -> None:
    """Of the reference, run."""
    found = [linear_rule(epoch) for epoch in (0, 14, 15, 50, 114)]
    assert found == pytest.approx([1, 1, 0.990099, 0.643564, 0.009901], abs=1e-6)


@pytest.mark.parametrize("form", ["paper", "code"])
def test_a_step_is_that_of_two_optimisers(form: Form) -> None:
    torch.manual_seed(0)
    network, leader = SkipGANomaly(4, 16), SkipGANomaly(4, 16).eval()
    other = deepcopy(network)
    terms = Distillation(form, 0.5)
    one = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.5, 0.999))
    first, second = (
        torch.optim.Adam(part.parameters(), lr=1e-3, betas=(0.5, 0.999))
        for part in (other.generator, other.discriminator)
    )
    x = seen(waves(16))
    with torch.no_grad():
        lesson = leader(x)
    bce = functional.binary_cross_entropy
    for _ in range(3):
        adversarial_step(network, one, x, terms, lesson)
        drawn = other.generator(x)
        probability, latent = other.discriminator(drawn)
        own = other.discriminator(x)[1].detach()
        fooled = bce(probability, torch.ones(16))
        if form == "paper":
            fooled = torch.log(1 - probability).mean()
        value = [
            functional.mse_loss(drawn, lesson.image),
            functional.mse_loss(latent, lesson.latent),
        ]
        turn = [
            (1 - functional.cosine_similarity(a.flatten(1), b.flatten(1))).mean()
            for a, b in ((drawn, lesson.image), (latent, lesson.latent))
        ]
        lat = (own - latent).flatten(1).norm(dim=1).mean()
        if form == "code":
            lat = functional.mse_loss(latent, own)
        k = [
            0.5 * v + d if form == "code" else v + 0.5 * d for v, d in zip(value, turn, strict=True)
        ]
        first.zero_grad()
        (fooled + 20 * functional.l1_loss(drawn, x) + lat + 50 * k[0] + k[1]).backward()
        first.step()
        fake, fake_latent = other.discriminator(drawn.detach())
        real, real_latent = other.discriminator(x)
        lat = (real_latent - fake_latent).flatten(1).norm(dim=1).mean()
        v = functional.mse_loss(fake_latent, lesson.latent)
        d = (
            1 - functional.cosine_similarity(fake_latent.flatten(1), lesson.latent.flatten(1))
        ).mean()
        if form == "code":
            lat = functional.mse_loss(fake_latent, real_latent)
        second.zero_grad()
        known = 0.5 * v + d if form == "code" else v + 0.5 * d
        (bce(real, torch.ones(16)) + bce(fake, torch.zeros(16)) + lat + known).backward()
        second.step()
    for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=2e-5)
    assert all(p.grad is None for p in leader.parameters())


@pytest.mark.parametrize("form", ["paper", "code"])
def test_what_it_never_saw_scores_higher(teacher: str, tmp_path: Path, form: Form) -> None:
    recipe = config(tmp_path, teacher=teacher, form=form, epochs=12, augment=False)
    network = loaded(train_student(recipe, waves(128), progress=silence))
    test = waves(80, broken=40, seed=5)
    with torch.no_grad():
        scores, terms = network.scores(seen(test)).numpy(), network.terms(seen(test)).numpy()
    for name, values, least in (
        ("score", scores, 0.95),
        ("student and teacher", terms[:, 2], 0.85),
    ):
        area = auc(values, np.array(test.labels))
        assert area is not None
        assert area > least, name
    quiet = scores[40:]
    assert (quiet > 0.5).mean() < 0.2, "the threshold is a score of one half"


def test_alpha_is_found_from_the_errors_before_training(teacher: str, tmp_path: Path) -> None:
    recipe = config(tmp_path, teacher=teacher, epochs=1, augment=False, batch=32)
    options = read_card(train_student(recipe, waves(32), progress=silence)).options
    torch.manual_seed(0)
    fresh = DeepDisaster(width=4, teacher_width=8, side=16).train()
    assert fresh.teacher is not None
    assert fresh.student is not None
    fresh.teacher.load_state_dict(load(teacher)[0].state_dict())
    with torch.no_grad():
        mine, wanted = fresh.student(seen(waves(32))), fresh.teacher(seen(waves(32)))
        pairs = [(mine.image, wanted.image), (mine.latent, wanted.latent)]
        value = sum(float(functional.mse_loss(a, b)) for a, b in pairs)
        turn = sum(
            float((1 - functional.cosine_similarity(a.flatten(1), b.flatten(1))).mean())
            for a, b in pairs
        )
    assert options["alpha"] == pytest.approx(value / turn, rel=1e-3)
    code = replace(recipe, out=str(tmp_path / "code"), form="code")
    assert read_card(train_student(code, waves(32), progress=silence)).options["alpha"] == 0.7


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_the_teacher_is_the_same_to_the_bit_afterwards(
    teacher: str, tmp_path: Path, batch_statistics: bool
) -> None:
    recipe = config(tmp_path, teacher=teacher, epochs=2, batch_statistics=batch_statistics)
    network = loaded(train_student(recipe, waves(32), waves(8, 4), silence))
    assert network.teacher is not None
    assert same(network.teacher, load(teacher)[0])


class Killed(Exception):
    """In place of a signal."""


def killing(epoch: int, step: int) -> Any:
    def kill(tick: Tick) -> None:
        if (tick.epoch, tick.step) == (epoch, step):
            raise Killed

    return kill


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"form": "code", "batch_statistics": True, "selection": "auc"},
        {"structure": "together", "teacher_width": 6, "hints": ("image", "latent", "bottleneck")},
    ],
)
def test_resumed_training_ends_with_the_same_weights(
    teacher: str, tmp_path: Path, changes: dict[str, Any]
) -> None:
    file = None if "structure" in changes else teacher
    whole = config(tmp_path / "whole", teacher=file, **changes)
    parts = replace(whole, out=str(tmp_path / "parts"))
    images, held = waves(64, broken=2), waves(20, 10, seed=3)
    finished = train_student(whole, images, held, silence)
    for epoch, step in ((1, 2), (3, 2)):
        with pytest.raises(Killed):
            train_student(parts, images, held, killing(epoch, step))
    told: list[int] = []
    resumed = train_student(parts, images, held, lambda tick: told.append(tick.epoch))
    assert min(told) == 3
    assert finished.read_bytes() == resumed.read_bytes()
    assert read_card(finished) == read_card(resumed)
    assert history(whole.out) == history(parts.out)


def test_a_resumed_teacher_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Killed by a signal, while it trains."""
    whole, parts = config(tmp_path / "whole"), config(tmp_path / "parts")
    finished = train_teacher(whole, clouds(48), silence)
    program = f"""
import os, signal, torch
torch.set_num_threads(1)
from aftermap.models.adversarial import train_teacher
from aftermap.models.adversarial_recipe import AdversarialConfig
from textures import clouds
def kill(tick):
    if (tick.epoch, tick.step) == (3, 2):
        os.kill(os.getpid(), signal.SIGKILL)
train_teacher(AdversarialConfig(out={parts.out!r}, side=16, width=4, batch=16, epochs=4, lr=1e-3), clouds(48), kill)
"""
    places = (os.environ.get("PYTHONPATH", ""), str(Path(__file__).resolve().parents[1]))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))}
    done = subprocess.run([sys.executable, "-c", program], env=environment)
    assert done.returncode == -signal.SIGKILL
    assert len(history(parts.out)) == 2
    resumed = train_teacher(parts, clouds(48), silence)
    assert finished.read_bytes() == resumed.read_bytes()
    again = train_teacher(parts, clouds(48), killing(1, 1))
    assert again.read_bytes() == finished.read_bytes()
    with pytest.raises(Killed):
        train_teacher(parts, clouds(48), killing(1, 1), fresh=True)


def test_each_epoch_has_an_order_of_its_own_and_leaves_out_what_fills_no_batch(
    tmp_path: Path,
) -> None:
    images = waves(40)
    recipe = config(tmp_path, augment=False, workers=3)
    network = SkipGANomaly(4, 16)
    course = Course(recipe, network, images, range(4, 40), torch.device("cpu"))
    first, again, other = (torch.cat(list(course.batches(epoch))) for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    known = {x.numpy().tobytes(): i for i, x in enumerate(seen(images).contiguous())}
    orders = [[known[x.contiguous().numpy().tobytes()] for x in found] for found in (first, other)]
    for order in orders:
        assert len(order) == len(set(order)) == 32
        assert min(order) >= 4
    assert orders[0] != orders[1]


def test_a_state_of_another_training_is_refused(teacher: str, tmp_path: Path) -> None:
    recipe = config(tmp_path, teacher=teacher, epochs=1)
    train_student(recipe, waves(32), progress=silence)
    with pytest.raises(Refused, match=r"form was paper, now code.*--fresh"):
        train_student(replace(recipe, form="code"), waves(32), progress=silence)
    with pytest.raises(Refused, match="images was 32, now 48"):
        train_student(recipe, waves(48), progress=silence)
    other = train_teacher(config(tmp_path / "t", width=8, epochs=1), clouds(16), silence)
    with pytest.raises(Refused, match="teacher was"):
        train_student(replace(recipe, teacher=str(other)), waves(32), progress=silence)
    moved = tmp_path / "moved.safetensors"
    for suffix in (".safetensors", ".json"):
        content = Path(teacher).with_suffix(suffix).read_bytes()
        moved.with_suffix(suffix).write_bytes(content)
    train_student(replace(recipe, teacher=str(moved)), waves(32), progress=silence)


@pytest.mark.parametrize("structure", ["student", "teacher", "together"])
def test_other_structures_train_what_they_say(tmp_path: Path, structure: Any) -> None:
    recipe = config(tmp_path, structure=structure, teacher_width=6, epochs=6, augment=False)
    network = loaded(train_student(recipe, waves(96), waves(40, 20, seed=3), silence))
    torch.manual_seed(0)
    begun = DeepDisaster(width=4, teacher_width=6, side=16, scored=network.scored)
    assert (network.teacher is None) == (structure == "student")
    assert (network.student is None) == (structure == "teacher")
    for mine, first in ((network.teacher, begun.teacher), (network.student, begun.student)):
        if mine is not None:
            assert first is not None
            pairs = zip(mine.parameters(), first.parameters(), strict=True)
            assert not any(torch.equal(a, b) for a, b in pairs)
    assert read_card(tmp_path / "deep-disaster").metrics["auc"] > 0.8


def test_the_best_epoch_of_the_held_out_images_is_kept(teacher: str, tmp_path: Path) -> None:
    held = waves(40, 20, seed=3)
    recipe = config(tmp_path, teacher=teacher, selection="auc", epochs=5, lr=3e-3, form="code")
    path = train_student(recipe, waves(64), held, silence)
    areas = [entry["auc"] for entry in history(recipe.out)]
    assert len(set(areas)) > 1
    card, network = read_card(path), loaded(path)
    assert card.metrics["auc"] == pytest.approx(max(areas))
    assert card.metrics["epoch"] == 1 + areas.index(max(areas))
    with torch.no_grad():
        scores = network.scores(seen(held)).numpy()
    assert auc(scores, np.array(held.labels)) == pytest.approx(max(areas), abs=0.01)


def test_weights_are_sought_and_the_threshold_follows(teacher: str, tmp_path: Path) -> None:
    held = waves(80, 40, seed=3)
    plain = config(tmp_path, teacher=teacher, form="code", epochs=2)
    usual = read_card(train_student(plain, waves(32), held, silence))
    sought = replace(plain, search_omega=True, contamination=0.25)
    path = train_student(sought, waves(32), held, silence)  # the training itself is done
    card, network = read_card(path), loaded(path)
    assert usual.options["omega"] == list(OMEGA)
    assert sum(card.options["omega"]) == pytest.approx(1)
    assert card.metrics["auc"] >= usual.metrics["auc"]
    with torch.no_grad():
        scores = network.scores(seen(held)).numpy()
    assert (scores[40:] > 0.5).mean() == pytest.approx(0.25)


def test_balanced_terms_count_by_how_unusual_they_are(teacher: str, tmp_path: Path) -> None:
    images = waves(48)
    asked = config(tmp_path, teacher=teacher, epochs=1, balanced=True, omega=(0.5, 0.3, 0.2))
    path = train_student(asked, images, progress=silence)
    network = loaded(path)
    with torch.no_grad():
        terms = network.terms(seen(images)).numpy()
    shares = terms.std(axis=0) * np.array(network.omega)
    assert shares / shares.sum() == pytest.approx([0.5, 0.3, 0.2], abs=1e-4)
    assert sum(network.omega) == pytest.approx(1)
    sought = replace(asked, search_omega=True)
    held = waves(80, 40, seed=3)
    other = read_card(train_student(sought, images, held, silence))
    assert other.options["omega"] != list(network.omega)


def test_damaged_images_are_not_learnt_from(teacher: str, tmp_path: Path) -> None:
    """Nor looked at."""

    class Guarded(Textures):
        def image(self, index: int) -> np.ndarray:
            assert not self.labels[index]
            return super().image(index)

    half = waves(48, broken=16)
    recipe = config(tmp_path, teacher=teacher, epochs=1)
    train_student(recipe, Guarded(half.pictures, half.labels), progress=silence)


def test_what_cannot_be_trained_is_refused_in_words(teacher: str, tmp_path: Path) -> None:
    recipe = config(tmp_path, teacher=teacher, epochs=1)
    with pytest.raises(Refused, match=r"photos: 12 images .* batch of 16.*--batch"):
        train_student(recipe, waves(20, broken=8), progress=silence)
    with pytest.raises(Refused, match=r"12 images .* batch of 16.*--batch"):
        train_teacher(replace(recipe, teacher=None), clouds(12), silence)
    with pytest.raises(Refused, match=r"Image \d+ is uint8 \(3, 32, 32\), not uint8 \(3, 16, 16\)"):
        train_student(recipe, waves(16, side=32), progress=silence)
    with pytest.raises(Refused, match=r"of 8 8 show damage and 0 none.*--selection auc"):
        train_student(replace(recipe, selection="auc"), waves(16), waves(8, 8), silence)
    with pytest.raises(UsageError, match="--teacher"):
        train_student(replace(recipe, teacher=None), waves(16), progress=silence)
    with pytest.raises(Refused, match=r"images of 16 px.*asked for are 32 px.*--side"):
        train_student(replace(recipe, side=32), waves(16, side=32), progress=silence)
    with pytest.raises(UsageError, match=r"learns from no other.*Leave out --teacher"):
        train_teacher(recipe, clouds(16), silence)
    odd = config(tmp_path / "odd", search_omega=True, contamination=0.2, structure="student")
    with pytest.raises(UsageError, match="--structure and --search-omega and --contamination"):
        train_teacher(odd, clouds(16), silence)
    assert not (tmp_path / "odd").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 0}, "epochs must be positive"),
        ({"epochs": 116}, "--schedule constant"),
        ({"lr": float("nan")}, "lr must be positive"),
        ({"seed": -1}, "--seed -1"),
        ({"contamination": 1.0}, "contamination is a share"),
        ({"structure": "both"}, "structure is one of distilled, student, teacher, together"),
        ({"structure": "student", "teacher": "t"}, "Leave out --teacher"),
        ({"betas": (0.5, 1.0)}, "betas lie in"),
    ],
)
def test_unusable_values_are_said(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        config(Path("nowhere"), **changes)


def test_progress_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_progress(Tick(2, 9, 4, 4, 1.25, 0.0, 0.0))
    print_progress(Tick(3, 9, 4, 4, 1.25, 0.0, 0.0, 0.875))
    first, second = capsys.readouterr().err.strip().split("\n")
    assert first == "epoch 2/9  loss 1.2500"
    assert "score 0.8750" in second
