"""From chips to a map: a checkpoint that was just trained runs over a gigapixel-shaped scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from aftermap.models.checkpoint import load
from aftermap.models.chips.chip import Chip
from aftermap.models.evaluation import predict_chip
from aftermap.models.loop import silence
from aftermap.models.recipes import TrainConfig
from aftermap.models.training import train
from PIL import Image
from rasterio.transform import from_origin
from rasterio.windows import Window

import aftermap as am

WIDE, HIGH = 131_072, 8_192
ISLANDS = ((4_000, 1_000), (70_000, 5_000))
SIDE = 512
MARGIN = 32
"""More than the receptive field of the small network, px."""


def town(seed: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bright roofs on grey ground, of which half turned dark: before, after, mask."""
    rng = np.random.default_rng(seed)
    pre = rng.integers(90, 110, (3, side, side)).astype(np.uint8)
    post, mask = pre.copy(), np.zeros((side, side), np.uint8)
    for row in range(4, side - 20, 28):
        for col in range(4, side - 20, 28):
            roof = np.s_[row : row + 16, col : col + 16]
            pre[:, *roof] = 210
            post[:, *roof] = dark = 210 if rng.random() < 0.5 else 25
            mask[roof] = dark < 100
    return pre, post, mask


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("chips")
    for i in range(14):
        for name, array in zip(("pre", "post", "mask"), town(i, 64), strict=True):
            (root / name).mkdir(exist_ok=True)
            picture = array if array.ndim == 2 else array.transpose(1, 2, 0)
            Image.fromarray(np.ascontiguousarray(picture)).save(root / name / f"{i}.png")
    return train(
        TrainConfig(
            out=str(root / "out"), data=(str(root),), method="fc-siam-conc", size="small",
            classes=1, epochs=3, steps=30, chip=64, batch=4, lr=1e-2, augment="none",
            precision="fp32", core=512,
        ),
        silence,
    )  # fmt: skip


def scene(path: Path, images: list[np.ndarray]) -> Path:
    """A sparse raster of a gigapixel, with an image in each of its islands."""
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=3, width=WIDE, height=HIGH, nodata=0,
        crs="EPSG:32637", transform=from_origin(300_000, 4_200_000, 0.5, 0.5), tiled=True,
        blockxsize=512, blockysize=512, compress="deflate", photometric="RGB", SPARSE_OK=True,
    ) as target:  # fmt: skip
        for (col, row), image in zip(ISLANDS, images, strict=True):
            target.write(image, window=Window(col, row, SIDE, SIDE))
    return path


@pytest.mark.slow
def test_a_checkpoint_runs_over_a_gigapixel_unchanged(weights: Path, tmp_path: Path) -> None:
    assert WIDE * HIGH > 1e9
    towns = [town(100 + i, SIDE) for i in range(len(ISLANDS))]
    run = am.assess(
        scene(tmp_path / "pre.tif", [pre for pre, _, _ in towns]),
        scene(tmp_path / "post.tif", [post for _, post, _ in towns]),
        out=tmp_path / "run",
        method="fc-siam-conc",
        weights=weights,
        precision="fp32",
        cluster="threads",
        workers=2,
    )
    assert run.record["state"] == "done"
    network, _ = load(weights)
    inside = np.s_[MARGIN:-MARGIN, MARGIN:-MARGIN]
    with rasterio.open(tmp_path / "run" / "damage.tif") as damage:
        assert (damage.width, damage.height) == (WIDE, HIGH)
        for (col, row), (pre, post, mask) in zip(ISLANDS, towns, strict=True):
            found = damage.read(1, window=Window(col, row, SIDE, SIDE))
            whole = predict_chip(network, Chip(pre, post, mask))  # type: ignore[arg-type]
            assert np.array_equal(found[inside], whole.codes[inside])
            assert ((found == 5) == (mask == 1)).mean() > 0.95
        assert (damage.read(1, window=Window(30_000, 4_000, 256, 256)) == 255).all()
