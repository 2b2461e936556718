"""What scored squares cost over their pure forward pass, and what batches, smaller backbones and bf16 gain.

Paper 003 tells how long it took for its three towns, on a computer that it does not describe.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from aftermap.kernels.apply import apply_chunk
from aftermap.kernels.methods import load_method
from aftermap.kernels.scan import first_pixels
from aftermap.kernels.scan_network import ScanKernel
from aftermap.models.card import Card
from aftermap.models.checkpoint import save
from aftermap.models.inception_window import InceptionWindow
from aftermap.scenes.pair import Pair
from aftermap.scenes.plan import Plan, Window
from bench import Bench
from figure import Figure
from process import Peak, isolated

TOWNS = {
    "Xadani": ((25598, 30144), 4420),
    "Juchitán": ((42375, 28831), 6375),
    "Unión Hidalgo": ((19945, 28795), 3938),
}
"""Raster, px, and seconds that paper 003 took."""

BACKBONES = ("inception_v3", "resnet18", "mobilenetv3_small_100")
STRIP = 8192
"""Side of the raster that is worked on, px; when quick, its first two rows of squares."""


def measure(bench: Bench) -> list[Figure]:
    """Squares a second, the raster's time over the pure forward pass, peak memory; what changes gain."""
    figures = []
    for backbone in BACKBONES:
        file = _random(bench.folder, backbone)
        found = isolated(
            _cost, file, bench.pairs.pair(STRIP), backbone == BACKBONES[0] and not bench.quick
        )
        rate = found["rate"]
        figures += [
            Figure(f"{backbone}, squares of 299 px on one thread", rate, "1/s", detail=found),
            Figure(f"{backbone}, raster over pure forward pass", found["ratio"], ""),
            Figure(f"{backbone}, batches of 8 over single squares", found["batch_8"], ""),
            Figure(f"{backbone}, bf16 over fp32", found["bf16"], ""),
            Figure(f"{backbone}, peak memory of a worker", found["peak"] / 2**20, "MiB"),
        ]
        if backbone == BACKBONES[0]:
            figures += [
                Figure(
                    f"{town}, projected over the paper's {seconds} s",
                    squares(sides) / rate / seconds,
                    "",
                )
                for town, (sides, seconds) in TOWNS.items()
            ]
    return figures


def squares(sides: tuple[int, int]) -> int:
    """How many squares of 299 px with 90 in common a raster has, the last ones flush with its edges."""
    window = Window.scanning(299, 90)
    rows, cols = (len(np.unique(first_pixels(side, window))) for side in sides)
    return rows * cols


def _cost(file: Path, pair: Pair, whole: bool) -> dict[str, float]:
    """In a process of its own, with one thread."""
    torch.set_num_threads(1)
    pair = replace(pair, pre=None)
    with Peak() as peak:
        kernel = load_method("inception-window", file, device="cpu", precision="fp32")
        assert isinstance(kernel, ScanKernel)
        core = kernel.window.core
        height = pair.grid.shape[0] if whole else 2 * core
        plan = Plan.of(
            pair.grid.shape, kernel.window, 10 * core, (0, 0, height, pair.grid.shape[1])
        )
        one, eight = (_seconds(kernel, size) for size in (1, 8))
        narrow = _seconds(replace(kernel, precision="bf16"), 1)
        start = time.perf_counter()
        for chunk in plan:
            apply_chunk(kernel, pair, plan, chunk)
        taken = time.perf_counter() - start
    return {
        "rate": plan.window_count / taken,
        "ratio": taken / (plan.window_count * one),
        "batch_8": one / eight,
        "bf16": one / narrow,
        "squares": float(plan.window_count),
        "peak": float(peak.bytes),
    }


def _seconds(kernel: ScanKernel, batch: int, repetitions: int = 5) -> float:
    """Of a square, the median over batches of noise."""
    side = kernel.window.scan
    noise = np.random.default_rng(0).integers(0, 256, (batch, 3, side, side), np.uint8)
    valid, taken = np.ones((batch, side, side), bool), []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        kernel.scores(noise, valid)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[1:])) / batch


def _random(folder: Path, backbone: str) -> Path:
    torch.manual_seed(0)
    network = InceptionWindow(backbone)
    window = network.window()
    card = Card(
        method="inception-window", network="inception-window",
        options={"encoder": backbone, "side": network.side}, classes=1, bands=3, mean=network.mean,
        std=network.std, resolution=(0.05, 2.0), nominal_resolution=0.5, core=window.core,
        halo=window.halo, scan=window.scan, stride=1,
    )  # fmt: skip
    path = folder / f"{backbone}.safetensors"
    save(path, network, card)
    return path
