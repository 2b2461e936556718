"""Training Dual-HRNet: it learns, goes on where it stopped, and begins with a library's weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from aftermap.models.checkpoint import load
from aftermap.models.chips.open import open_chips
from aftermap.models.dual_hrnet import DualHRNet
from aftermap.models.evaluation import evaluate_chips
from aftermap.models.loop import Tick, schedule, silence
from aftermap.models.presets import train_config
from aftermap.models.recipes import TrainConfig
from aftermap.models.training import Segmentation, train
from aftermap.models.zoo import timm
from aftermap.scenes.errors import Refused, UsageError
from aftermap.scenes.plan import Window
from PIL import Image

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright squares on grey ground: the darker after, the higher the level."""
    root = tmp_path_factory.mktemp("chips")
    rng = np.random.default_rng(0)
    for i in range(24):
        pre = rng.integers(60, 80, (96, 96, 3)).astype(np.uint8)
        post, mask = pre.copy(), np.zeros((96, 96), np.uint8)
        for level in range(1, 5):
            top, left = 48 * ((level - 1) // 2), 48 * ((level - 1) % 2)
            row, col = top + rng.integers(16), left + rng.integers(16)
            there = np.s_[row : row + 28, col : col + 28]
            pre[there], post[there], mask[there] = 230, 270 - 60 * level, level
        for name, array in (("pre", pre), ("post", post), ("mask", mask)):
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(array).save(root / name / f"{i:02d}.png")
    return root


def config(chips: Path, out: Path, **changes: Any) -> TrainConfig:
    basic: dict[str, Any] = {
        "out": str(out), "data": (str(chips),), "width": 4, "epochs": 2, "steps": 2, "chip": 32,
        "batch": 4, "core": 96, "halo": 64,
    }  # fmt: skip
    return train_config(basic | changes, "xview2")


def test_the_presets_are_the_paper_and_its_code() -> None:
    paper = train_config({"out": "x"}, "xview2")
    assert (paper.method, paper.optimizer, paper.schedule) == ("dual-hrnet", "sgd", "poly")
    assert (paper.lr, paper.weight_decay, paper.epochs, paper.batch) == (0.01, 5e-4, 250, 32)
    assert (paper.chip, paper.augment, paper.loss, paper.stem) == (512, "xview2", "lovasz", "canonical")  # fmt: skip
    code = train_config({"out": "x"}, "xview2-code")
    assert (code.lr, code.weight_decay, code.epochs, code.batch) == (0.05, 0.0, 500, 16)
    assert (code.augment, code.stem) == ("xview2-code", "released")


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 0.01), (1, 0.009991), (500, 0.00535887), (999, 1.995e-5)]
)
def test_poly(step: int, rate: float) -> None:
    settings = train_config({"out": "x"}, "xview2")
    assert settings.lr * schedule(settings, step, 1000) == pytest.approx(rate, rel=2e-4)


@pytest.mark.slow
def test_it_learns_buildings_and_levels(chips: Path, tmp_path: Path) -> None:
    losses: list[float] = []

    def tell(tick: Tick) -> None:
        if tick.score is not None:
            losses.append(tick.loss)

    weights = train(
        config(
            chips, tmp_path, epochs=6, steps=25, lr=0.1, chip=64, augment="none", norm_momentum=0.1
        ),
        tell,
    )
    network, card = load(weights)
    assert isinstance(network, DualHRNet)
    assert card.window == Window(96, 64, blended=True)
    assert losses[-1] < 0.5 * losses[0]
    part = open_chips(chips, 5)
    found = evaluate_chips(network, (part.chip(i) for i in range(len(part))))
    assert found.levels is not None
    score = found.levels.score()
    print(score, losses)
    assert score["localization_f1"] > 0.8
    assert score["damage_f1"] > 0.5


def test_it_goes_on_where_it_stopped(chips: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(tick: Tick) -> None:
        if tick.epoch == 2 and tick.score is None:
            raise Killed

    whole = train(config(chips, tmp_path / "whole"), silence)
    with pytest.raises(Killed):
        train(config(chips, tmp_path / "parts"), kill)
    parts = train(config(chips, tmp_path / "parts"), silence)
    assert whole.read_bytes() == parts.read_bytes()


def test_it_begins_with_timm_s_weights_and_may_freeze_them(chips: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    theirs = timm().create_model("hrnet_w32", pretrained=False)
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file(theirs.state_dict(), file)
    task = Segmentation(
        config(chips, tmp_path, width=32, encoder=str(file), freeze="all", encoder_lr=1e-3)
    )
    assert isinstance(task.network, DualHRNet)
    wanted = theirs.stage3[3].fuse_layers[2][0][1][0].weight
    for body in (task.network.before, task.network.after):
        assert torch.equal(body.stages[1][3].paths[2][0][1][0].weight, wanted)  # type: ignore[index]
    task.learn()
    assert not task.network.before.training
    assert not any(p.requires_grad for p in task.network.after.parameters())
    (group,) = task.groups()
    assert group["lr"] == 0.01
    with pytest.raises(Refused, match=r"model.safetensors cannot be the encoder.*width 4"):
        Segmentation(config(chips, tmp_path, encoder=str(file)))


def test_the_rejected_loss_is_at_hand(chips: Path, tmp_path: Path) -> None:
    weights = train(config(chips, tmp_path, loss="entropy", epochs=1), silence)
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card["options"] == {"width": 4, "stem": "canonical"}


def test_settings_that_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Leave out --classes"):
        train_config({"out": "x", "classes": 1}, "xview2")
    with pytest.raises(UsageError, match=r"'dice' does not go with dual-hrnet.*lovasz, entropy"):
        train_config({"out": "x", "loss": "dice"}, "xview2")
    with pytest.raises(UsageError, match=r"multiples of 32 px.*chip 48"):
        Segmentation(config(tmp_path, tmp_path, chip=48))


def test_it_begins_with_weights_of_its_own_kind(chips: Path, tmp_path: Path) -> None:
    first = train(config(chips, tmp_path / "first", loss="entropy", epochs=1), silence)
    task = Segmentation(config(chips, tmp_path, init=str(first)))
    wanted = load(first)[0].state_dict()
    assert all(torch.equal(v, wanted[k]) for k, v in task.network.state_dict().items())
    assert config(chips, tmp_path, init=str(first)).decisive()["init"] != str(first)
    with pytest.raises(Refused, match=r"holds a network.*'width': 4.*--init"):
        Segmentation(config(chips, tmp_path, init=str(first), width=8))
    with pytest.raises(UsageError, match="not with both"):
        config(chips, tmp_path, init=str(first), encoder="x")
