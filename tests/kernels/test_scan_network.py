"""Anomaly maps over rasters: each core's own square, the same under every layout; what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from aftermap.cluster.assess import assess
from aftermap.kernels.apply import apply_chunk
from aftermap.kernels.scan_network import ScanKernel, scan_kernel
from aftermap.models.card import Card
from aftermap.models.checkpoint import load, save
from aftermap.models.deep_disaster import DeepDisaster
from aftermap.models.localisation import vanilla_gradient
from aftermap.scenes.errors import Refused
from aftermap.scenes.pair import Pair, make_pair
from aftermap.scenes.plan import Plan
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasters import texture, write_raster

SIDE, SHAPE = 32, (90, 139)
EXAMPLES = settings(
    max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
)


def student(folder: Path, threshold: float, batch_statistics: bool = False) -> Path:
    torch.manual_seed(0)
    network = DeepDisaster(
        width=4, teacher_width=4, side=SIDE, unit=0.7, batch_statistics=batch_statistics
    )
    card = Card(
        method="deep-disaster", network="deep-disaster", options=network.options, classes=1, bands=3,
        mean=(0.5,) * 3, std=(0.5,) * 3, resolution=(0.1, 2), nominal_resolution=0.5, core=SIDE,
        halo=SIDE, scan=SIDE, stride=1, threshold=threshold,
    )  # fmt: skip
    save(folder / "deep-disaster", network, card)
    return folder / "deep-disaster.safetensors"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth and rough ground, with a hole that has no data."""
    pixels = np.clip(texture(*SHAPE, 7), 1, 255)
    pixels[:, 20:70, 60:120] = np.random.default_rng(0).integers(1, 256, (3, 50, 60))
    pixels[:, 40:75, :50] = 0
    return write_raster(tmp_path_factory.mktemp("scene") / "after.tif", pixels, nodata=0)


@pytest.fixture(scope="module")
def pair(scene: Path) -> Pair:
    return make_pair(None, scene)


@pytest.fixture(scope="module")
def weights(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random student whose threshold lies in the middle of the scene's squares."""
    folder = tmp_path_factory.mktemp("weights")
    scores = whole(scan_kernel("deep-disaster", str(student(folder, 0.5))), pair, 10_000)
    known = scores["anomaly_score"][scores["anomaly_score"] != 255] / 250
    return student(folder, float(np.median(known)) + 0.002)


def whole(kernel: ScanKernel, pair: Pair, chunk: int) -> dict[str, np.ndarray]:
    """All layers of a scene, chunk by chunk."""
    plan = Plan.of(SHAPE, kernel.window, chunk)
    out = {}
    for layer in kernel.layers:
        shape = tuple(-(-n // layer.every) for n in SHAPE)
        out[layer.name] = np.full(shape, 255, np.uint8)
    for piece in plan:
        block = apply_chunk(kernel, pair, plan, piece)
        for layer in kernel.layers if block is not None else ():
            found = block[layer.name]  # type: ignore[index]
            row, col = piece.row0 // layer.every, piece.col0 // layer.every
            out[layer.name][row : row + found.shape[0], col : col + found.shape[1]] = found
    return out


def by_hand(weights: Path, pair: Pair, core: int) -> tuple[np.ndarray, int]:
    """The map of each core's own square, with the network as it was trained, and how many there are."""
    network, card = load(weights)
    assert isinstance(network, DeepDisaster)
    _, post, valid = pair.read(0, 0, *SHAPE)
    wanted, count = np.full(SHAPE, 255.0), 0
    for row in range(0, SHAPE[0], core):
        for col in range(0, SHAPE[1], core):
            top, left = min(row, SHAPE[0] - SIDE), min(col, SHAPE[1] - SIDE)
            square = np.s_[top : top + SIDE, left : left + SIDE]
            own = np.s_[row : row + core, col : col + core]
            if not valid[own].any() or valid[square].mean() < 0.5:
                continue
            image = torch.from_numpy(((post[:, *square] / 127.5) - 1) * valid[square])[None].float()
            with torch.no_grad():
                hit = float(network.scores(image)) >= card.threshold
            count += hit
            drawn = vanilla_gradient(network, image)[0] * 250 if hit else np.zeros((SIDE, SIDE))
            inside = drawn[row - top :, col - left :][:core, :core]
            wanted[own] = np.where(valid[own], inside, 255)
    return wanted, count


@pytest.mark.parametrize("overlap", [0, 11])
def test_maps_are_those_of_the_squares(weights: Path, pair: Pair, overlap: int) -> None:
    kernel = scan_kernel("deep-disaster", str(weights), overlap=overlap)
    found = whole(kernel, pair, 10_000)
    wanted, count = by_hand(weights, pair, SIDE - overlap)
    assert count >= 2
    # BatchNorm is folded into the convolutions here, so that bytes may round otherwise.
    assert np.abs(found["anomaly_map"] - wanted).max() <= 1.5
    np.testing.assert_array_equal(found["anomaly_map"] == 255, found["damage"] == 255)
    assert (found["anomaly_map"][found["damage"] == 0] == 0).all()
    assert found["anomaly_map"][found["damage"] == 5].max() > 100
    assert (found["damage"] == 0).any()


@EXAMPLES
@given(chunk=st.integers(1, 150), overlap=st.sampled_from([0, 5, 20]))
def test_no_bit_depends_on_chunks(weights: Path, pair: Pair, chunk: int, overlap: int) -> None:
    kernel = scan_kernel("deep-disaster", str(weights), overlap=overlap)
    first, then = (
        whole(kernel, pair, 10_000),
        whole(pickle.loads(pickle.dumps(kernel)), pair, chunk),
    )
    for name, values in first.items():
        np.testing.assert_array_equal(values, then[name])


def test_the_map_is_written(weights: Path, scene: Path, tmp_path: Path) -> None:
    """As a raster of its own, also where scores were asked for first in inference mode."""
    options = {"weights": weights, "cluster": "threads", "device": "cpu"}
    run = assess(None, scene, tmp_path / "run", "deep-disaster", workers=1, **options)
    other = assess(None, scene, tmp_path / "two", "deep-disaster", workers=2, chunk=32, **options)
    assert not run.quarantined
    with rasterio.open(run.path / "anomaly_map.tif") as source:
        assert source.shape == SHAPE
        assert source.nodata == 255
        written = source.read(1)
    kernel = scan_kernel("deep-disaster", str(weights))
    np.testing.assert_array_equal(written, whole(kernel, make_pair(None, scene), 64)["anomaly_map"])
    for name in ("anomaly_map.tif", "damage.tif"):
        assert (run.path / name).read_bytes() == (other.path / name).read_bytes()


def test_batch_statistics_are_for_photos(scene: Path, tmp_path: Path) -> None:
    weights = student(tmp_path, 0.5, batch_statistics=True)
    with pytest.raises(Refused, match="that exists for photos only"):
        scan_kernel("deep-disaster", str(weights))
    with pytest.raises(Refused, match="photos only"):
        assess(None, scene, tmp_path / "run", "deep-disaster", weights=weights)
    assert not (tmp_path / "run").exists()
