"""Training the networks of paper 004: they learn, go on where they stopped, and refuse in words."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from aftermap.models.augment import AUGMENTERS
from aftermap.models.batches import seen
from aftermap.models.checkpoint import load
from aftermap.models.chips.chip import Chip
from aftermap.models.chips.open import open_chips
from aftermap.models.chips.parts import division_of, main_parts
from aftermap.models.loop import Tick, silence
from aftermap.models.presets import train_config
from aftermap.models.ranks import Ranks
from aftermap.models.recipes import TrainConfig
from aftermap.models.training import Segmentation, train
from aftermap.models.unet import GridClassifier, UNetFootprints
from aftermap.models.zoo import timm
from aftermap.scenes.errors import Refused, UsageError
from aftermap.scenes.plan import Window
from PIL import Image
from scipy import ndimage

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS = ("unet-footprints", "grid-classifier")


def squares(root: Path, count: int, side: int) -> Path:
    """Bright squares on grey ground, one in each quarter of a chip; half of them are dark after."""
    rng = np.random.default_rng(0)
    half, edge = side // 2, side // 4 + 2
    for i in range(count):
        pre = rng.integers(60, 80, (side, side, 3)).astype(np.uint8)
        post, mask = pre.copy(), np.zeros((side, side), np.uint8)
        for quarter in range(4):
            row, column = half * (quarter // 2), half * (quarter % 2)
            row, column = (start + int(rng.integers(2, side // 8)) for start in (row, column))
            there = np.s_[row : row + edge, column : column + edge]
            damaged = (i + quarter) % 2
            pre[there], post[there], mask[there] = 220, 20 if damaged else 220, 1 + 2 * damaged
        for name, array in (("pre", pre), ("post", post), ("mask", mask)):
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(array).save(root / name / f"{i:02d}.png")
    return root


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("chips"), count=10, side=64)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("many"), count=30, side=128)


def config(chips: Path, out: Path, method: str, **changes: Any) -> TrainConfig:
    basic: dict[str, Any] = {
        "out": str(out), "data": (str(chips),), "method": method, "backbone": "resnet18",
        "epochs": 2, "steps": 2, "chip": 32, "batch": 4, "norm_momentum": 0.3,
    }  # fmt: skip
    return train_config(basic | changes, "amatrice")


@pytest.mark.parametrize("method", METHODS)
def test_the_preset_is_the_paper(method: str) -> None:
    paper = train_config({"out": "x", "method": method}, "amatrice")
    assert (paper.classes, paper.chip, paper.augment) == (1, 128, "amatrice")
    assert paper.steps is not None
    assert paper.steps * paper.batch == pytest.approx(3000, rel=0.01)
    assert (paper.optimizer, paper.weight_decay, paper.clip) == ("adamw", 0, math.inf)
    assert paper.loss == {"unet-footprints": "bce-jaccard", "grid-classifier": "bce"}[method]
    assert paper.nominal_resolution == 0.3
    plain = train_config({"out": "x", "method": method})
    assert (plain.classes, plain.loss) == (1, "auto")


@pytest.mark.parametrize("method", METHODS)
def test_places_are_divided_as_in_the_paper(many: Path, method: str, tmp_path: Path) -> None:
    found = main_parts(open_chips(many, 1), division=division_of(method))
    assert {name: len(part) for name, part in found.items()} == {"train": 21, "validation": 6, "test": 3}  # fmt: skip
    assert division_of("fc-ef").shares["test"] == 0.15
    task = Segmentation(config(many, tmp_path, method))
    assert len(task.chips) == 21
    assert len(task.exam) == 6


@pytest.mark.slow
def test_footprints_are_learnt(many: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    weights = train(
        config(many, tmp_path, "unet-footprints", epochs=4, steps=25, chip=64, batch=8),
        lambda tick: losses.append(tick.loss) if tick.score is not None else None,
    )
    network, card = load(weights)
    assert isinstance(network, UNetFootprints)
    assert losses[-1] < 0.5 * losses[0]
    # Calling everything a building has an IoU of 0.28.
    assert card.metrics["iou"] > 0.8
    assert card.metrics["auc"] > 0.95


@pytest.mark.slow
def test_damaged_cells_are_learnt(many: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    weights = train(
        config(many, tmp_path, "grid-classifier", epochs=4, steps=25, chip=64, batch=8),
        lambda tick: losses.append(tick.loss) if tick.score is not None else None,
    )
    network, card = load(weights)
    assert isinstance(network, GridClassifier)
    assert losses[-1] < losses[0]
    assert card.metrics["f1"] > 0.9
    assert card.metrics["auc"] > 0.95


def test_the_card_says_how_to_use_them(chips: Path, tmp_path: Path) -> None:
    wanted = {
        "unet-footprints": ({"encoder": "resnet18"}, Window(256, 160, blended=True), 32),
        "grid-classifier": ({"encoder": "resnet18", "cell": 32}, Window(32, 0), 32),
    }
    for method in METHODS:
        weights = train(config(chips, tmp_path / method, method, epochs=1), silence)
        _, card = load(weights, method=method, classes=1)
        options, window, stride = wanted[method]
        assert (card.options, card.window, card.stride) == (options, window, stride)
        assert card.flip_rate is not None
        assert 0 < card.threshold < 1
        assert "threshold" not in card.metrics
        figures = {"score", "accuracy", "f1", "iou", "auc", "train_buildings_share"}
        assert card.metrics.keys() >= figures
        assert card.metrics["score"] == card.metrics["iou" if window.blended else "auc"]  # fmt: skip
    assert card.metrics["test_damaged_share"] == pytest.approx(0.5)


@pytest.mark.parametrize("method", METHODS)
def test_they_go_on_where_they_stopped(chips: Path, tmp_path: Path, method: str) -> None:
    class Killed(Exception):
        pass

    def kill(tick: Tick) -> None:
        if tick.epoch == 2 and tick.score is None:
            raise Killed

    # EfficientNet leaves blocks out by chance.
    changes = {"backbone": "efficientnet-b0", "accumulate": 2}
    whole = train(config(chips, tmp_path / "whole", method, **changes), silence)
    with pytest.raises(Killed):
        train(config(chips, tmp_path / "parts", method, **changes), kill)
    parts = train(config(chips, tmp_path / "parts", method, **changes), silence)
    assert whole.read_bytes() == parts.read_bytes()


def test_each_learns_from_its_own_image(chips: Path, tmp_path: Path) -> None:
    for method, image in (("unet-footprints", "pre"), ("grid-classifier", "post")):
        task = Segmentation(config(chips, tmp_path, method))
        assert task.network.inputs == (image,)
        (batch,) = list(task.batches(1, 0, Ranks.here()))
        (found,) = seen(batch, torch.device("cpu"))
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        wanted = getattr(batch, image) / 255 - mean.view(1, 3, 1, 1)
        valid = batch.pre.any(1, keepdim=True) & batch.post.any(1, keepdim=True)
        torch.testing.assert_close(found, wanted / std.view(1, 3, 1, 1) * valid)
        assert [part.inputs for part in batch.split(2)] == [(image,)] * 2


@pytest.mark.parametrize("method", METHODS)
def test_they_begin_with_a_library_s_encoder(chips: Path, tmp_path: Path, method: str) -> None:
    torch.manual_seed(3)
    theirs = timm().create_model("resnet18", pretrained=False).state_dict()
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file(theirs, file)
    task = Segmentation(config(chips, tmp_path, method, encoder=str(file), freeze="all"))
    (encoder,) = task.network.encoders
    assert torch.equal(encoder.state_dict()["conv1.weight"], theirs["conv1.weight"])
    task.learn()
    assert not encoder.training
    assert not any(p.requires_grad for p in encoder.parameters())
    with pytest.raises(Refused, match=r"model\.safetensors cannot be the encoder.*resnet34.*--enc"):
        Segmentation(config(chips, tmp_path, method, backbone="resnet34", encoder=str(file)))
    with pytest.raises(Refused, match="There is no weights file"):
        Segmentation(config(chips, tmp_path, method, encoder=str(tmp_path / "none.safetensors")))


def test_they_begin_with_weights_of_their_own_kind(chips: Path, tmp_path: Path) -> None:
    first = train(config(chips, tmp_path / "first", "grid-classifier", epochs=1), silence)
    task = Segmentation(config(chips, tmp_path, "grid-classifier", init=str(first)))
    wanted = load(first)[0].state_dict()
    assert all(torch.equal(v, wanted[k]) for k, v in task.network.state_dict().items())
    with pytest.raises(Refused, match=r"holds a network.*'cell': 32.*'cell': 64.*--init"):
        Segmentation(config(chips, tmp_path, "grid-classifier", init=str(first), chip=64))


def test_settings_that_do_not_go_together(chips: Path, tmp_path: Path) -> None:
    for method in METHODS:
        with pytest.raises(UsageError, match=r"got classes=5\. Give --classes 1"):
            train_config({"out": "x", "method": method, "classes": 5}, "amatrice")
        with pytest.raises(UsageError, match=f"'dice' does not go with {method}"):
            train_config({"out": "x", "method": method, "loss": "dice"}, "amatrice")
    with pytest.raises(UsageError, match="preset 'amatrice' is for unet-footprints, grid-classi"):
        train_config({"out": "x"}, "amatrice")
    with pytest.raises(UsageError, match=r"trained apart.*aftermap weights join"):
        Segmentation(train_config({"out": "x", "method": "unet-grid"}))
    with pytest.raises(UsageError, match=r"multiples of 32 px.*chip 48"):
        Segmentation(config(chips, tmp_path, "unet-footprints", chip=48))
    with pytest.raises(UsageError, match="multiple of 32 px; got 48"):
        Segmentation(config(chips, tmp_path, "grid-classifier", chip=48))
    with pytest.raises(UsageError, match="Unknown encoder 'alexnet'"):
        Segmentation(config(chips, tmp_path, "unet-footprints", backbone="alexnet"))
    task = Segmentation(config(chips, tmp_path, "grid-classifier", chip=160))
    with pytest.raises(Refused, match=r"has 64×64 px.*160 px or more.*--chip"):
        task.examine()


def painted(root: Path, values: tuple[int, ...]) -> Path:
    """Chips whose masks hold these values side by side."""
    image = np.full((64, 64, 3), 90, np.uint8)
    mask = np.repeat(np.array(values, np.uint8), 64 // len(values))[None].repeat(64, axis=0)
    for i in range(12):
        for name, array in (("pre", image), ("post", image), ("mask", mask)):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / name / f"{i:02d}.png")
    return root


def test_chips_from_which_nothing_can_be_learnt(tmp_path: Path) -> None:
    without = painted(tmp_path / "without", (0, 0))
    intact = painted(tmp_path / "intact", (0, 1, 255, 0))
    damaged = painted(tmp_path / "damaged", (0, 3, 2, 0))
    asked = tmp_path / "out"
    with pytest.raises(Refused, match=r"train part.*the codes 0: no buildings"):
        Segmentation(config(without, asked, "unet-footprints"))
    with pytest.raises(Refused, match="no damage"):
        Segmentation(config(intact, asked, "grid-classifier"))
    with pytest.raises(Refused, match=r"no undamaged buildings \(code 1\)"):
        Segmentation(config(damaged, asked, "grid-classifier"))
    Segmentation(config(intact, asked, "unet-footprints"))
    # Masks of yes and no: what is not background is a building.
    Segmentation(config(painted(tmp_path / "binary", (0, 255)), asked, "unet-footprints"))


def test_parts_that_are_unlike_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    painted(tmp_path / "train", (0, 1, 0, 0))
    painted(tmp_path / "val", (0, 1, 4, 4))
    with caplog.at_level(logging.WARNING):
        task = Segmentation(config(tmp_path, tmp_path / "out", "unet-footprints"))
    assert "25.0% in train, 75.0% in validation of the pixels are buildings" in caplog.text
    assert task.mix["validation_buildings_share"] == 0.75
    assert "validation_damaged_share" not in task.mix


@pytest.mark.parametrize("key", range(12))
def test_the_augmentation_turns_scales_and_flips_labels_with_the_image(key: int) -> None:
    codes = np.zeros((200, 200), np.uint8)
    codes[40:100, 50:150], codes[120:160, 33:100] = 1, 4
    image = np.repeat((codes * 50 + 20)[None], 3, axis=0)
    got = AUGMENTERS["amatrice"].draw(Chip(image, image, codes), 128, (0, 0, key))
    inside = ndimage.minimum_filter(got.codes, 5) == ndimage.maximum_filter(got.codes, 5)
    inside &= (got.codes != 255) & got.pre.any(axis=0)
    assert inside.mean() > 0.3
    assert (got.pre[:, inside] == got.codes[inside] * 50 + 20).all()
    assert np.array_equal(got.pre, got.post)


def test_the_augmentation_covers_the_circle_and_the_scales() -> None:
    """The long side of a bar tells angle and scale of each draw; its colour ends tell the flip."""
    side = 256
    codes = np.zeros((side, side), np.uint8)
    codes[124:132, 88:168] = 1
    image = np.full((3, side, side), 20, np.uint8)
    image[0, 124:132, 88:128], image[1, 124:132, 128:168] = 250, 250  # red left, green right
    image[2, 124:128, 88:168] = 250  # blue on the upper side
    chip = Chip(image, image, codes)
    turns, lengths, flips = [], [], []
    for key in range(150):
        got = AUGMENTERS["amatrice"].draw(chip, side, (1, 2, key))
        ends = [np.argwhere(got.pre[band] > 150).mean(axis=0) for band in (0, 1, 2)]
        along, up = ends[1] - ends[0], ends[2] - (ends[0] + ends[1]) / 2
        turns.append(math.atan2(*along))
        lengths.append(2 * np.hypot(*along) / 80)
        flips.append(along[0] * up[1] - along[1] * up[0] > 0)
    assert len(np.unique(np.digitize(turns, np.linspace(-np.pi, np.pi, 9)))) == 8
    assert 0.78 < min(lengths) < 0.85
    assert 1.15 < max(lengths) < 1.23
    assert 0.3 < np.mean(flips) < 0.7
