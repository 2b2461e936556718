"""The networks of paper 004: their numbers, what they give, and the weights they begin with."""

from __future__ import annotations

import sys

import pytest
import torch
from aftermap.models import zoo
from aftermap.models.damage_net import DamageNet, SceneNet
from aftermap.models.registry import build
from aftermap.models.unet import GridClassifier, UNetFootprints
from aftermap.models.zoo import segmentation_models, timm
from aftermap.scenes.errors import UsageError
from aftermap.scenes.plan import Window
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def settled(network: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics of BatchNorm that are not those of a new network."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5, generator=generator)  # type: ignore[union-attr]
    return network.eval()


def footprints(seed: int = 0) -> UNetFootprints:
    torch.manual_seed(seed)
    network = settled(build("unet-footprints", encoder="resnet18"))
    assert isinstance(network, UNetFootprints)
    return network


def classifier(cell: int = 64, seed: int = 0) -> GridClassifier:
    torch.manual_seed(seed)
    network = settled(build("grid-classifier", encoder="resnet18", cell=cell))
    assert isinstance(network, GridClassifier)
    return network


@pytest.mark.parametrize(
    ("encoder", "parameters"), [("efficientnet-b5", 31_216_001), ("resnet34", 24_436_369)]
)
def test_parameters_of_the_unet(encoder: str, parameters: int) -> None:
    network = build("unet-footprints", encoder=encoder)
    assert count(network) == parameters
    theirs = segmentation_models().Unet(encoder, encoder_weights=None, classes=1)
    wanted = {f"unet.{k}": v.shape for k, v in theirs.state_dict().items()}
    assert {k: v.shape for k, v in network.state_dict().items()} == wanted


def test_parameters_of_the_classifier() -> None:
    network = build("grid-classifier")
    # 21,797,672 with ImageNet's thousand classes instead of one.
    theirs = timm().create_model("resnet34", pretrained=False)
    assert count(theirs) == 21_797_672
    assert count(network) == 21_797_672 - 999 * 513


def test_the_encoders_of_the_paper_are_the_default() -> None:
    network = build("unet-footprints")
    assert isinstance(network, UNetFootprints)
    assert network.backbone == "efficientnet-b5"
    grid = build("grid-classifier")
    assert isinstance(grid, GridClassifier)
    assert (grid.backbone, grid.cell) == ("resnet34", 128)


def test_each_looks_at_one_image() -> None:
    for network, image in ((footprints(), "pre"), (classifier(), "post")):
        assert isinstance(network, SceneNet)
        assert not isinstance(network, DamageNet)
        assert network.inputs == (image,)
        assert network.classes == 1


def test_a_footprint_s_logits_have_the_image_s_size() -> None:
    network, image = footprints(), torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        logits = network(image)
        found = network.probabilities(image)
        inner = network.probabilities(image, halo=16)
    assert logits.shape == found.shape == (2, 1, 64, 96)
    torch.testing.assert_close(found, logits.sigmoid())
    torch.testing.assert_close(inner, found[..., 16:-16, 16:-16])
    assert torch.equal(network.codes(found, 0.4), (found[:, 0] > 0.4).to(torch.uint8))


def test_cells_are_seen_alone() -> None:
    network, image = classifier(64), torch.randn(2, 3, 128, 192)
    with torch.inference_mode():
        found = network.probabilities(image)
        for row in range(2):
            for column in range(3):
                cell = np_s(row, column)
                one = network(image[cell]).sigmoid()[:, 0]
                assert torch.equal(found[cell].amin((1, 2, 3)), found[cell].amax((1, 2, 3)))
                torch.testing.assert_close(found[cell][:, 0, 0, 0], one)
        assert network.cells(image).shape == (2, 1, 2, 3)
        torch.testing.assert_close(network.probabilities(image, 32), found[..., 32:-32, 32:-32])
    assert set(network.codes(found).unique().tolist()) <= {0, 5}


def np_s(row: int, column: int, side: int = 64) -> tuple[object, ...]:
    return (
        ...,
        slice(row * side, (row + 1) * side),
        slice(column * side, (column + 1) * side),
    )


@pytest.mark.parametrize("side", [32, 100, 128])
def test_the_classifier_takes_any_square(side: int) -> None:
    assert classifier()(torch.zeros(3, 3, side, side)).shape == (3, 1)


def test_windows_lie_on_the_grid_of_cells() -> None:
    net = footprints()
    assert net.window() == Window(256, 160, blended=True)
    assert net.window(128, 96) == Window(128, 96, blended=True)
    assert net.window().core % 128 == 0
    assert all(side % net.stride == 0 for side in (net.window().core, net.window().halo))
    grid = classifier(96)
    assert grid.window() == Window(96, 0)
    assert grid.stride == 96


def test_labels_of_footprints() -> None:
    codes = torch.tensor([[[0, 1, 2], [5, 255, 4]]], dtype=torch.uint8)
    target, known = footprints().labels(codes)
    assert target.tolist() == [[[[0, 1, 1], [1, 0, 1]]]]
    assert known.tolist() == [[[[True, True, True], [True, False, True]]]]


def test_labels_of_cells_are_damaged_shares_of_building_area() -> None:
    cells = torch.zeros(4, 64, 64, dtype=torch.uint8)
    cells[0, :10, :10] = 1  # intact
    cells[1, :30, :10], cells[1, 40:50, :10] = 1, 3  # a quarter
    cells[2, 5, 5:8] = torch.tensor([2, 4, 5], dtype=torch.uint8)  # all of it
    cells[3] = 255  # nothing known
    target, known = classifier().labels(cells)
    assert target.shape == known.shape == (4, 1)
    assert target[:3, 0].tolist() == [0, 0.25, 1]
    assert known[:, 0].tolist() == [True, True, True, False]
    empty, unknown = classifier().labels(torch.zeros(1, 64, 64, dtype=torch.uint8))
    assert (empty.item(), unknown.item()) == (0, False)


def test_an_efficientnet_begins_with_timm_s_weights() -> None:
    torch.manual_seed(1)
    theirs = settled(timm().create_model("tf_efficientnet_b0", pretrained=False))
    tensors = theirs.state_dict()
    network = build("unet-footprints", encoder="efficientnet-b0")
    assert isinstance(network, UNetFootprints)
    # Files hold their tensors in any order.
    network.load_encoder(dict(sorted(tensors.items(), reverse=True)))
    image = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        wanted = timm().create_model("tf_efficientnet_b0", pretrained=False, features_only=True)
        wanted.load_state_dict(tensors, strict=False)
        ours, those = network.eval().unet.encoder(image), wanted.eval()(image)
    # At halves and sixteenths of the size the two libraries look into the encoder at other depths.
    for one, other in ((2, 1), (3, 2), (5, 4)):
        torch.testing.assert_close(ours[one], those[other], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["unet-footprints", "grid-classifier"])
def test_a_resnet_begins_with_all_of_timm_s_weights_but_its_classifier(name: str) -> None:
    torch.manual_seed(2)
    tensors = settled(timm().create_model("resnet18", pretrained=False)).state_dict()
    network = build(name, encoder="resnet18")
    assert isinstance(network, SceneNet)
    network.load_encoder(tensors)
    found = network.encoders[0].state_dict()
    assert {k for k in tensors if k not in found} == {"fc.weight", "fc.bias"}
    assert all(torch.equal(v, tensors[k]) for k, v in found.items())
    # Weights of older days do not count batches.
    network.load_encoder({k: v for k, v in tensors.items() if "num_batches" not in k})


@pytest.mark.parametrize("name", ["unet-footprints", "grid-classifier"])
def test_weights_of_another_encoder_are_refused_by_name(name: str) -> None:
    network = build(name, encoder="resnet18")
    assert isinstance(network, SceneNet)
    tensors = timm().create_model("resnet18", pretrained=False).state_dict()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(UsageError, match=r"weights of resnet18: 1 tensors are missing \(bn1\.bias"):
        network.load_encoder({k: v for k, v in tensors.items() if k != "bn1.bias"})
    with pytest.raises(UsageError, match=r"1 are unknown or of another shape \(extra"):
        network.load_encoder(tensors | {"extra": torch.zeros(1)})
    with pytest.raises(UsageError, match=r"1 are unknown or of another shape \(conv1\.weight"):
        network.load_encoder(tensors | {"conv1.weight": torch.zeros(64, 3, 3, 3)})
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_what_is_not_offered_is_refused_in_words() -> None:
    for name in ("unet-footprints", "grid-classifier"):
        with pytest.raises(UsageError, match=r"Unknown encoder 'vgg16'.*resnet34.*--backbone"):
            build(name, encoder="vgg16")
        with pytest.raises(UsageError, match="does not take the options"):
            build(name, width=3)
    with pytest.raises(UsageError, match=r"multiple of 32 px; got 100"):
        build("grid-classifier", cell=100)
    with pytest.raises(UsageError, match=r"divisible by 32; got 48×64 px"):
        footprints()(torch.zeros(1, 3, 48, 64))
    with pytest.raises(UsageError, match=r"takes a tensor \(n, 3, h, w\); got \(1, 4, 64, 64\)"):
        classifier()(torch.zeros(1, 4, 64, 64))
    with pytest.raises(UsageError, match="divisible by 64"):
        classifier().probabilities(torch.zeros(1, 3, 64, 100))
    with pytest.raises(UsageError, match="32×100 px hold no cell of 64 px"):
        classifier().cells(torch.zeros(1, 3, 32, 100))


@pytest.mark.parametrize(
    ("name", "library"),
    [("unet-footprints", "segmentation_models_pytorch"), ("grid-classifier", "timm")],
)
def test_a_missing_extra_is_named(name: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # how Python remembers that there is none
    zoo._imported.cache_clear()
    try:
        with pytest.raises(UsageError, match=r'pip install "aftermap\[zoo\]"'):
            build(name)
    finally:
        zoo._imported.cache_clear()


def test_only_what_takes_part_is_learnt() -> None:
    """Processes that train together would wait for the gradients of what takes none."""
    network = build("unet-footprints", encoder="efficientnet-b0")
    network(torch.randn(2, 3, 64, 64)).sum().backward()
    idle = [k for k, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []
