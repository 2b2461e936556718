"""The change networks: parameter counts of the publications, shapes, and how far a pixel sees."""

from __future__ import annotations

import subprocess
import sys

import aftermap.models
import pytest
import torch
from aftermap.models import build
from aftermap.models.change import ChangeNet, receptive_field
from aftermap.models.damage_net import damage_codes
from aftermap.scenes.errors import UsageError
from torch import nn

NAMES = ["fc-ef", "fc-siam-conc", "fc-siam-diff"]
COUNTS = {
    "small": (92_369, 115_121, 91_937),
    "medium": (1_241_633, 1_437_041, 1_241_201),
    "large": (5_047_201, 5_832_433, 5_046_769),
    "daudt": (1_350_433, 1_545_841, 1_350_001),
}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def make(name: str, **options: object) -> ChangeNet:
    torch.manual_seed(0)
    network = build(name, **options)
    assert isinstance(network, ChangeNet)
    return network.eval()


def pair(size: int, bands: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    pre, post = torch.randn(2, 1, bands, size, size, generator=generator)
    return pre, post


@pytest.mark.parametrize("size", COUNTS)
@pytest.mark.parametrize("position", range(3))
def test_parameter_counts_of_the_papers(size: str, position: int) -> None:
    assert count(build(NAMES[position], size=size)) == COUNTS[size][position]


def test_parameter_counts_of_the_parts_and_of_more_bands() -> None:
    assert count(make("fc-ef", size="large").encoder) == 1_956_672
    assert count(make("fc-siam-diff", size="large").encoder) == 1_956_240
    for name, expected in (("fc-siam-diff", 3_090_529), ("fc-siam-conc", 3_876_193)):
        network = make(name, size="large")
        assert count(network.decoder) + count(network.ups) == expected
    # 13 bands and two labels: one more label is 16 weights of 3×3 and a bias more than one label.
    counts = [count(make(name, size="daudt", in_channels=13)) + 145 for name in NAMES]
    assert counts == [1_353_458, 1_547_426, 1_351_586]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", COUNTS)
@pytest.mark.parametrize("classes", [1, 5])
def test_logits_in_the_shape_of_the_input(name: str, size: str, classes: int) -> None:
    network = make(name, size=size, classes=classes)
    pre, post = pair(64)
    with torch.inference_mode():
        logits = network(pre, post)
    assert logits.shape == (1, classes, 64, 64)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", ["small", "daudt"])
def test_no_activation_after_the_last_convolution(name: str, size: str) -> None:
    network = make(name, size=size, classes=5)
    network.decoder[0][-1].bias.data[:] = torch.tensor([-7.0, 7.0, 7.0, 7.0, 7.0])
    with torch.inference_mode():
        logits = network(*pair(32))
    # Neither ReLU or sigmoid (no negatives) nor log-softmax (no positives) could give these.
    assert (logits[:, 0] < 0).all()
    assert (logits[:, 1:] > 0).all()


@pytest.mark.parametrize("size", COUNTS)
def test_layer_order_and_conv_beside_batchnorm(size: str) -> None:
    network = make("fc-siam-diff", size=size)
    for stage in network.encoder:
        kinds = [type(layer) for layer in stage][:4]
        if size == "daudt":
            assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Dropout2d]
        else:
            assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.Dropout, nn.ReLU]
    convolution = nn.ConvTranspose2d if size == "daudt" else nn.Conv2d
    assert isinstance(network.decoder[0][-1], convolution)
    assert [type(layer) for layer in network.decoder[1]][:4] == [
        convolution,
        nn.BatchNorm2d,
        nn.ReLU,
        nn.Dropout2d,
    ]


def test_only_the_after_branch_feeds_the_bottleneck() -> None:
    network = make("fc-siam-diff", size="small")
    skips = {}
    network.decoder[-1].register_forward_pre_hook(lambda _, args: skips.update(deep=args[0]))
    pre, post = pair(32)
    with torch.inference_mode():
        network(post, post)
        same = skips["deep"]
        network(pre, post)
        other = skips["deep"]
    assert torch.equal(same[:, :64], other[:, :64])  # upsampled first: the bottleneck's
    assert not same[:, 64:].any()  # |post − post|
    assert (other[:, 64:] >= 0).all()
    assert other[:, 64:].any()


