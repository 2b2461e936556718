"""Training Skip-GANomaly, and Deep-Disaster's student beside a teacher (paper 000, III.B)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..scenes.errors import Refused, UsageError
from ..scenes.holding import holding
from .adversarial_course import HALF, Course, Tell, checked, learn, tensor
from .adversarial_recipe import AdversarialConfig, Images
from .card import Card
from .checkpoint import SUFFIX, load, save
from .deep_disaster import DeepDisaster, Scored
from .distillation import best_omega, spread_of
from .loop import Tick
from .loop import print_progress as print_step
from .roc import auc
from .skip_ganomaly import TEACHER, SkipGANomaly
from .state import NAME

_STUDENTS = (
    "structure", "teacher", "teacher_width", "alpha", "hints", "omega", "search_omega", "balanced", "selection",
    "contamination", "batch_statistics",
)  # fmt: skip
"""Settings that only Deep-Disaster has."""


def train_teacher(
    config: AdversarialConfig, images: Images, progress: Tell | None = None, fresh: bool = False
) -> Path:
    """Train Skip-GANomaly on any images, or go on with it; returns the path of the weights.

    `config.out` gets `skip-ganomaly.safetensors` and its card, and the state after each epoch.
    Killed and run again with the same configuration, it ends with the same weights as without the
    interruption (on the same machine and threads); `fresh` throws an earlier state away. `progress`
    is called after each step and each epoch; None prints.

    Raises Refused for fewer images than a batch, for images of another size and for a state that
    does not fit, UsageError for a configuration of something else, AftermapError if a loss stops
    being a number.
    """
    usual = {field.name: field.default for field in fields(config)}
    strange = [name for name in _STUDENTS if getattr(config, name) != usual[name]]
    if strange:
        told = " and ".join(f"--{name.replace('_', '-')}" for name in strange)
        raise UsageError(
            f"A teacher learns from no other and is judged by nothing. Leave out {told}."
        )
    with _begun(config, fresh) as device:
        network = SkipGANomaly(config.width or TEACHER, config.side, downs=config.downs)
        course = Course(config, network, images, range(len(images)), device)
        run = learn(course, dict, progress or print_progress)
        options = {"width": config.width or TEACHER, "side": config.side, "downs": config.downs}
        return _keep(config, "skip-ganomaly", network, options, {"epoch": float(run.epoch)})


def train_student(
    config: AdversarialConfig,
    images: Images,
    held: Images | None = None,
    progress: Tell | None = None,
    fresh: bool = False,
) -> Path:
    """Train Deep-Disaster on images without damage, or go on with it; returns the path of the weights.

    Images that are labelled as damage are left out; those without a label are taken to show none.
    `held` are images for choosing the epoch, the weights of the score and its threshold, never those
    that are tested on; without them the threshold is that of the training images. The threshold,
    beyond which `config.contamination` of the images without damage score, becomes a score of 0.5.
    `config.out` gets `deep-disaster.safetensors` with its card; else as `train_teacher`.

    Raises Refused also for a missing or other teacher, and for held-out images of one kind only
    where an AUC is asked for.
    """
    with _begun(config, fresh) as device:
        network = _deep_disaster(config)
        quiet = [i for i in range(len(images)) if images.label(i) is not True]
        course = Course(config, network, images, quiet, device)
        exam = _Exam(config, network, held, device)

        def examine() -> dict[str, float]:
            area = exam.auc()
            return {} if area is None else {"auc": area}

        run = learn(course, examine, progress or print_progress)
        network.freeze()
        network.eval()
        calm = _calm_terms(config, network, images, quiet, exam, device)
        network.omega = _omega(config, exam, calm)
        anomalies = calm @ np.array(network.omega)
        network.unit = max(float(np.percentile(anomalies, 100 * (1 - config.contamination))), 1e-12)
        area = exam.auc()
        metrics = {"epoch": float(run.best_epoch or run.epoch)} | (
            {} if area is None else {"auc": area}
        )
        return _keep(config, "deep-disaster", network, network.options, metrics)


@dataclass
class _Exam:
    """Held-out images, and how well damage is told from none in them."""

    config: AdversarialConfig
    network: DeepDisaster
    held: Images | None
    device: torch.device

    def __post_init__(self) -> None:
        labels = [] if self.held is None else [self.held.label(i) for i in range(len(self.held))]
        self.labels = labels
        self.known = [i for i, label in enumerate(labels) if label is not None]
        self.damaged = np.array([labels[i] for i in self.known], bool)
        self.both = bool(self.damaged.any() and not self.damaged.all())
        if not self.both and (self.config.selection == "auc" or self.config.search_omega):
            raise Refused(
                f"An AUC needs held-out images with damage and without; of {len(labels)} "
                f"{int(self.damaged.sum())} show damage and {int((~self.damaged).sum())} none. Give "
                f"others, or leave out --selection auc and --search-omega."
            )

    def terms(self) -> np.ndarray:
        """Those of eq. 9 of the labelled images, float (n, 3)."""
        if self.held is None:
            return np.zeros((0, 3))
        return _terms(self.network, self.held, self.known, self.config, self.device)

    def auc(self) -> float | None:
        """Of the score; None where there is one kind of image only."""
        if not self.both:
            return None
        return auc(self.terms() @ np.array(self.network.omega), self.damaged)


@torch.no_grad()
def _terms(
    network: DeepDisaster,
    images: Images,
    chosen: Sequence[int],
    config: AdversarialConfig,
    device: torch.device,
) -> np.ndarray:
    """The terms of eq. 9 of unchanged images, float (n, 3)."""
    network.eval()
    found = [np.zeros((0, 3))]
    for start in range(0, len(chosen), config.batch):
        part = [checked(images, i, config.side) for i in chosen[start : start + config.batch]]
        found.append(network.terms(tensor(np.stack(part), device)).double().cpu().numpy())
    return np.concatenate(found)


def _omega(config: AdversarialConfig, exam: _Exam, calm: np.ndarray) -> tuple[float, ...]:
    """The weights of the terms, as asked for, or sought, or both divided by what is usual."""
    spread = spread_of(calm) if config.balanced else np.ones(3)
    omega = config.omega
    if config.search_omega:
        omega = best_omega(exam.terms() / spread, exam.damaged)  # type: ignore[assignment]
    if not config.balanced:
        return omega
    weights = np.array(omega) / spread
    return tuple((weights / weights.sum()).tolist())


def _calm_terms(
    config: AdversarialConfig,
    network: DeepDisaster,
    images: Images,
    quiet: Sequence[int],
    exam: _Exam,
    device: torch.device,
) -> np.ndarray:
    """The terms of the images not known to show damage, held-out ones where there are any: (n, 3)."""
    held = [i for i, label in enumerate(exam.labels) if label is not True]
    source, chosen = (exam.held, held) if exam.held is not None and held else (images, quiet)
    return _terms(network, source, chosen, config, device)


def _deep_disaster(config: AdversarialConfig) -> DeepDisaster:
    """The network that a configuration names, with random weights but for a teacher that it has."""
    scored: Scored = "pair"
    if config.structure in ("student", "teacher"):
        scored = "student" if config.structure == "student" else "teacher"
    teacher, width = None, config.teacher_width
    if config.structure == "distilled":
        teacher, width = _taught(config)
    torch.manual_seed(config.seed)  # reading a teacher drew numbers
    network = DeepDisaster(
        width=config.student_width,
        teacher_width=width,
        form=config.form,
        side=config.side,
        downs=config.downs,
        alpha=config.alpha,
        hints=config.hints,
        omega=config.omega,
        scored=scored,
        batch_statistics=config.batch_statistics,
    )
    if teacher is not None and network.teacher is not None:
        network.teacher.load_state_dict(teacher.state_dict())
    network.freeze(config.structure == "distilled")
    return network


def _taught(config: AdversarialConfig) -> tuple[nn.Module, int]:
    """The teacher of a file, and its width."""
    if config.teacher is None:
        raise UsageError(
            "A student learns from a teacher. Give its weights with --teacher, or choose another "
            "--structure."
        )
    network, card = load(config.teacher, method="skip-ganomaly")
    side, downs = card.options.get("side"), card.options.get("downs")
    if side != config.side or downs is not None:
        raise Refused(
            f"The teacher {config.teacher} is of images of {side} px, with downs {downs}; asked for "
            f"are {config.side} px and all levels. Change --teacher or --side."
        )
    return network, int(card.options["width"])


@contextmanager
def _begun(config: AdversarialConfig, fresh: bool) -> Iterator[torch.device]:
    """Hold the folder, forget an earlier training where asked to, and choose device and seed."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda was asked for, but torch finds no CUDA device.")
    cuda = config.device != "cpu" and torch.cuda.is_available()
    with holding(Path(config.out), "training"):
        if fresh:
            (Path(config.out) / NAME).unlink(missing_ok=True)
        torch.manual_seed(config.seed)
        yield torch.device("cuda" if cuda else "cpu")


def _keep(
    config: AdversarialConfig,
    method: str,
    network: nn.Module,
    options: Mapping[str, object],
    metrics: dict[str, float],
) -> Path:
    """Write the weights with their card, and read them once."""
    target = Path(config.out) / f"{method}{SUFFIX}"
    scored = isinstance(network, DeepDisaster)
    card = Card(
        method=method,
        network=method,
        options=options,
        classes=1,
        bands=3,
        mean=HALF,
        std=HALF,
        resolution=(config.resolution[0], config.resolution[1]),
        nominal_resolution=config.nominal_resolution,
        core=config.side,
        halo=config.side if scored else 0,
        scan=config.side if scored else 0,
        stride=1,
        training_data=config.training_data or f"Trained by aftermap on {config.data}.",
        licence=config.licence,
        metrics=metrics,
    )
    save(target, network.cpu(), card)
    load(target, method=method)
    return target


def print_progress(tick: Tick) -> None:
    """Print a line per epoch, and on a terminal the step, speed and remaining time as well."""
    if tick.step == tick.steps and tick.score is None:
        print(f"epoch {tick.epoch}/{tick.epochs}  loss {tick.loss:.4f}", file=sys.stderr)
    else:
        print_step(tick)
