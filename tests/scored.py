"""Weights of a method that scores squares, random but for a threshold amid the scores of a scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from aftermap.kernels.methods import load_method
from aftermap.kernels.scan_network import ScanKernel
from aftermap.models.card import Card
from aftermap.models.checkpoint import save
from aftermap.models.deep_disaster import DeepDisaster
from aftermap.models.inception_window import InceptionWindow
from aftermap.models.score_net import ScoreNet

SIDE = 32


def scored(folder: Path, method: str, image: np.ndarray, overlap: int = 0) -> Path:
    """Weights of `method` for which half of the squares of an image (3, h, w) show damage."""
    torch.manual_seed(0)
    network: ScoreNet = InceptionWindow("resnet18", SIDE).eval()
    options: dict[str, object] = {"encoder": "resnet18", "side": SIDE}
    if method == "deep-disaster":
        network = DeepDisaster(width=4, teacher_width=4, side=SIDE, unit=0.7)
        options = dict(network.options)
    path = _saved(folder / method, network, method, options, overlap, 0.5)
    kernel = load_method(method, path, device="cpu")
    assert isinstance(kernel, ScanKernel)
    rows, cols = (range(0, side - SIDE + 1, SIDE - overlap) for side in image.shape[1:])
    squares = [image[:, row : row + SIDE, col : col + SIDE] for row in rows for col in cols]
    scores = [kernel.scores(s[None], np.ones((1, SIDE, SIDE), bool))[0] for s in squares]
    return _saved(folder / method, network, method, options, overlap, float(np.median(scores)))


def _saved(
    path: Path,
    network: ScoreNet,
    method: str,
    options: dict[str, object],
    overlap: int,
    least: float,
) -> Path:
    card = Card(
        method=method, network=method, options=options, classes=1, bands=3, mean=(0.5,) * 3,
        std=(0.5,) * 3, resolution=(0.1, 2), nominal_resolution=0.5, core=SIDE - overlap, halo=SIDE,
        scan=SIDE, stride=1, threshold=least,
    )  # fmt: skip
    save(path, network, card)
    return path.with_name(f"{path.name}.safetensors")
