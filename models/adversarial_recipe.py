"""What the training of Skip-GANomaly and Deep-Disaster is told."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np

from ..scenes.errors import UsageError
from .checkpoint import read_card
from .distillation import OMEGA, Form, Hint
from .skip_ganomaly import SIDE, STUDENT, TEACHER

Structure = Literal["distilled", "student", "teacher", "together"]
"""What is trained on images without damage; paper 000, IV.C.1."""

Selection = Literal["last", "auc"]

STEADY, DECAY = 15, 100
"""Epochs of the whole learning rate, and those over which it falls; the code of paper 000."""

_FREE = {"out", "workers", "training_data", "licence", "contamination", "search_omega", "balanced"}
"""What may differ when a training goes on: it does not decide the weights."""


class Images(Protocol):
    """Photos of one size, read when asked for."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def image(self, index: int) -> np.ndarray:
        """One of them, uint8 (3, side, side)."""
        ...

    def label(self, index: int) -> bool | None:
        """Whether it shows damage; None where nobody knows."""
        ...


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """Everything that decides what weights come out. Raises UsageError for unusable values."""

    out: str
    """Folder for the weights and the state to resume from."""
    data: str = "photos"
    """What the images are called, for the card."""
    epochs: int = 15
    batch: int = 64
    """Images of one step; those left over in an epoch are left out."""
    lr: float = 2e-4
    """The published code's; paper 000 says 2e-3, with decay."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Of Adam; the first is the momentum of paper 000."""
    schedule: Literal["linear", "constant"] = "linear"
    """"linear" is whole for 15 epochs and falls to zero over the next hundred."""
    side: int = SIDE
    """Height and width of the images, px."""
    width: int | None = None
    """Channels of the first level; None is 64 for a teacher that is trained first, and 16 else."""
    downs: int | None = None
    """Levels of the network; see SkipGANomaly."""
    structure: Structure = "distilled"
    """"distilled" learns from `teacher`; "student" and "teacher" are one network alone, of `width`
    and of `teacher_width`; "together" trains both at once from scratch."""
    teacher: str | None = None
    """Weights of the teacher to learn from, as `train_teacher` writes them."""
    teacher_width: int = TEACHER
    """Channels of a teacher that is not read from a file."""
    form: Form = "paper"
    """Whose losses, score and maps; see Distillation."""
    alpha: float | None = None
    """None is 0.7 in the form "code"; in the form "paper" it is found from the errors before training."""
    hints: tuple[Hint, ...] = ("image", "latent")
    """Where the student is compared with its teacher."""
    omega: tuple[float, float, float] = OMEGA
    """Weights of the score."""
    search_omega: bool = False
    """Look for these weights by the AUC of the held-out images."""
    balanced: bool = False
    """Divide each term of the score by its spread over images without damage before it is weighed.
    Eq. 9 adds the terms as they are, and the one of the widest range decides alone."""
    selection: Selection = "last"
    """Which epoch is kept: the last, or that of the highest AUC of held-out images. The published
    code took the images that it then tested on."""
    contamination: float = 0.05
    """Share of images without damage that may score above the threshold."""
    batch_statistics: bool = False
    """Score by the statistics of a batch, as the published code; see DeepDisaster."""
    augment: bool = True
    """Flip, turn, shift and relight the images."""
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = 1
    """Threads that read and change images ahead."""
    resolution: tuple[float, float] = (0.05, 2.0)
    """Range of pixel sizes, m, of rasters that the weights are meant for; goes to the card."""
    nominal_resolution: float = 0.3
    training_data: str = ""
    """What goes to the card about the data; empty: a sentence is made from this configuration."""
    licence: str = ""

    def __post_init__(self) -> None:
        for name in ("betas", "hints", "omega", "resolution"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("epochs", "batch", "lr", "workers"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be positive; got {getattr(self, name)}.")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed} is below 0. Give a whole number of 0 or more.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"betas lie in [0, 1); got {self.betas}.")
        if not 0 < self.contamination < 1:
            raise UsageError(f"contamination is a share between 0 and 1; got {self.contamination}.")
        for name, choices in (
            ("structure", Structure),
            ("selection", Selection),
            ("form", Form),
            ("schedule", Literal["linear", "constant"]),
            ("device", Literal["auto", "cpu", "cuda"]),
        ):
            value, valid = getattr(self, name), get_args(choices)
            if value not in valid:
                raise UsageError(f"{name} is one of {', '.join(valid)}; got {value!r}.")
        if self.schedule == "linear" and self.epochs > STEADY + DECAY:
            raise UsageError(
                f"The linear schedule ends after {STEADY + DECAY} epochs; got epochs {self.epochs}. "
                f"Give fewer --epochs, or --schedule constant."
            )
        if self.teacher is not None and self.structure != "distilled":
            raise UsageError(
                f"The structure {self.structure!r} learns from no other network. Leave out --teacher."
            )

    @property
    def student_width(self) -> int:
        """Channels of the student's first level."""
        return self.width or STUDENT

    def decisive(self) -> dict[str, Any]:
        """What decides the weights, as plain JSON values; of the teacher, its digest."""
        values = {key: value for key, value in asdict(self).items() if key not in _FREE}
        teacher = None if self.teacher is None else read_card(self.teacher).sha256
        return values | {"teacher": teacher}


def linear_rule(epoch: int, steady: int = STEADY, decay: int = DECAY) -> float:
    """What the learning rate of an epoch (from 0) is multiplied by; 1 for `steady` epochs, then falling."""
    return 1 - max(0, epoch + 1 - steady) / (decay + 1)
