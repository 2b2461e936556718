"""Training: it learns, it resumes to the same weights, and it says why it stops."""

from __future__ import annotations

import builtins
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aftermap.models.batches import normalised
from aftermap.models.checkpoint import load, read_card
from aftermap.models.fidelity import bf16_flip_rate, flip_rate, halo_flip_rate, predictor
from aftermap.models.loop import Tick, schedule
from aftermap.models.recipes import BUNDLED, SyntheticRecipe, TrainConfig
from aftermap.models.registry import build
from aftermap.models.training import train
from aftermap.scenes.errors import AftermapError, Refused, UsageError
from PIL import Image

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey ground; where a bright square turned dark, there is damage of level 4."""
    root = tmp_path_factory.mktemp("chips")
    rng = np.random.default_rng(0)
    for i in range(6):
        pre = rng.integers(90, 110, (3, 64, 64)).astype(np.uint8)
        post, mask = pre.copy(), np.zeros((64, 64), np.uint8)
        for level, dark in ((1, 200), (2, 160), (3, 60), (4, 20)):
            row, col = rng.integers(0, 44, 2)
            square = (slice(row, row + 20), slice(col, col + 20))
            pre[:, *square], post[:, *square] = 200, dark
            mask[square] = level
        for name, array in (("pre", pre), ("post", post), ("mask", mask)):
            (root / name).mkdir(exist_ok=True)
            picture = array if array.ndim == 2 else array.transpose(1, 2, 0)
            Image.fromarray(np.ascontiguousarray(picture)).save(root / name / f"{i}.png")
    return root


def config(chips: Path, out: Path, **changes: Any) -> TrainConfig:
    basic = TrainConfig(
        out=str(out),
        data=str(chips),
        size="small",
        epochs=4,
        steps=3,
        chip=32,
        batch=4,
        lr=3e-3,
        precision="fp32",
        core=32,
        dropout=0.2,
    )
    return replace(basic, **changes)


def silent(_: Tick) -> None:
    pass


def test_resumed_training_ends_with_the_same_weights(chips: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(tick: Tick) -> None:
        if tick.epoch == 3 and tick.step == 2:
            raise Killed

    whole = train(config(chips, tmp_path / "whole"), silent)
    with pytest.raises(Killed):
        train(config(chips, tmp_path / "parts"), kill)
    seen: list[int] = []
    parts = train(config(chips, tmp_path / "parts"), lambda t: seen.append(t.epoch))
    assert set(seen) == {3, 4}
    assert parts.read_bytes() == whole.read_bytes()
    for name in ("fc-siam-diff.json", "state.safetensors"):
        assert (parts.parent / name).read_bytes() == (whole.parent / name).read_bytes()
    # Run a third time: nothing is left to do, and nothing changes.
    train(config(chips, tmp_path / "parts", workers=2), lambda t: seen.append(99))
    assert 99 not in seen
    assert parts.read_bytes() == whole.read_bytes()


def test_it_learns_and_the_card_tells(chips: Path, tmp_path: Path) -> None:
    ticks: list[Tick] = []
    path = train(
        config(chips, tmp_path, epochs=3, steps=12, validation=str(chips), batch=6), ticks.append
    )
    losses = [tick.loss for tick in ticks if tick.score is not None]
    assert losses[-1] < 0.8 * losses[0]
    card = load(path)[1]
    assert card.method == "fc-siam-diff"
    assert card.metrics["score"] == max(t.score for t in ticks if t.score is not None)
    assert card.flip_rate is not None
    assert (card.precision == "bf16") == (card.flip_rate <= 1e-3)
    assert (card.core, card.halo, card.stride) == (32, 24, 8)
    assert card.training_data.startswith("Trained by aftermap on the chips of chips")
    assert card.options == {"size": "small", "classes": 5, "dropout": 0.2}
    last = [t for t in ticks if t.score is None][-1]
    assert last.eta == 0
    assert last.rate > 0


@pytest.mark.parametrize("loss", ["dice", "bce"])
def test_one_class(chips: Path, tmp_path: Path, loss: str) -> None:
    short = config(chips, tmp_path, classes=1, loss=loss, epochs=1, method="fc-ef")
    card = read_card(train(short, silent))
    assert card.classes == 1
    assert 0 <= card.metrics["score"] <= 1
    assert "f1_level_1" not in card.metrics


def test_synthetic_scenes(tmp_path: Path) -> None:
    recipe = SyntheticRecipe(scenes=2, validation=1, side=64)
    short = TrainConfig(
        out=str(tmp_path),
        size="small",
        synthetic=recipe,
        epochs=1,
        steps=1,
        chip=32,
        batch=2,
        core=32,
    )
    train(short, silent)
    assert len(list((tmp_path / "scenes").iterdir())) == 3


def test_another_configuration_is_refused_unless_fresh(chips: Path, tmp_path: Path) -> None:
    train(config(chips, tmp_path, epochs=1), silent)
    with pytest.raises(Refused, match=r"epochs was 1, now 2; lr was 0.003, now 0.1.*--fresh"):
        train(config(chips, tmp_path, epochs=2, lr=0.1), silent)
    train(config(chips, tmp_path, epochs=2), silent, fresh=True)
    (tmp_path / "state.safetensors").write_bytes(b"nonsense")
    with pytest.raises(Refused, match="cannot be read as the state"):
        train(config(chips, tmp_path, epochs=2), silent)


def test_a_loss_that_is_no_number_stops_it(chips: Path, tmp_path: Path) -> None:
    with pytest.raises(AftermapError, match=r"stopped in epoch 1, step [23] of 3.*Lower --lr"):
        train(config(chips, tmp_path, lr=1e30, schedule="constant"), silent)


def test_the_time_budget_begins_no_further_epoch(chips: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    train(config(chips, tmp_path, minutes=1e-9), lambda t: seen.append(t.epoch))
    assert set(seen) == {1}


def test_tensorboard_is_an_extra(
    chips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config(chips, tmp_path, epochs=1, tensorboard=True), silent)
    assert list((tmp_path / "log").glob("events.*"))
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match=r'pip install "aftermap\[train\]"'):
        train(config(chips, tmp_path, tensorboard=True), silent, fresh=True)


def test_learning_rates() -> None:
    cosine = TrainConfig(out="", lr=1.0)
    rates = [schedule(cosine, step, 1000) for step in range(1000)]
    assert rates[:3] == pytest.approx([1 / 30, 2 / 30, 3 / 30])
    assert rates[30] == 1
    assert rates[30 + 485] == pytest.approx(0.5)
    assert rates[-1] < 1e-4
    assert schedule(replace(cosine, schedule="constant"), 999, 1000) == 1


def test_configurations_that_make_no_sense() -> None:
    for changes, said in (
        ({"method": "fc-sam"}, "Valid names: deep-disaster, dual-hrnet, fc-ef"),
        ({"lr": -1.0}, "lr must be positive"),
        ({"loss": "dice"}, "'dice' does not go with fc-siam-diff of 5 classes"),
        ({"class_weights": (1.0,)}, "5 classes, but 1 weights"),
        ({"lr": math.nan}, "lr must be positive; got nan"),
        ({"width": 8}, "--width 8 means nothing to fc-siam-diff: it is for dual-hrnet"),
        ({"method": "dual-hrnet", "dropout": 0.3}, r"--dropout 0\.3 means nothing to dual-hrnet"),
    ):
        with pytest.raises(UsageError, match=said):
            TrainConfig(out="", **changes)  # type: ignore[arg-type]


def test_the_bundled_recipe() -> None:
    assert (BUNDLED.method, BUNDLED.size, BUNDLED.classes) == ("fc-siam-diff", "medium", 5)
    assert BUNDLED.minutes is None  # a budget of time could not be repeated


def test_flip_rates() -> None:
    torch.manual_seed(0)
    network = build("fc-siam-diff", size="small", classes=5).eval()
    pairs = [tuple(torch.randn(2, 1, 3, 96, 96))]
    exact = predictor(network)
    assert flip_rate(exact, exact, pairs) == 0
    opposite = lambda pre, post: 4 - exact(pre, post)  # noqa: E731
    codes = exact(*pairs[0])
    expected = float((codes != 2).float().mean())
    assert flip_rate(exact, opposite, pairs) == pytest.approx(expected)
    assert 0 < bf16_flip_rate(network, pairs) < 0.2
    assert next(network.parameters()).dtype == torch.float32
    rates = [halo_flip_rate(network, pairs, halo, 48) for halo in (0, 8, 16, 24)]
    assert rates[0] > 0
    assert rates[0] >= rates[1] >= rates[2] >= rates[3] == 0
    with pytest.raises(UsageError, match="pairs of 112 px are needed"):
        halo_flip_rate(network, pairs, 8, 64)


def test_normalised_is_channels_last() -> None:
    x = normalised(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), (0.5,) * 3, (0.5,) * 3)
    assert x.is_contiguous(memory_format=torch.channels_last)
