"""Methods by name: a kernel with its weights and options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
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

_NOT_OF_NETWORKS = {"overlap": "it scores no squares", "level": "it has weights"}
_NOT_OF_SQUARES = {
    "halo": "it scores whole squares, which need none",
    "views": "it scores every square once, as it lies",
    "ensemble": "it scores with one network",
    "compiled": "its network is run as it is",
    "level": "its threshold is in the card of its weights",
}
_NOT_OF_BASELINES = {
    "halo": "its window is fixed",
    "overlap": "it scores no squares",
} | dict.fromkeys(("precision", "views", "ensemble", "compiled"), "it has no network")
"""Options of other methods, with the reason why they say nothing here."""


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
    Raises UsageError for an unknown name, and for an option that is unknown or means nothing to the
    method; Refused for weights that do not fit.
    """
    if name in BASELINES:
        if weights is not None:
            raise UsageError(f"{name} has no weights; leave out --weights.")
        _check_options(name, Baseline, options, _NOT_OF_BASELINES)
        return Baseline(method=name, **options)  # type: ignore[arg-type]
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
    scanned = name in SCANNED
    make: Callable[..., Kernel] = scan_kernel if scanned else network_kernel
    _check_options(name, make, options, _NOT_OF_SQUARES if scanned else _NOT_OF_NETWORKS)
    where = choose_device(device)
    return make(method=name, weights=str(file.absolute()), device=where, **options)


def meaningless(option: str, method: str, why: str) -> UsageError:
    """What to raise where an option, by its name in Python, would be passed over."""
    flag = {"compiled": "compile"}.get(option, option).replace("_", "-")
    return UsageError(f"--{flag} means nothing to {method}: {why}. Leave it out.")


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


def _check_options(
    name: str, make: Callable[..., Any], options: Mapping[str, Any], reasons: Mapping[str, str]
) -> None:
    """UsageError for the first option that says nothing to a method, or that no method has."""
    known = signature(make).parameters.keys() - {"method", "weights", "device"}
    for option in options:
        if option in reasons:
            raise meaningless(option, name, reasons[option])
        if option not in known:
            raise UsageError(
                f"{name} does not take the option {option!r}. Its options: {', '.join(sorted(known))}."
            )
