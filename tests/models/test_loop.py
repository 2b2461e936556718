"""The loop: parts of a batch give the whole batch's gradient, and what is frozen stays frozen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aftermap.models.batches import Batch, stacked
from aftermap.models.change import ChangeNet
from aftermap.models.chips.chip import Chip
from aftermap.models.encoder import Embedder, EncoderFacts, load_encoder, save_encoder
from aftermap.models.loop import Tick, backward, silence
from aftermap.models.recipes import TrainConfig
from aftermap.models.registry import build
from aftermap.models.state import Progress
from aftermap.models.training import Segmentation, criterion, train
from aftermap.scenes.errors import AftermapError, Refused, UsageError
from PIL import Image
from torch import Tensor, nn

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey ground; a bright square turned dark is damage."""
    root = tmp_path_factory.mktemp("chips")
    rng = np.random.default_rng(0)
    for i in range(20):
        pre = rng.integers(90, 110, (64, 64, 3)).astype(np.uint8)
        post, mask = pre.copy(), np.zeros((64, 64), np.uint8)
        row, col = rng.integers(0, 44, 2)
        pre[row : row + 20, col : col + 20] = 200
        post[row : row + 20, col : col + 20] = 20
        mask[row : row + 20, col : col + 20] = 1
        for name, array in (("pre", pre), ("post", post), ("mask", mask)):
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(array).save(root / name / f"{i:02d}.png")
    return root


def config(chips: Path, out: Path, **changes: Any) -> TrainConfig:
    basic = TrainConfig(
        out=str(out),
        data=(str(chips),),
        classes=1,
        size="small",
        epochs=2,
        steps=2,
        chip=32,
        batch=4,
        lr=3e-3,
        precision="fp32",
        core=32,
        augment="none",
    )
    return replace(basic, **changes)


class Plain:
    """A task on a network without BatchNorm, of which the gradient can be told exactly."""

    def __init__(self, loss: str, classes: int, dropout: float) -> None:
        torch.manual_seed(3)
        self.network = Stacked(classes, dropout)
        self.config = TrainConfig(out="", loss=loss, classes=classes)  # type: ignore[arg-type]

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return criterion(self.config, outputs, batch.codes)


class Stacked(nn.Module):
    def __init__(self, classes: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(8, classes, 3, padding=1),
        )

    def forward(self, pre: Tensor, post: Tensor) -> Tensor:
        return self.layers(torch.cat([pre, post], dim=1))


def some_batch(count: int = 8) -> Batch:
    rng = np.random.default_rng(1)
    made = []
    for i in range(count):
        pre, post = rng.integers(1, 255, (2, 3, 16, 16), np.uint8)
        # Unequal shares of damage and of left-out pixels: the mean over parts would be another loss.
        codes = rng.choice([0, 1, 2, 3, 4, 255], (16, 16), p=[0.8 - 0.1 * (i % 4), *[0.04 + 0.02 * (i % 4)] * 5]).astype(np.uint8)  # fmt: skip
        made.append(Chip(pre, post, codes, name=str(i)))
    return stacked(made)


@pytest.mark.parametrize("loss", ["dice", "iou", "bce", "levels", "levels-lovasz"])
@pytest.mark.parametrize("parts", [2, 4, 8])
def test_parts_give_the_gradient_of_the_whole_batch(loss: str, parts: int) -> None:
    classes = 5 if loss.startswith("levels") else 1
    batch = some_batch()
    found = []
    for count in (1, parts):
        task = Plain(loss, classes, dropout=0.0)
        value = backward(task, task.network, batch, count)  # type: ignore[arg-type]
        found.append((value, [p.grad for p in task.network.parameters()]))
    (whole, slopes), (split, others) = found
    assert split == pytest.approx(whole, abs=1e-6)
    for a, b in zip(slopes, others, strict=True):
        assert a is not None
        assert b is not None
        assert float(a.abs().max()) > 1e-5
        assert torch.allclose(a, b, atol=1e-6, rtol=0)


