"""That layouts agree bit for bit, and tiles with the whole image."""

from __future__ import annotations

import numpy as np
import torch
from aftermap.cluster.futures import run_bounded
from aftermap.cluster.job import JobFile, run_chunk
from aftermap.kernels.apply import apply, read_block
from aftermap.kernels.methods import load_method
from aftermap.kernels.network import NetworkKernel
from aftermap.models.change import ChangeNet, receptive_field
from aftermap.models.damage_net import damage_codes
from aftermap.models.registry import build
from aftermap.scenes.pair import Pair
from bench import Bench
from figure import Figure, Target
from timed import loaded
from weights import METHOD, random_weights

import aftermap as am

_CORE = 256
_NARROW = 32
_SIDE = 1024
_SHARE = 0.3
"""Share of background, so that many pixels lie near an edge between classes."""
_LAYOUTS = ((256, 1), (512, 2), (768, 1), (1024, 1))
"""Chunk side in px, and workers."""


def measure(bench: Bench) -> list[Figure]:
    """Differing bytes between layouts in bf16; tiled less whole in fp32 at the receptive field."""
    differing, compared = layouts(bench)
    halo = receptive_field(network())
    gap, flips = whole(bench, halo)
    narrow, _ = whole(bench, _NARROW)
    detail = {"layouts": [list(layout) for layout in _LAYOUTS] + ["lazy"], "bytes": compared}
    return [
        Figure("layouts, differing bytes", differing, "", Target("<=", 0), detail),
        Figure("tiled - whole, probability", gap, "", Target("<=", 1e-6), {"halo_px": halo}),
        Figure(f"the same with a halo of {_NARROW} px only", narrow, ""),
        Figure("tiled - whole, class flips", flips, "px", Target("<=", 0), {"halo_px": halo}),
    ]


def layouts(bench: Bench) -> tuple[int, int]:
    """Bytes that differ between runs with other chunks and workers, and how many were compared."""
    file = random_weights(bench.folder, "medium", _CORE, 32, background=_SHARE)
    kernel = load_method(METHOD, file, device="cpu", precision="bf16")
    pair = bench.pairs.pair(_SIDE)
    outputs = []
    for workers in sorted({workers for _, workers in _LAYOUTS}):
        with bench.client(workers) as client:
            for chunk in (chunk for chunk, count in _LAYOUTS if count == workers):
                plan = bench.plan(kernel, pair, chunk)
                with bench.job(kernel, pair, plan) as job:
                    task = JobFile.write(job, bench.fresh("job"))
                    list(run_bounded(client, run_chunk, [c.index for c in plan], task))
                    outputs.append(
                        {
                            layer.name: job.store.read(layer.name, 0, 0, _SIDE, _SIDE)
                            for layer in kernel.layers
                        }
                    )
    lazy = apply(kernel, am.open_pair(*bench.pairs.files(_SIDE), chunks=300), 512)
    outputs.append({name: layer.values for name, layer in lazy.compute(scheduler="sync").items()})
    first = outputs[0]
    differing = sum(
        int((first[name] != other[name]).sum()) for other in outputs[1:] for name in first
    )
    return differing, (len(outputs) - 1) * sum(values.size for values in first.values())


@torch.inference_mode()
def whole(bench: Bench, halo: int) -> tuple[float, int]:
    """Largest difference of a class probability, and number of pixels of another class, fp32."""
    file = random_weights(bench.folder, "medium", _CORE, halo, background=_SHARE)
    kernel = load_method(METHOD, file, device="cpu", precision="fp32")
    assert isinstance(kernel, NetworkKernel)
    pair = bench.pairs.pair(_SIDE)
    pixels = pair.read(-halo, -halo, _SIDE + halo, _SIDE + halo)
    expected = _probabilities(kernel, pixels.pre, pixels.post, pixels.valid)
    found = _tiled(bench, kernel, pair)
    flips = damage_codes(expected) != damage_codes(found)
    return float((expected - found).abs().max()), int(flips.sum())


def network() -> ChangeNet:
    """The default network, without weights."""
    built = build(METHOD, size="medium", classes=5)
    assert isinstance(built, ChangeNet)
    return built


def _tiled(bench: Bench, kernel: NetworkKernel, pair: Pair) -> torch.Tensor:
    """Probabilities of the whole raster (1, classes, h, w) from windows read with their halos."""
    plan = bench.plan(kernel, pair, kernel.window.core)
    found = torch.full((1, kernel.card.classes, *plan.shape), torch.nan)
    for chunk in plan:
        block = read_block(pair, plan, chunk)
        there = slice(chunk.row0, chunk.row1), slice(chunk.col0, chunk.col1)
        found[..., *there] = _probabilities(kernel, *block)
    return found


def _probabilities(
    kernel: NetworkKernel, pre: np.ndarray, post: np.ndarray, valid: np.ndarray
) -> torch.Tensor:
    """The network on one image with a halo around it, cropped: float32 (1, classes, h, w)."""
    halo = kernel.window.halo
    seen = torch.from_numpy(valid[None])[:, None]
    before, after = (
        kernel._normalised(torch.from_numpy(image[None]), seen) for image in (pre, post)
    )
    logits = loaded(kernel)(before, after)[..., halo:-halo, halo:-halo]
    return torch.softmax(logits.float(), dim=1)
