"""What each network costs over its pure forward pass, in memory too, and the seams that its windows leave."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from aftermap.kernels.apply import apply_chunk
from aftermap.kernels.methods import load_method
from aftermap.kernels.network import NetworkKernel
from aftermap.models.card import Card
from aftermap.models.checkpoint import save
from aftermap.models.damage_net import DamageNet
from aftermap.models.registry import build
from aftermap.scenes.layer import decode
from aftermap.scenes.pair import Pair
from aftermap.scenes.plan import Plan, Window
from bench import Bench
from figure import Figure
from process import Peak, isolated

NETWORKS: dict[str, dict[str, object]] = {
    "fc-siam-diff": {"size": "medium", "classes": 5},
    "dual-hrnet": {},
    "unet-grid": {},
}
"""Those that are measured, at their published size."""

_CORES = 2
"""Cores per side of the chunk that is worked on."""


def measure(bench: Bench) -> list[Figure]:
    """Mpx/s of the pure forward pass, a chunk's time over it, peak memory; seams where windows fade."""
    figures = []
    for name, options in NETWORKS.items():
        file = _random(bench.folder, name, options)
        side = _CORES * load_method(name, file, device="cpu").window.core
        found = isolated(
            _cost, name, file, bench.pairs.pair(-(-side // 1024) * 1024), 1 if bench.quick else 3
        )
        figures += [
            Figure(f"{name}, pure forward pass", found["rate"], "Mpx/s"),
            Figure(f"{name}, chunk over pure forward pass", found["ratio"], "", detail=found),
            Figure(f"{name}, peak memory of a worker", found["peak"] / 2**20, "MiB"),
        ]
        if "seam" in found:
            figures += [
                Figure(f"{name}, jump at seams, faded", found["seam"], "of probability"),
                Figure(f"{name}, jump at seams, cut", found["seam_cut"], "of probability"),
            ]
    return figures


def _cost(name: str, file: Path, pair: Pair, repetitions: int) -> dict[str, float]:
    """In a process of its own, with one thread, fp32."""
    torch.set_num_threads(1)
    with Peak() as peak:
        kernel = load_method(name, file, device="cpu", precision="fp32")
        assert isinstance(kernel, NetworkKernel)
        window, side = kernel.window, _CORES * kernel.window.core
        network = kernel._networks()[0]
        image = torch.randn(1, 3, window.size, window.size).to(memory_format=torch.channels_last)
        forward, chunk = [], []
        for _ in range(repetitions):
            start = time.perf_counter()
            with torch.inference_mode():
                network(image, image)
            forward.append(time.perf_counter() - start)
            start = time.perf_counter()
            block = _worked_on(kernel, pair, side)
            chunk.append(time.perf_counter() - start)
    pure = median(forward) * side**2 / window.size**2
    found = {
        "rate": window.size**2 / 1e6 / median(forward),
        "ratio": median(chunk) / pure,
        "peak": peak.bytes,
        "squares_per_area": kernel_overhead(window, side),
    }
    if window.blended:
        cut = replace(kernel, window=Window(window.core, (window.size - window.core) // 2))
        found["seam"] = _jump(block, window.core)
        found["seam_cut"] = _jump(_worked_on(cut, pair, side), window.core)
    return found


def kernel_overhead(window: Window, side: int) -> float:
    """Pixels that a network sees per pixel of a chunk."""
    return Plan.of((side, side), window, side).overhead


def _worked_on(kernel: NetworkKernel, pair: Pair, side: int) -> np.ndarray:
    """Building or damage probability of the first chunk, float32 (side, side)."""
    plan = Plan.of(pair.grid.shape, kernel.window, side)
    block = apply_chunk(kernel, pair, plan, next(iter(plan)))
    assert block is not None
    name = "building_probability" if "building_probability" in block else "damage_probability"
    return decode(block[name])


def _jump(found: np.ndarray, core: int) -> float:
    """How much more neighbours differ across the border of cores than elsewhere, on average."""
    steps = [abs(np.diff(found, axis=0)), abs(np.diff(found, axis=1)).T]
    across = np.nanmean([step[core - 1 :: core] for step in steps])
    return float(across - np.nanmean([np.nanmean(step) for step in steps]))


@torch.no_grad()
def _random(folder: Path, name: str, options: dict[str, object]) -> Path:
    """Weights of random values with settled statistics."""
    path = folder / f"{name}.safetensors"
    torch.manual_seed(0)
    network = build(name, **options)
    assert isinstance(network, DamageNet)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    window = network.window()
    side = min(window.size, 512)  # enough for statistics; four grid cells fit
    network.train()(*torch.randn(2, 2, 3, side, side))
    network.eval()
    card = Card(
        method=name,
        network=name,
        options=options,
        classes=network.classes,
        bands=3,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        resolution=(0.3, 0.8),
        nominal_resolution=0.5,
        core=window.core,
        halo=window.halo,
        blended=window.blended,
        stride=network.stride,
    )
    save(path, network, card)
    return path
