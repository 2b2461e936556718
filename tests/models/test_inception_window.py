"""The network of paper 003: its numbers, what it gives, the weights it begins with, and its head."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from aftermap.models import zoo
from aftermap.models.card import Card
from aftermap.models.checkpoint import load, read_tensors, save
from aftermap.models.inception_window import InceptionWindow
from aftermap.models.registry import build
from aftermap.models.score_net import ScoreNet
from aftermap.models.zoo import timm
from aftermap.scenes.errors import UsageError
from aftermap.scenes.plan import Window
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def small(encoder: str = "resnet18", seed: int = 0) -> InceptionWindow:
    torch.manual_seed(seed)
    network = build("inception-window", encoder=encoder, side=64)
    assert isinstance(network, InceptionWindow)
    return network.eval()


def test_the_default_is_inception_with_a_head_of_4098_parameters() -> None:
    with torch.device("meta"):
        network = build("inception-window")
        whole = timm().create_model("inception_v3", pretrained=False)
    assert isinstance(network, InceptionWindow)
    assert isinstance(network, ScoreNet)
    assert (network.side, network.inputs) == (299, ("post",))
    assert count(network.head) == 4_098
    # With ImageNet's thousand classes.
    assert count(whole) == 23_834_568
    assert count(network.encoder) == 23_834_568 - 1000 * 2049 == 21_785_568
    assert network.mean == network.std == (0.5, 0.5, 0.5)
    assert network.window() == Window.scanning(299, 90)
    assert network.window().core == 209


def test_inception_gives_2048_features_of_a_square() -> None:
    network = build("inception-window")
    assert isinstance(network, InceptionWindow)
    with torch.inference_mode():
        assert network.eval().features(torch.zeros(1, 3, 299, 299)).shape == (1, 2048)


@pytest.mark.parametrize(
    ("encoder", "features"), [("resnet18", 512), ("mobilenetv3_small_050", 1024)]
)
def test_logits_and_scores(encoder: str, features: int) -> None:
    network = small(encoder)
    image = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        found = network.features(image)
        logits = network(image)
        theirs = timm().create_model(encoder, pretrained=False, num_classes=0).eval()
        theirs.load_state_dict(network.encoder.state_dict())
        assert torch.equal(found, theirs(image))
        scores = network.scores(image)
    assert found.shape == (3, features)
    assert count(network.head) == 2 * features + 2
    linear = found @ network.head.weight.detach().T + network.head.bias.detach()
    torch.testing.assert_close(logits, linear)
    torch.testing.assert_close(scores, (logits[:, 1] - logits[:, 0]).sigmoid())
    assert scores.dtype == torch.float32


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 3, 65, 64), (1, 4, 64, 64)])
def test_other_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"takes a tensor \(n, 3, 64, 64\)"):
        small()(torch.zeros(shape))


@pytest.mark.parametrize("encoder", ["inception_v9", "hf-hub:somebody/something", ""])
def test_unknown_backbones_are_refused(encoder: str) -> None:
    with pytest.raises(UsageError, match="timm has no model"):
        build("inception-window", encoder=encoder)


def test_sides_that_a_backbone_does_not_take() -> None:
    with pytest.raises(UsageError, match="takes squares of 224 px, not of 299"):
        build("inception-window", encoder="vit_tiny_patch16_224")
    with pytest.raises(UsageError, match="not of 0"):
        build("inception-window", encoder="resnet18", side=0)


def test_without_the_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    zoo._imported.cache_clear()
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r'pip install "aftermap\[zoo\]"'):
        InceptionWindow("resnet18")
    zoo._imported.cache_clear()


def test_the_backbone_begins_with_timm_s_file(tmp_path: Path) -> None:
    torch.manual_seed(7)
    theirs = timm().create_model("resnet18", pretrained=False)
    path = tmp_path / "resnet18.safetensors"
    safetensors.torch.save_file(theirs.state_dict(), path)
    network = small()
    network.load_encoder(read_tensors(path, "--backbone"))
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(
            network.features(image),
            theirs.eval().forward_head(theirs.forward_features(image), True),
        )
    for key, value in network.encoder.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[key])


def test_inception_s_classifiers_are_left_out() -> None:
    with torch.device("meta"):
        theirs = timm().create_model("inception_v3", pretrained=False, aux_logits=True)
        network = InceptionWindow()
    assert count(theirs) == 27_161_264
    network.load_encoder(theirs.state_dict())


def test_every_tensor_is_accounted_for() -> None:
    network = small()
    tensors = dict(network.encoder.state_dict())
    before = tensors["conv1.weight"].clone()
    tensors["conv1.weight"] = torch.zeros(1)
    tensors["layer9.weight"] = torch.zeros(1)
    del tensors["bn1.bias"]
    with pytest.raises(UsageError, match=r"1 tensors are missing \(bn1.bias\), 2 are unknown") as e:
        network.load_encoder(tensors)
    assert "conv1.weight, layer9.weight" in str(e.value)
    assert torch.equal(network.encoder.state_dict()["conv1.weight"], before)


def test_a_head_that_was_fitted_elsewhere() -> None:
    network = small()
    weight, bias = torch.randn(2, 512), torch.randn(2)
    network.set_head(weight, bias)
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(network(image), network.features(image) @ weight.T + bias)
    with pytest.raises(UsageError, match=r"takes weights \(2, 512\) and \(2,\); got \(1, 512\)"):
        network.set_head(weight[:1], bias)
    with pytest.raises(UsageError, match="not all finite"):
        network.set_head(weight / 0, bias)


def test_checkpoints_come_back(tmp_path: Path) -> None:
    network = small("mobilenetv3_small_050", seed=3)
    window = network.window(overlap=16)
    card = Card(
        method="inception-window",
        network="inception-window",
        options={"encoder": "mobilenetv3_small_050", "side": 64},
        classes=1,
        bands=3,
        mean=network.mean,
        std=network.std,
        resolution=(0.05, 0.5),
        nominal_resolution=0.1,
        core=window.core,
        halo=window.halo,
        scan=window.scan,
        stride=1,
    )
    save(tmp_path / "w.safetensors", network, card)
    again, found = load(tmp_path / "w.safetensors", method="inception-window")
    assert found.window == window
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(again(image), network(image))
