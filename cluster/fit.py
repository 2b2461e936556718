"""A student that learns from the before image of the very scene that is assessed.

No paper has this move: paper 000 trains on photos of other, undamaged places. A new event then
needs no labels, and no imagery but its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..kernels.methods import choose_device
from ..models.adversarial import print_progress, train_student
from ..models.adversarial_course import HALF, Course, tensor
from ..models.adversarial_recipe import AdversarialConfig
from ..models.card import Card
from ..models.checkpoint import SUFFIX, load, read_card, save
from ..models.deep_disaster import DeepDisaster
from ..models.loop import silence
from ..models.skip_ganomaly import SIDE
from ..scenes.errors import Refused, UsageError
from ..scenes.grid import gsd, region_of
from ..scenes.pair import Pair
from ..scenes.scene import ReadError
from .request import FROM_SCRATCH, Request, pair_of
from .student import LEARNS_FROM, student_folder

if TYPE_CHECKING:
    from .prepare import Prepared

METHOD = "deep-disaster"
BEFORE = "before"

SQUARES = 1024
"""That are learnt from at most: more take longer, and a town repeats itself."""


@dataclass(frozen=True, eq=False)
class Squares:
    """Squares of the before image, whole and valid; see `Images`."""

    pixels: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, pair: Pair, side: int, most: int = SQUARES) -> Squares:
        """So many of a pair at most, all over it, in an order that depends on nothing else."""
        places, found = _places(pair, side), list[np.ndarray]()
        for place in np.random.default_rng(0).permutation(len(places)).tolist():
            if len(found) == most:
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


@dataclass(frozen=True)
class Lessons:
    """What a fit will take."""

    epochs: int
    squares: int
    """Of one epoch, at most: those that are not wholly valid are left out."""
    side: int
    """Height and width of a square, px."""
    seconds: float
    """Of the whole training, from one step that was measured on noise."""

    def text(self) -> str:
        """A line for the terminal."""
        return (
            f"{self.epochs} epochs over up to {self.squares:,} squares of {self.side} px of the before "
            f"image, before the first chunk: about {self.seconds / 60:.1f} min more"
        )


def fit_facts(request: Request) -> dict[str, object]:
    """What decides the weights of a fit, besides the image that they learn from."""
    teacher = None if request.teacher is None else read_card(request.teacher).sha256
    return {"image": request.fit, "teacher": teacher, "contamination": request.contamination}


@contextmanager
def planned(request: Request) -> Iterator[Request]:
    """The request with random weights where some are to be fitted, to check and to plan with.

    Raises UsageError for a request that cannot be fitted, Refused for images that are too small.
    """
    if _unasked(request):
        yield request
        return
    _check(request)
    pair = pair_of(request)
    config = _config(request, pair)
    _check_squares(config, pair)
    with TemporaryDirectory() as folder:
        yield replace(request, weights=_random(config, Path(folder)))


def foreseen(request: Request) -> Lessons | None:
    """What the fit of a request that was checked will take; None without one."""
    if request.fit is None:
        return None
    pair = pair_of(request)
    config = _config(request, pair)
    squares = min(len(_places(pair, config.side)), SQUARES)
    steps = config.epochs * (squares // config.batch)
    return Lessons(config.epochs, squares, config.side, steps * _seconds_per_step(config))


def fitted(prepared: Prepared, record: Mapping[str, Any], quiet: bool = True) -> Prepared:
    """A run with weights that are trained on its before image; itself where none are asked for.

    They lie beside the run folder, in `<out>-student`, which is written to by whoever holds the
    run folder. Training goes on where it stopped. Where the run's `record` names weights, and these
    lie there, nothing is trained. Raises Refused for a folder of another training, and where the
    run's chunks were scored with other weights.
    """
    request = prepared.request
    if request.fit is None:
        return prepared
    pair = pair_of(request)
    config = _config(request, pair)
    known = record.get("method", {}).get("weights_sha256")
    weights = Path(config.out) / f"{METHOD}{SUFFIX}"
    if known is None or not _is_there(weights, known):
        tell = silence if quiet else print_progress
        train_student(config, Squares.of(pair, config.side), progress=tell, fresh=request.fresh)
    ready = prepared.fitted(weights)
    trained = str(ready.kernel.facts()["weights_sha256"])
    if known not in (None, trained):
        raise Refused(
            f"{request.out} was scored with weights {known[:12]}, and training again gave {trained[:12]}: "
            f"another machine rounds otherwise. Put the first {weights} back, or start over with --fresh."
        )
    return ready


def _places(pair: Pair, side: int) -> list[tuple[int, int]]:
    """First pixels of the squares of a pair, which overlap by half."""
    row0, col0, row1, col1 = region_of(pair.grid, pair.area)
    step = max(side // 2, 1)
    return [
        (row, col)
        for row in range(row0, row1 - side + 1, step)
        for col in range(col0, col1 - side + 1, step)
    ]


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


def _check_squares(config: AdversarialConfig, pair: Pair) -> None:
    found = len(Squares.of(pair, config.side, config.batch))
    if found < config.batch:
        raise Refused(
            f"The before image has {found} whole valid squares of {config.side} px, and a student learns "
            f"from {config.batch} or more. Give a larger image or area."
        )


def _is_there(weights: Path, digest: str) -> bool:
    """Whether weights of a digest lie at a place, by their card."""
    try:
        return read_card(weights).sha256 == digest
    except Refused:
        return False


def _random(config: AdversarialConfig, folder: Path) -> Path:
    """Weights as large and as slow as those that will be trained."""
    network = _network(config)
    window = network.window()
    card = Card(
        method=METHOD, network=METHOD, options=network.options, classes=1, bands=3,
        mean=HALF, std=HALF, resolution=config.resolution,
        nominal_resolution=config.nominal_resolution, core=window.core, halo=window.halo,
        scan=window.scan, stride=1,
    )  # fmt: skip
    save(folder / METHOD, network, card)
    return folder / f"{METHOD}{SUFFIX}"


def _network(config: AdversarialConfig) -> DeepDisaster:
    width = config.teacher_width
    if config.teacher is not None:
        width = int(read_card(config.teacher).options["width"])
    return DeepDisaster(side=config.side, width=config.student_width, teacher_width=width)


def _seconds_per_step(config: AdversarialConfig) -> float:
    """Of training on this machine, from one step on noise."""
    noise = np.random.default_rng(0).integers(0, 256, (config.batch, 3, config.side, config.side))
    squares = Squares(tuple(noise.astype(np.uint8)))
    network = _network(config)
    network.freeze(config.structure == "distilled")
    device = torch.device(config.device)
    course = Course(config, network, squares, range(config.batch), device)
    course.learn()
    batch = tensor(np.stack(squares.pixels), device)
    start = time.perf_counter()
    course.step(batch)
    return time.perf_counter() - start


def _config(request: Request, pair: Pair) -> AdversarialConfig:
    side, metres = SIDE, gsd(pair.grid)
    if request.teacher is not None:
        network, _ = load(request.teacher, method="skip-ganomaly")
        side = int(network.side)  # type: ignore[arg-type]
    assert pair.pre is not None
    return AdversarialConfig(
        out=str(student_folder(request.out)),
        data=f"{LEARNS_FROM}{pair.pre.name}",
        structure="distilled" if request.teacher is not None else "together",
        teacher=None if request.teacher is None else str(request.teacher.absolute()),
        side=side,
        device="cpu" if choose_device(request.device) == "cpu" else "cuda",
        resolution=(0.8 * metres, 1.25 * metres),
        nominal_resolution=metres,
        contamination=request.contamination,
        balanced=True,  # nobody has labels of a new event by which to weigh the terms
        training_data=""
        if request.teacher is not None
        else f"The before image alone; {FROM_SCRATCH}.",
    )