def test_the_mean_over_parts_would_be_another_gradient() -> None:
    batch, task, other = some_batch(), Plain("dice", 1, 0.0), Plain("dice", 1, 0.0)
    backward(task, task.network, batch, 4)  # type: ignore[arg-type]
    for piece in batch.split(4):
        backward(other, other.network, piece)  # type: ignore[arg-type]
    pairs = zip(task.network.parameters(), other.network.parameters(), strict=True)
    assert max(float((a.grad - b.grad / 4).abs().max()) for a, b in pairs) > 1e-4


def test_dropout_is_the_same_in_both_passes() -> None:
    """The slope at the outputs belongs to the outputs that are computed the second time."""
    batch, task = some_batch(), Plain("dice", 1, dropout=0.5)
    seen: list[Tensor] = []
    task.network.register_forward_hook(lambda *args: seen.append(args[2].detach().clone()))
    torch.manual_seed(5)
    backward(task, task.network, batch, 4)  # type: ignore[arg-type]
    assert len(seen) == 8
    for first, second in zip(seen[:4], seen[4:], strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(seen[0], seen[1])


def test_statistics_of_batch_norm_count_each_part_once() -> None:
    batch = some_batch()
    means = []
    for parts in (1, 2):
        torch.manual_seed(0)
        network = build("fc-siam-diff", size="small", classes=1, dropout=0.0)
        task = Plain("dice", 1, 0.0)
        task.network = network  # type: ignore[assignment]
        network.train()
        for piece in batch.split(2) if parts == 1 else [batch]:
            backward(task, network, piece, parts)  # type: ignore[arg-type]
        means.append({k: v for k, v in network.state_dict().items() if "running" in k})
    for key, value in means[0].items():
        assert torch.allclose(value, means[1][key], atol=1e-6), key


def test_accumulated_training_is_told_apart_and_runs(chips: Path, tmp_path: Path) -> None:
    train(config(chips, tmp_path, accumulate=2), silence)
    with pytest.raises(Refused, match="accumulate was 2, now 1"):
        train(config(chips, tmp_path), silence)
    with pytest.raises(UsageError, match="batch of 4 crops cannot be worked on in 3 equal parts"):
        config(chips, tmp_path, accumulate=3)


def encoder_file(path: Path, method: str, size: str = "small") -> Path:
    torch.manual_seed(9)
    network = build(method, size=size)
    assert isinstance(network, ChangeNet)
    save_encoder(path, Embedder(network), EncoderFacts(method, size, 3, 128))
    return path


@pytest.mark.parametrize("freeze", ["no", "all", "weights"])
def test_a_pretrained_encoder_is_taken_and_frozen(chips: Path, tmp_path: Path, freeze: str) -> None:
    file = encoder_file(tmp_path / "encoder.safetensors", "fc-siam-conc")
    # Conc and diff share their encoder.
    asked = config(chips, tmp_path / "out", encoder=str(file), freeze=freeze)
    start = Segmentation(asked).network.encoder.state_dict()
    end = train(asked, silence)
    from aftermap.models.checkpoint import load

    after = load(end)[0].encoder.state_dict()  # type: ignore[union-attr]
    moved = {key for key, value in start.items() if not torch.equal(value, after[key])}
    weights = {key for key in start if key.endswith(("weight", "bias"))}
    if freeze == "no":
        assert weights <= moved
    else:
        assert not moved & weights
        assert bool(moved) == (freeze == "weights")  # then the statistics move alone


def test_the_encoder_has_a_rate_of_its_own(chips: Path, tmp_path: Path) -> None:
    groups = Segmentation(config(chips, tmp_path, encoder_lr=1e-5)).groups()
    assert [group["lr"] for group in groups] == [1e-5, 3e-3]
    network = Segmentation(config(chips, tmp_path)).network
    inside = sum(p.numel() for p in network.encoder.parameters())
    assert sum(p.numel() for p in groups[0]["params"]) == inside
    assert sum(p.numel() for g in groups for p in g["params"]) == sum(
        p.numel() for p in network.parameters()
    )
    train(config(chips, tmp_path, encoder_lr=1e-5), silence)


def test_encoders_that_do_not_fit(chips: Path, tmp_path: Path) -> None:
    file = encoder_file(tmp_path / "ef.safetensors", "fc-ef")
    with pytest.raises(Refused, match=r"an encoder of fc-ef.*and fc-siam-diff.*--encoder"):
        train(config(chips, tmp_path / "a", encoder=str(file)), silence)
    medium = encoder_file(tmp_path / "m.safetensors", "fc-siam-diff", "medium")
    with pytest.raises(Refused, match=r"size medium.*size small"):
        train(config(chips, tmp_path / "a", encoder=str(medium)), silence)
    medium.write_bytes(medium.read_bytes()[:-5])
    with pytest.raises(Refused, match=r"truncated.*--encoder"):
        train(config(chips, tmp_path / "a", encoder=str(medium)), silence)
    (tmp_path / "p.safetensors").write_bytes(b"\x80\x04abc")
    with pytest.raises(Refused, match="is a pickle"):
        train(config(chips, tmp_path / "a", encoder=str(tmp_path / "p.safetensors")), silence)
    weights = train(config(chips, tmp_path / "w"), silence)
    with pytest.raises(Refused, match="is no encoder"):
        train(config(chips, tmp_path / "a", encoder=str(weights)), silence)
    with pytest.raises(Refused, match=r"no weights file.*--encoder"):
        train(config(chips, tmp_path / "a", encoder=str(tmp_path / "none")), silence)
    with pytest.raises(UsageError, match="frozen encoder that learnt nothing"):
        config(chips, tmp_path, freeze="all")
    network = build("fc-siam-diff", size="small", in_channels=4)
    assert isinstance(network, ChangeNet)
    with pytest.raises(Refused, match="4 bands"):
        load_encoder(encoder_file(tmp_path / "s", "fc-siam-diff"), network, "fc-siam-diff")


def test_it_stops_early(chips: Path, tmp_path: Path) -> None:
    seen: list[float] = []

    def tell(tick: Tick) -> None:
        if tick.score is not None:
            seen.append(tick.score)

    train(config(chips, tmp_path, epochs=50, steps=1, lr=1e-9, patience=2), tell)
    best = int(np.argmax(seen))
    assert len(seen) == best + 3
    assert Progress(5, 1.0, 3).over(TrainConfig(out="", epochs=9, patience=2))
    assert not Progress(5, 1.0, 4).over(TrainConfig(out="", epochs=9, patience=2))


def test_a_loss_that_is_no_number_names_its_chips(chips: Path, tmp_path: Path) -> None:
    with pytest.raises(AftermapError, match=r"on the chips (\d\d, ){3}\d\d\. Lower --lr"):
        train(config(chips, tmp_path, lr=1e30, schedule="constant"), silence)


def test_every_step_of_a_resumed_training_is_that_of_an_uninterrupted_one(
    chips: Path, tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    def into(trace: dict[tuple[int, int], float], kill: tuple[int, int] | None = None) -> Any:
        def tell(tick: Tick) -> None:
            if tick.score is None:
                trace[tick.epoch, tick.step] = tick.loss
            if (tick.epoch, tick.step) == kill and tick.score is None:
                raise Killed

        return tell

    asked = {"epochs": 3, "steps": 3, "dropout": 0.3, "augment": "paper", "accumulate": 2}
    whole: dict[tuple[int, int], float] = {}
    parts: dict[tuple[int, int], float] = {}
    train(config(chips, tmp_path / "whole", **asked), into(whole))
    with pytest.raises(Killed):
        train(config(chips, tmp_path / "parts", **asked), into(parts, kill=(2, 2)))
    train(config(chips, tmp_path / "parts", **asked), into(parts))
    assert len(whole) == 9
    assert parts == whole
