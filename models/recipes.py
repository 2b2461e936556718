"""Training recipes: what `train` is told, and the recipe of the bundled weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..scenes.errors import UsageError
from .registry import NETWORKS

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Loss = Literal["auto", "levels", "levels-lovasz", "dice", "iou", "bce"]


@dataclass(frozen=True)
class SyntheticRecipe:
    """Synthetic scenes to train on: one scene is one chip, of which crops are taken."""

    scenes: int = 240
    """Scenes for training."""
    validation: int = 8
    """Scenes for validation; their seeds are never trained on."""
    side: int = 768
    """Height and width of a scene, px."""
    resolution: tuple[float, float] = (0.35, 0.7)
    """Range of pixel sizes, m."""
    first_seed: int = 100_000
    """Seed of the first training scene; validation begins half a million further. Far from the
    small seeds that demos and tests use."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what weights come out. Raises UsageError for unusable values."""

    out: str
    """Folder for the weights, their card and the state to resume from."""
    method: str = "fc-siam-diff"
    """Name of the network."""
    size: str = "medium"
    """Size of the network."""
    classes: int = 5
    """1 (damaged or not) or 5 (background and four levels)."""
    data: str = "synthetic"
    """"synthetic", or a folder of chips (see `FolderChips`)."""
    validation: str | None = None
    """Another folder, for validation; None keeps 15 % of the chips."""
    synthetic: SyntheticRecipe = field(default_factory=SyntheticRecipe)
    resolution: tuple[float, float] = (0.3, 0.8)
    """Range of pixel sizes, m, that the weights are meant for; goes to the card."""
    nominal_resolution: float = 0.5
    epochs: int = 12
    steps: int | None = None
    """Optimiser steps per epoch; None: as many as the chips fill once."""
    chip: int = 256
    """Height and width of a training crop, px."""
    batch: int = 8
    lr: float = 1e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    """"cosine" rises over the first 3 % of the steps, then falls to zero; paper 001 is constant."""
    weight_decay: float = 2e-3
    dropout: float = 0.05
    loss: Loss = "auto"
    """"auto" takes "levels" for five classes and "dice" for one."""
    class_weights: tuple[float, ...] | None = None
    """Weights of the cross-entropy of "levels", one per class."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the forward pass; "auto" is bf16 where the processor computes in it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    core: int = 512
    """Core of the window in the card, px."""
    halo: int | None = None
    """Halo of the window in the card, px; None takes the receptive field."""
    workers: int = 1
    """Threads that prepare batches ahead."""
    minutes: float | None = None
    """Begin no epoch that would end later than this; such weights depend on the machine's speed."""
    tensorboard: bool = False
    """Write scalars into `out/log` for TensorBoard."""
    training_data: str = ""
    """What goes to the card about the data; empty: a sentence is made from this configuration."""
    licence: str = ""

    def __post_init__(self) -> None:
        if self.method not in NETWORKS:
            raise UsageError(
                f"Unknown method {self.method!r} to train. Valid names: "
                f"{', '.join(sorted(NETWORKS))}. Change --method."
            )
        for name in ("epochs", "chip", "batch", "lr", "clip", "workers"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be positive; got {getattr(self, name)}.")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"steps must be positive; got {self.steps}.")
        graded = self.loss.startswith("levels")
        if self.loss != "auto" and graded != (self.classes == 5):
            raise UsageError(f"The loss {self.loss!r} does not go with {self.classes} classes.")
        if self.class_weights is not None and len(self.class_weights) != self.classes:
            raise UsageError(f"{self.classes} classes, but {len(self.class_weights)} weights.")

    def decisive(self) -> dict[str, Any]:
        """What decides the weights, as plain JSON values: a resumed run must agree on these."""
        free = {"out", "workers", "minutes", "tensorboard", "training_data", "licence"}
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
            if key not in free
        }


BUNDLED = TrainConfig(
    # Not the package's folder: the state and the rendered scenes stay behind, and only the
    # weights and their card are copied to models/weights.
    out="build/weights",
    # Losses average over pixels, of which five in six are background.
    class_weights=(0.4, 1.0, 3.0, 1.7, 1.2),
    # Drawing its random numbers took a third of the time on two cores, and the scenes vary enough.
    dropout=0.0,
    synthetic=SyntheticRecipe(scenes=320),
    epochs=30,
    steps=240,
    batch=4,
    lr=1.5e-3,
    # Large windows with a narrow halo waste little; the card says how many pixels that changes.
    core=1024,
    halo=32,
    workers=1,
    training_data=(
        "Synthetic before/after scenes rendered by aftermap.scenes.synth at 0.35-0.7 m, with "
        "strong random changes of light, sharpness, noise and registration. No real imagery."
    ),
    licence="Apache-2.0",
)
"""The recipe of the weights that come with the package: a good hour on two cores."""
