"""A student that learns from the before image of the very scene that is assessed.

No paper has this move: paper 000 trains on photos of other, undamaged places. A new event then
needs no labels, and no imagery but its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..kernels.methods import choose_device
from ..models.adversarial import print_progress, train_student
from ..models.adversarial_recipe import AdversarialConfig
from ..models.card import Card
from ..models.checkpoint import load, save
from ..models.deep_disaster import DeepDisaster
from ..models.loop import silence
from ..models.skip_ganomaly import SIDE
from ..scenes.errors import Refused, UsageError
from ..scenes.grid import gsd, region_of
from ..scenes.pair import Pair
from ..scenes.scene import ReadError
from .request import FROM_SCRATCH, Request, pair_of

METHOD = "deep-disaster"
BEFORE = "before"

SQUARES = 1024
"""That are learnt from at most: more take longer, and a town repeats itself."""


@dataclass(frozen=True, eq=False)
class Squares:
    """Squares of the before image, whole and valid; see `Images`."""

    pixels: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, pair: Pair, side: int) -> Squares:
        """At most `SQUARES` of a pair, all over it, in an order that depends on nothing else."""
        row0, col0, row1, col1 = region_of(pair.grid, pair.area)
        places = [
            (row, col)
            for row in range(row0, row1 - side + 1, max(side // 2, 1))
            for col in range(col0, col1 - side + 1, max(side // 2, 1))
        ]
        found: list[np.ndarray] = []
        for place in np.random.default_rng(0).permutation(len(places)).tolist():
            if len(found) == SQUARES:
                break
            row, col = places[place]
            try:
                read = pair.read(row, col, row + side, col + side)
            except ReadError:
                continue
            if read.valid.all():
                found.append(read.pre)
        return cls(tuple(found))

    def __len__(self) -> int:
        return len(self.pixels)

    def image(self, index: int) -> np.ndarray:
        """One of them, uint8 (3, side, side)."""
        return self.pixels[index]

    def label(self, index: int) -> bool | None:
        """Before the event nothing is damaged by it."""
        return False


def fitted(request: Request, quiet: bool = True) -> Request:
    """The request with weights that were trained on its before image; itself where none are asked for.

    They lie beside the run folder, in `<out>-student`, and training goes on where it stopped.
    Raises UsageError for a request that cannot be fitted, Refused for images that are too small.
    """
    if _unasked(request):
        return request
    _check(request)
    pair = pair_of(request)
    config = _config(request, pair)
    squares = Squares.of(pair, config.side)
    if len(squares) < config.batch:
        raise Refused(
            f"The before image has {len(squares)} whole valid squares of {config.side} px, and a "
            f"student learns from {config.batch} or more. Give a larger image or area."
        )
    tell = silence if quiet else print_progress
    weights = train_student(config, squares, progress=tell, fresh=request.fresh)
    return replace(request, weights=weights)


def planned(request: Request, folder: Path) -> Request:
    """The request with random weights in a folder, to plan with."""
    if _unasked(request):
        return request
    _check(request)
    config = _config(request, pair_of(request))
    network = DeepDisaster(side=config.side)
    window = network.window()
    card = Card(
        method=METHOD, network=METHOD, options=network.options, classes=1, bands=3,
        mean=(0.5,) * 3, std=(0.5,) * 3, resolution=config.resolution,
        nominal_resolution=config.nominal_resolution, core=window.core, halo=window.halo,
        scan=window.scan, stride=1,
    )  # fmt: skip
    save(folder / METHOD, network, card)
    return replace(request, weights=folder / f"{METHOD}.safetensors")


def _unasked(request: Request) -> bool:
    """Whether nothing is to be fitted; UsageError where only a part of it is asked for."""
    plain = Request.__dataclass_fields__["contamination"].default
    if request.fit is None and (request.teacher is not None or request.contamination != plain):
        raise UsageError(
            "--teacher and --contamination go with --fit before. Add it, or leave them out."
        )
    return request.fit is None


def _check(request: Request) -> None:
    if request.fit != BEFORE or request.method != METHOD:
        raise UsageError(
            f"--fit {request.fit} with --method {request.method}: only {METHOD} is fitted to a scene, "
            f"with --fit {BEFORE}."
        )
    if request.pre is None:
        raise UsageError(f"--fit {BEFORE} learns from the before image: give PRE and POST.")
    if request.weights is not None:
        raise UsageError(f"--fit {BEFORE} trains weights of its own. Leave out --weights.")


def _config(request: Request, pair: Pair) -> AdversarialConfig:
    side, metres = SIDE, gsd(pair.grid)
    if request.teacher is not None:
        network, _ = load(request.teacher, method="skip-ganomaly")
        side = int(network.side)  # type: ignore[arg-type]
    assert pair.pre is not None
    out = request.out.with_name(f"{request.out.name}-student")
    return AdversarialConfig(
        out=str(out.absolute()),
        data=f"the before image {pair.pre.name}",
        structure="distilled" if request.teacher is not None else "together",
        teacher=None if request.teacher is None else str(request.teacher.absolute()),
        side=side,
        device="cpu" if choose_device(request.device) == "cpu" else "cuda",
        resolution=(0.8 * metres, 1.25 * metres),
        nominal_resolution=metres,
        contamination=request.contamination,
        training_data=""
        if request.teacher is not None
        else f"The before image alone; {FROM_SCRATCH}.",
    )
