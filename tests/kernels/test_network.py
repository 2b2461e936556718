"""Networks as kernels: tiled equals whole, precision is fixed, weights are loaded once per process."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from aftermap.kernels.apply import apply_chunk
from aftermap.kernels.loaded import fold_batch_norm, loaded
from aftermap.kernels.methods import load_method
from aftermap.models.card import Card
from aftermap.models.change import receptive_field
from aftermap.models.checkpoint import load, save
from aftermap.models.registry import build
from aftermap.scenes.errors import Refused, UsageError
from aftermap.scenes.pair import Pair, make_pair
from aftermap.scenes.plan import Plan
from rasters import texture, write_raster

SHAPE = 200, 260


def untrained(folder: Path, method: str, size: str, classes: int, halo: int, seed: int = 0) -> Path:
    """Weights with random values and settled batch statistics, so that logits are of order one."""
    torch.manual_seed(seed)
    network = build(method, size=size, classes=classes)
    with torch.no_grad():
        network.train()
        for _ in range(3):
            network(torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64))
    stride = 32 if size == "large" else 16 if size in ("medium", "daudt") else 8
    card = Card(
        method=method,
        network=method,
        options={"size": size, "classes": classes},
        classes=classes,
        bands=3,
        mean=(0.4, 0.4, 0.4),
        std=(0.2, 0.2, 0.2),
        resolution=(0.3, 0.8),
        nominal_resolution=0.5,
        core=max(64, -(-halo // stride) * stride),
        halo=halo,
        stride=stride,
    )
    path = folder / f"{method}-{size}-{classes}.safetensors"
    save(path, network, card)
    return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    post = texture(*SHAPE, 2)
    post[:, :30, :50] = 0
    return make_pair(
        write_raster(folder / "pre.tif", texture(*SHAPE, 1)),
        write_raster(folder / "post.tif", post, nodata=0),
    )


@pytest.mark.parametrize("method", ["fc-ef", "fc-siam-conc", "fc-siam-diff"])
@pytest.mark.parametrize(
    ("size", "classes"),
    [("small", 1), ("medium", 5), ("daudt", 1), pytest.param("large", 5, marks=pytest.mark.slow)],
)
def test_tiles_with_the_receptive_field_as_halo_equal_the_whole_image(
    tmp_path: Path, pair: Pair, method: str, size: str, classes: int
) -> None:
    halo = receptive_field(build(method, size=size, classes=classes))
    kernel = load_method(
        method, untrained(tmp_path, method, size, classes, halo), device="cpu", precision="fp32"
    )
    assert kernel.window.halo == halo
    plan = Plan.of(SHAPE, kernel.window, kernel.window.core)
    tiled = np.full(SHAPE, 255, np.uint8)
    score = np.full(SHAPE, 255, np.uint8)
    for chunk in plan:
        block = apply_chunk(kernel, pair, plan, chunk)
        tiled[chunk.row0 : chunk.row1, chunk.col0 : chunk.col1] = block["damage"]
        score[chunk.row0 : chunk.row1, chunk.col0 : chunk.col1] = block["damage_probability"]
    whole = whole_image(kernel, pair)
    valid = pair.read(0, 0, *SHAPE).valid
    assert (tiled[~valid] == 255).all()
    # Tiles and the whole image may be summed in another order, which tips what is all but a tie.
    sure = whole["lead"] > 1e-6
    assert sure[valid].mean() > 0.999
    np.testing.assert_array_equal(tiled[valid & sure], whole["damage"][valid & sure])
    # Stored in steps of 1/250: a difference of 1e-6 may move a value over a rounding edge.
    assert np.abs(score[valid].astype(int) - whole["damage_probability"][valid]).max() <= 1
    assert (score[valid] != whole["damage_probability"][valid]).mean() < 1e-3


def whole_image(kernel, pair: Pair) -> dict[str, np.ndarray]:
    """The raster padded with nodata by the halo on four sides, one plain forward pass, cropped."""
    halo, stride = kernel.window.halo, kernel.card.stride
    down, right = (-n % stride for n in SHAPE)
    pixels = pair.read(-halo, -halo, SHAPE[0] + down + halo, SHAPE[1] + right + halo)
    card, network = kernel.card, build(kernel.card.network, **kernel.card.options)
    import safetensors.torch

    network.load_state_dict(safetensors.torch.load_file(kernel.weights))
    network.eval()

    def normal(image: np.ndarray) -> torch.Tensor:
        x = torch.from_numpy(image.astype(np.float32))[None] / 255
        x = (x - torch.tensor(card.mean).view(1, -1, 1, 1)) / torch.tensor(card.std).view(
            1, -1, 1, 1
        )
        return x * torch.from_numpy(pixels.valid)

    with torch.inference_mode():
        logits = network(normal(pixels.pre), normal(pixels.post))[0]
    logits = logits[:, halo : halo + SHAPE[0], halo : halo + SHAPE[1]]
    if len(logits) == 1:
        p = torch.sigmoid(logits[0]).numpy()
        return {
            "damage": np.where(p > 0.5, 5, 0),
            "damage_probability": np.rint(p * 250).astype(int),
            "lead": abs(p - 0.5),
        }
    p = torch.softmax(logits, dim=0).numpy()
    first, second = np.sort(p, axis=0)[:-3:-1]
    return {
        "lead": first - second,
        "damage": p.argmax(axis=0),
        "damage_probability": np.rint(p[2:].sum(axis=0) * 250).astype(int),
    }


def test_batches_of_any_size_give_the_same_bits(tmp_path: Path) -> None:
    kernel = load_method(
        "fc-siam-diff", untrained(tmp_path, "fc-siam-diff", "small", 5, 16), device="cpu"
    )
    rng = np.random.default_rng(0)
    pre, post = rng.integers(0, 255, (2, 4, 3, 96, 96), np.uint8)
    valid = np.ones((4, 96, 96), bool)
    together = kernel(pre, post, valid)
    for n in range(4):
        alone = kernel(pre[n : n + 1], post[n : n + 1], valid[n : n + 1])
        for name in together:
            np.testing.assert_array_equal(alone[name][0], together[name][n])


@pytest.mark.parametrize("method", ["fc-ef", "fc-siam-conc", "fc-siam-diff"])
@pytest.mark.parametrize("size", ["small", "medium", "daudt"])
def test_folding_batch_norm_changes_no_more_than_rounding(method: str, size: str) -> None:
    torch.manual_seed(1)
    network = build(method, size=size, classes=5)
    with torch.inference_mode():
        network.train()
        pre, post = torch.randn(2, 2, 3, 64, 64)
        network(pre, post)
        network.eval()
        before = network(pre, post)
        folded = fold_batch_norm(network)
        after = folded(pre, post)
    left = [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert not left
    torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-4)


def test_a_kernel_travels_as_a_key_and_loads_its_weights_once(tmp_path: Path) -> None:
    kernel = load_method(
        "fc-siam-diff", untrained(tmp_path, "fc-siam-diff", "medium", 5, 32), device="cpu"
    )
    assert len(pickle.dumps(kernel)) < 3000
    assert pickle.loads(pickle.dumps(kernel)) == kernel
    loaded.cache_clear()
    image, valid = np.zeros((1, 3, 128, 128), np.uint8), np.ones((1, 128, 128), bool)
    kernel(image, image, valid)
    kernel(image, image, valid)
    assert loaded.cache_info().misses == 1


def test_out_of_memory_is_told_as_memory_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = load_method(
        "fc-siam-diff", untrained(tmp_path, "fc-siam-diff", "small", 1, 16), device="cpu"
    )

    def full(*args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(kernel), "_forward", full)
    with pytest.raises(MemoryError):
        kernel(
            np.zeros((1, 3, 96, 96), np.uint8),
            np.zeros((1, 3, 96, 96), np.uint8),
            np.ones((1, 96, 96), bool),
        )


def test_weights_that_changed_since_the_plan_are_refused(tmp_path: Path) -> None:
    path = untrained(tmp_path, "fc-siam-diff", "small", 5, 16)
    kernel = load_method("fc-siam-diff", path, device="cpu")
    network = build("fc-siam-diff", size="small", classes=5)
    save(path, network, kernel.card)
    loaded.cache_clear()
    image = np.zeros((1, 3, 96, 96), np.uint8)
    with pytest.raises(Refused, match="changed since"):
        kernel(image, image, np.ones((1, 96, 96), bool))


def test_unknown_methods_options_and_devices_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fc-siam-diff"):
        load_method("fc-siam")
    with pytest.raises(UsageError, match="does not take"):
        load_method("difference", colour="red")
    with pytest.raises(UsageError, match="--device"):
        load_method(
            "fc-siam-diff", untrained(tmp_path, "fc-siam-diff", "small", 1, 16), device="tpu"
        )
    with pytest.raises(Refused, match="aftermap train --method fc-ef"):
        load_method("fc-ef")
    if not torch.cuda.is_available():
        with pytest.raises(Refused, match="no GPU"):
            load_method(
                "fc-siam-diff", untrained(tmp_path, "fc-siam-diff", "small", 1, 16), device="cuda"
            )


def test_a_halo_off_the_stride_is_refused(tmp_path: Path) -> None:
    path = untrained(tmp_path, "fc-siam-diff", "small", 1, 16)
    with pytest.raises(Refused, match="Give 24"):
        load_method("fc-siam-diff", path, device="cpu", halo=20)


def spread(folder: Path, seeds: tuple[int, ...], classes: int = 5) -> list[Path]:
    """Weights of one network that differ."""
    files = []
    for seed in seeds:
        (folder / str(seed)).mkdir()
        files.append(untrained(folder / str(seed), "fc-siam-diff", "small", classes, 16, seed))
    return files


def noise(side: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    pre, post = rng.integers(0, 255, (2, 1, 3, side, side), np.uint8)
    return pre, post, rng.random((1, side, side)) > 0.1


def shares(stored: Mapping[str, np.ndarray]) -> np.ndarray:
    names = ("p_none", "p_minor", "p_major", "p_destroyed")
    return np.stack([stored[name] for name in names]).astype(float)


def test_an_ensemble_is_the_mean_of_its_networks(tmp_path: Path) -> None:
    files = spread(tmp_path, (0, 1, 2))
    alone = [load_method("fc-siam-diff", file, device="cpu", precision="fp32") for file in files]
    both = load_method("fc-siam-diff", files[0], device="cpu", precision="fp32", ensemble=files[1:])
    windows = noise(alone[0].window.size)
    found = both(*windows)
    mean = np.mean([shares(kernel(*windows)) for kernel in alone], axis=0)
    # Each of the three was stored in whole steps.
    assert abs(shares(found) - mean).max() <= 1
    assert abs(shares(alone[0](*windows)) - mean).max() > 3
    digests = str(both.facts()["weights_sha256"]).split("+")
    assert digests == [kernel.facts()["weights_sha256"] for kernel in alone]
    assert both.facts()["ensemble"] == [str(file) for file in files[1:]]
    assert pickle.loads(pickle.dumps(both)) == both


def test_views_are_the_mean_over_flips_and_turns(tmp_path: Path) -> None:
    (file,) = spread(tmp_path, (0,))
    one = load_method("fc-siam-diff", file, device="cpu", precision="fp32")
    windows = noise(one.window.size)
    for views, turns in ((4, (0, 2)), (8, (0, 1, 2, 3))):
        found = []
        for k in turns:
            for flip in (False, True):
                seen = [np.rot90(x[..., ::-1] if flip else x, k, (-2, -1)).copy() for x in windows]
                back = np.rot90(shares(one(*seen)), -k, (-2, -1))
                found.append(back[..., ::-1] if flip else back)
        kernel = load_method("fc-siam-diff", file, device="cpu", precision="fp32", views=views)
        assert len(found) == views
        assert abs(shares(kernel(*windows)) - np.mean(found, axis=0)).max() <= 1
        assert kernel.facts()["views"] == views
    assert "views" not in one.facts()


def test_an_ensemble_takes_what_all_its_cards_allow(tmp_path: Path) -> None:
    one, two, three = spread(tmp_path, (0, 1, 2))
    for file, pixels in ((one, (0.2, 1.0)), (two, (0.5, 2.0)), (three, (3.0, 4.0))):
        network, card = load(file)
        save(file, network, replace(card, resolution=pixels, nominal_resolution=pixels[0]))
    kernel = load_method("fc-siam-diff", one, device="cpu", ensemble=[two])
    assert kernel.resolution == (0.5, 1.0)
    with pytest.raises(Refused, match=r"at most 1 m .* at least 3 m.*--ensemble"):
        load_method("fc-siam-diff", one, device="cpu", ensemble=[three])


def test_what_cannot_be_averaged_is_refused(tmp_path: Path) -> None:
    (five,) = spread(tmp_path, (0,))
    one = untrained(tmp_path, "fc-siam-diff", "small", 1, 16)
    with pytest.raises(Refused, match=r"cannot be averaged.*classes is 1 and 5.*--ensemble"):
        load_method("fc-siam-diff", five, device="cpu", ensemble=[one])
    with pytest.raises(Refused, match=r"no weights file .*given to --ensemble"):
        load_method("fc-siam-diff", five, device="cpu", ensemble=[tmp_path / "gone.safetensors"])
    with pytest.raises(Refused, match=r"no weights file .*given to --weights"):
        load_method("fc-siam-diff", tmp_path / "gone.safetensors", device="cpu", ensemble=[five])
    with pytest.raises(UsageError, match="--views 3 is none of 1, 4"):
        load_method("fc-siam-diff", five, device="cpu", views=3)
