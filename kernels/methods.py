"""Methods by name: a kernel with its weights and options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import xarray as xr

from ..models.checkpoint import bundled
from ..scenes.errors import Refused, UsageError
from ..scenes.grid import gsd
from ..scenes.layer import decode
from .apply import apply
from .baseline import Baseline
from .kernel import Kernel
from .network import network_kernel
from .scan_network import scan_kernel

DEFAULT = "fc-siam-diff"
"""The method used when none is named; its weights come with the package."""

NETWORKS = ("fc-ef", "fc-siam-conc", "fc-siam-diff", "dual-hrnet", "unet-grid")
SCANNED = ("inception-window", "deep-disaster")
BASELINES = ("difference", "texture")


def load_method(
    name: str = DEFAULT,
    weights: str | Path | None = None,
    device: str = "auto",
    **options: Any,
) -> Kernel:
    """Make a method ready to run: weights and options are checked now.

    `weights` None takes the bundled ones where there are any. Options of networks: `precision`
    ("auto", "fp32", "bf16"), `halo` (px), `compiled` (torch.compile), `ensemble` (further weights)
    and `views` (1, 4 or 8: test-time augmentation); of those that score squares: `precision` and
    `overlap` (px); of baselines: `level` (grey values).
    Raises UsageError for an unknown name or option, Refused for weights that do not fit.
    """
    if name in BASELINES:
        if weights is not None:
            raise UsageError(f"{name} has no weights; leave out --weights.")
        return _make(Baseline, name, options, method=name)
    if name not in (*NETWORKS, *SCANNED):
        raise UsageError(
            f"Unknown method {name!r}. Methods: {', '.join((*NETWORKS, *SCANNED, *BASELINES))}. "
            "Choose one with --method."
        )
    file = Path(weights) if weights is not None else bundled(name)
    if file is None and name == "unet-grid":
        raise Refused(
            "unet-grid has no weights of its own, and is two networks. Train them and join them:\n"
            "  aftermap train --method unet-footprints --out weights/footprints\n"
            "  aftermap train --method grid-classifier --out weights/cells\n"
            "  aftermap weights join weights/footprints/unet-footprints.safetensors "
            "weights/cells/grid-classifier.safetensors"
        )
    if file is None:
        raise Refused(
            f"{name} has no weights of its own. Train some with\n"
            f"  aftermap train --method {name} --out weights/{name}\n"
            f"and give them with --weights; {DEFAULT} comes with weights."
        )
    return _make(
        scan_kernel if name in SCANNED else network_kernel,
        name,
        options,
        method=name,
        weights=str(file.absolute()),
        device=choose_device(device),
    )


def choose_device(asked: str) -> str:
    """ "auto" is the GPU where torch sees one; "cuda" without one is refused.

    "elsewhere" is a GPU of other machines, which those have to find.
    """
    if asked == "elsewhere":
        return "cuda"
    if asked not in ("auto", "cpu", "cuda"):
        raise UsageError(f"Unknown device {asked!r}: give auto, cpu or cuda with --device.")
    if asked == "cuda" and not torch.cuda.is_available():
        raise Refused(
            "--device cuda was asked for, but torch sees no GPU (`aftermap doctor` says why). "
            "Use --device auto or cpu."
        )
    return "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"


def predict(pair: xr.Dataset, method: Kernel, chunk: int = 2048) -> xr.Dataset:
    """Run a method over a lazy pair: lazy layers, classes as codes, probabilities as float32.

    Codes are uint8 with 255 for not analysed; probabilities are 0-1 with NaN. Whatever Dask
    scheduler is current computes them. What lies outside the pair counts as nodata, so crop the
    layers rather than the pair to keep the context at its edges.
    """
    check_resolution(method, pair.odc.geobox)
    if not method.ready:
        raise Refused(
            f"{method.method} finds its threshold in the whole scene, which only assess does. Give one: "
            f'load_method("{method.method}", level=30).'
        )
    stored = apply(method, pair, chunk)
    return stored.map(
        lambda layer: (
            layer
            if layer.attrs["kind"] == "class"
            else layer.copy(data=layer.data.map_blocks(decode, dtype="float32"))
        ),
        keep_attrs=True,
    )


def check_resolution(method: Kernel, grid: Any) -> None:
    """Refuse a grid whose pixels are outside the range that a method is meant for."""
    low, high = method.resolution
    metres = gsd(grid)
    if not low <= metres <= high:
        raise Refused(
            f"{method.method} is meant for pixels of {low:g} to {high:g} m, and these are "
            f"{metres:.3g} m. Resample with --resolution {min(max(metres, low), high):g} "
            "(resolution= in Python), or choose another method."
        )


def _make(factory: Any, name: str, options: dict[str, Any], **given: Any) -> Any:
    try:
        return factory(**given, **options)
    except TypeError as error:
        raise UsageError(f"{name} does not take the options {sorted(options)}: {error}.") from None