@pytest.mark.parametrize(("size", "first"), [("small", "post"), ("daudt", "pre")])
def test_concatenation_order(size: str, first: str) -> None:
    network = make("fc-siam-conc", size=size)
    seen = {}
    network.decoder[0].register_forward_pre_hook(lambda _, args: seen.update(joined=args[0]))
    pre, post = pair(32)
    with torch.inference_mode():
        network(pre, post)
        features = {"pre": network.encoder[0](pre), "post": network.encoder[0](post)}
    second = "pre" if first == "post" else "post"
    assert torch.allclose(seen["joined"][:, 16:32], features[first], atol=1e-6)
    assert torch.allclose(seen["joined"][:, 32:], features[second], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", ["small", "medium", "daudt"])
def test_nothing_outside_the_receptive_field_is_seen(name: str, size: str) -> None:
    network = make(name, size=size).double()
    radius, stride = receptive_field(network), network.stride
    side = 2 * radius + 2 * stride
    # A strip is enough: rows and columns are treated alike.
    pre, post = (image[..., :stride].double().requires_grad_() for image in pair(side))
    # Average pooling has the reach of max-pooling, but lets every pixel through.
    network.pool = nn.AvgPool2d(2)
    smooth = {module: nn.Softplus() for module in network.modules() if isinstance(module, nn.ReLU)}
    for stage in [*network.encoder, *network.decoder]:
        for index, layer in enumerate(stage):
            if layer in smooth:
                stage[index] = smooth[layer]
    logits = network(pre, post)
    reach = 0
    for phase in range(stride):
        at = side // 2 + phase
        grads = torch.autograd.grad(logits[0, 0, at, 0], [pre, post], retain_graph=True)
        rows = torch.nonzero(sum(g.abs().sum(dim=(0, 1, 3)) for g in grads)).ravel()
        reach = max(reach, at - int(rows.min()), int(rows.max()) - at)
    assert radius - stride < reach <= radius  # exact, up to the rounding


def test_perturbation_outside_the_halo_changes_no_bit() -> None:
    network = make("fc-siam-diff", size="small", classes=5)
    radius, stride = receptive_field(network), network.stride
    side, core = 96, slice(40, 48)
    assert core.start % stride == 0
    pre, post = pair(side)
    with torch.inference_mode():
        whole = network(pre, post)[..., core, core]
        noisy = post.clone()
        noisy[..., : core.start - radius] += 9
        noisy[..., core.stop + radius :, :] -= 9
        assert torch.equal(network(pre, noisy)[..., core, core], whole)
        cut = slice(core.start - radius, core.stop + radius)
        tile = network(pre[..., cut, cut], post[..., cut, cut])[..., radius:-radius, radius:-radius]
    assert torch.allclose(tile, whole, atol=1e-6)


def test_receptive_fields() -> None:
    fields = {size: receptive_field(make("fc-siam-diff", size=size)) for size in COUNTS}
    # At least the gradient radii that were found by experiment: 15, 90 and 202 px.
    assert fields == {"small": 24, "medium": 112, "large": 224, "daudt": 128}


def test_shift_equivariance_in_whole_strides() -> None:
    network = make("fc-ef", size="small")
    pre, post = pair(128)
    with torch.inference_mode():
        logits = network(pre, post)
        moved = network(pre.roll(8, -1), post.roll(8, -1))
        other = network(pre.roll(1, -1), post.roll(1, -1))
    middle = slice(48, 80)
    assert torch.allclose(moved[..., middle, 56:88], logits[..., middle, middle], atol=1e-6)
    assert not torch.allclose(other[..., middle, 49:81], logits[..., middle, middle], atol=1e-6)


def test_daudt_pads_odd_sizes_and_the_others_refuse_them() -> None:
    pre, post = torch.randn(2, 1, 3, 50, 67)
    assert make("fc-siam-conc", size="daudt")(pre, post).shape == (1, 1, 50, 67)
    with pytest.raises(UsageError, match="divisible by 16 for size 'medium'; got 50×67 px"):
        make("fc-siam-conc", size="medium")(pre, post)
    with pytest.raises(UsageError, match=r"takes two tensors \(n, 4, h, w\)"):
        make("fc-ef", in_channels=4)(pre, post)


def test_damage_codes() -> None:
    probabilities = torch.tensor([0.5, 0.501, 0.3]).reshape(1, 1, 1, 3)
    assert damage_codes(probabilities).tolist() == [[[0, 5, 0]]]  # the threshold is not damage
    assert damage_codes(probabilities, threshold=0.2).tolist() == [[[5, 5, 5]]]
    five = torch.eye(5).reshape(1, 5, 5, 1)
    assert damage_codes(five).flatten().tolist() == [0, 1, 2, 3, 4]
    assert damage_codes(five).dtype == torch.uint8


def test_unknown_names_and_options_are_told() -> None:
    with pytest.raises(
        UsageError,
        match="Valid names: deep-disaster, dual-hrnet, fc-ef, fc-siam-conc, fc-siam-diff",
    ):
        build("fc-sam")
    with pytest.raises(UsageError, match="Valid sizes: small, medium, large, daudt"):
        build("fc-ef", size="tiny")
    with pytest.raises(UsageError, match="got classes=3"):
        build("fc-ef", classes=3)
    with pytest.raises(UsageError, match="does not take the options"):
        build("fc-ef", width=3)


def test_importing_the_room_does_not_import_torch() -> None:
    code = "import sys, aftermap.models; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_public_names() -> None:
    assert callable(aftermap.models.build)
    assert callable(aftermap.models.metrics.xview2_score)
    assert callable(aftermap.models.losses.lovasz_softmax)
    assert aftermap.models.build is build
