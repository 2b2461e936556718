"""Footprints and grid cells over rasters: what a chunk makes is what the whole raster would give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from aftermap.kernels.methods import load_method
from aftermap.kernels.network import NetworkKernel
from aftermap.models.checkpoint import load
from aftermap.models.unet_grid import UNetGrid, opened
from aftermap.models.unet_join import join
from aftermap.scenes.errors import Refused, UsageError
from aftermap.scenes.pair import Pair, make_pair
from aftermap.scenes.plan import Window
from chunked import by_chunks
from grids import CELL, grid_weights, random_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from rasters import texture, write_raster
from scipy import ndimage

CROSS = ndimage.generate_binary_structure(2, 1)
SHAPE = 300, 410


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grid_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def kernel(weights: Path) -> NetworkKernel:
    made = load_method("unet-grid", weights, device="cpu", precision="fp32")
    assert isinstance(made, NetworkKernel)
    return made


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    pre, post = texture(*SHAPE, 1), texture(*SHAPE, 2)
    post[:, 100:200, :150] = 0
    return make_pair(
        write_raster(folder / "pre.tif", pre), write_raster(folder / "post.tif", post, nodata=0)
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 0.95))
def test_opening_is_scipy_s(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((2, 17, 23)) < share
    wanted = [ndimage.binary_opening(one, CROSS) for one in mask]
    np.testing.assert_array_equal(opened(torch.from_numpy(mask)).numpy(), wanted)


def test_layers_and_window(kernel: NetworkKernel) -> None:
    assert kernel.window == Window(2 * CELL, CELL + 32, blended=True)
    names = [layer.name for layer in kernel.layers]
    assert names == ["damage", "damage_probability", "building_probability"]
    assert kernel.threshold == 0.5


def test_chunk_size_changes_no_bit(kernel: NetworkKernel, pair: Pair) -> None:
    one, other = (by_chunks(kernel, pair, side) for side in (1, 10_000))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    assert set(np.unique(one["damage"])) == {0, 1, 5, 255}


def test_the_opening_agrees_with_that_of_the_whole_raster(
    kernel: NetworkKernel, pair: Pair
) -> None:
    """From the stored probabilities of a run in the smallest chunks; ties of rounding left out."""
    found = by_chunks(kernel, pair, 1)
    valid = pair.read(0, 0, *SHAPE).valid
    building = found["building_probability"]
    sure = building != 125
    assert sure.mean() > 0.98
    mask = (building > 125) & valid
    whole = ndimage.binary_opening(mask, CROSS)
    known = ndimage.binary_erosion(sure, ndimage.generate_binary_structure(2, 2), iterations=2)
    specks = mask & ~whole & known & valid
    assert specks.sum() > 10  # there was something to open
    np.testing.assert_array_equal((found["damage"] > 0)[known & valid], whole[known & valid])


def test_cells_are_what_the_classifier_says_of_each(
    kernel: NetworkKernel, weights: Path, pair: Pair
) -> None:
    found = by_chunks(kernel, pair, 1)
    network, card = load(weights)
    assert isinstance(network, UNetGrid)
    for row in range(0, SHAPE[0], CELL):
        for column in range(0, SHAPE[1], CELL):
            pixels = pair.read(row, column, row + CELL, column + CELL)
            image = (torch.from_numpy(pixels.post).float()[None] / 255 - 0.4) / 0.2
            with torch.inference_mode():
                p = network.cells(image * torch.from_numpy(pixels.valid)).sigmoid().item()
            there = np.s_[row : row + CELL, column : column + CELL]
            stored, damage = found["damage_probability"][there], found["damage"][there]
            seen = stored[stored != 255]
            assert len(set(seen.tolist())) <= 1
            if not seen.size:
                continue
            assert abs(seen[0] - 250 * p) <= 0.6
            if abs(p - card.threshold) > 1e-3:
                built = damage[(damage > 0) & (damage < 255)]
                assert set(built.tolist()) <= {5 if p > card.threshold else 1}


def test_a_halo_that_leaves_no_margin_is_refused(weights: Path) -> None:
    with pytest.raises(Refused, match=r"--halo 128 is too wide for cores of 128 px"):
        load_method("unet-grid", weights, device="cpu", halo=128)


def test_networks_of_other_cells_are_not_averaged(weights: Path, tmp_path: Path) -> None:
    other = grid_weights(tmp_path / "other", cell=2 * CELL)
    with pytest.raises(Refused, match=r"cannot be averaged.*core is 256 and 128.*--ensemble"):
        load_method("unet-grid", weights, device="cpu", ensemble=[other])


def test_squares_may_be_the_four_cells_and_no_more(
    kernel: NetworkKernel, weights: Path, pair: Pair
) -> None:
    """The least halo that windows take: footprints do not fade, and cells say the same."""
    least = load_method("unet-grid", weights, device="cpu", precision="fp32", halo=CELL)
    one, other = (by_chunks(least, pair, side) for side in (1, 10_000))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    wanted = by_chunks(kernel, pair, 10_000)["damage_probability"]
    np.testing.assert_array_equal(one["damage_probability"], wanted)


def test_joining_keeps_both_and_refuses_what_does_not_go_together(tmp_path: Path) -> None:
    buildings = random_weights(tmp_path / "a.safetensors", "unet-footprints", threshold=0.3)
    cells = random_weights(
        tmp_path / "b.safetensors", "grid-classifier", threshold=0.7, resolution=(0.3, 2.0)
    )
    network, card = load(join(buildings, cells, tmp_path / "out"))
    assert isinstance(network, UNetGrid)
    assert network.building_threshold == 0.3
    assert (card.threshold, card.resolution, card.licence) == (0.7, (0.3, 1.0), "Apache-2.0")
    image = torch.randn(1, 3, 2 * CELL + 64, 2 * CELL + 64)
    with torch.inference_mode():
        found = network.probabilities(image, image)
        alone = load(buildings)[0].probabilities(image)  # type: ignore[operator]
    torch.testing.assert_close(found[:, :1], alone)
    far = random_weights(
        tmp_path / "c.safetensors", "grid-classifier", resolution=(2.0, 3.0), nominal_resolution=2.0
    )
    with pytest.raises(Refused, match=r"0.1 to 1 m and .* for 2 to 3 m"):
        join(buildings, far, tmp_path)
    other = random_weights(tmp_path / "d.safetensors", "grid-classifier", mean=(0.5, 0.5, 0.5))
    with pytest.raises(Refused, match="mean is"):
        join(buildings, other, tmp_path)
    with pytest.raises(
        Refused, match=r"FOOTPRINTS takes weights of unet-footprints.*b\.saf.*first"
    ):
        join(cells, buildings, tmp_path)
    with pytest.raises(Refused, match=r"CELLS takes weights of grid-classifier.*a\.safetensors"):
        join(buildings, buildings, tmp_path)
    with pytest.raises(Refused, match="Check the path given to CELLS"):
        join(buildings, tmp_path / "none.safetensors", tmp_path)
    small = random_weights(
        tmp_path / "e.safetensors", "grid-classifier", options={"encoder": "resnet18", "cell": 32}
    )
    with pytest.raises(Refused, match=r"e\.safetensors.*64 px or more; got 32.*--chip 64"):
        join(buildings, small, tmp_path)
    with pytest.raises(Refused, match=r"a\.json.*cannot be written.*--out"):
        join(buildings, cells, tmp_path / "a.json")


def test_images_without_four_cells_are_refused() -> None:
    network = UNetGrid("resnet18", "resnet18", CELL)
    with pytest.raises(UsageError, match="Four cells of 64 px"):
        network(torch.zeros(1, 3, 96, 128), torch.zeros(1, 3, 96, 128))
    with pytest.raises(UsageError, match="side of 64 px or more"):
        UNetGrid("resnet18", "resnet18", 32)
