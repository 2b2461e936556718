"""Training recipes: what `train` and `pretrain` are told, and the recipe of the bundled weights."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ..scenes.errors import Refused, UsageError
from .registry import NETWORKS

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

SYNTHETIC = "synthetic"
"""The source of chips that is no folder."""

Loss = Literal[
    "auto", "levels", "levels-lovasz", "dice", "iou", "bce", "lovasz", "entropy", "bce-jaccard",
    "bce-dice",
]  # fmt: skip
Augmentation = Literal[
    "auto", "paper", "paper-apart", "xview2", "xview2-code", "amatrice", "none"
]  # fmt: skip
Schedule = Literal["cosine", "constant", "poly"]
Optimizer = Literal["adamw", "sgd"]
Freeze = Literal["no", "all", "weights"]

_LOSSES: dict[int | str, tuple[str, ...]] = {
    1: ("dice", "iou", "bce"),
    5: ("levels", "levels-lovasz"),
    "dual-hrnet": ("lovasz", "entropy"),
    "unet-footprints": ("bce-jaccard", "bce-dice"),
    "grid-classifier": ("bce",),
}
"""What goes with a number of classes, or with a network; the first is what "auto" stands for."""

BACKBONE = {"unet-footprints": "efficientnet-b5", "grid-classifier": "resnet34"}
"""The encoders of paper 004, by network."""

SIAMESE = ("fc-ef", "fc-siam-conc", "fc-siam-diff")
"""The networks of paper 001."""

_OWN = {
    "size": SIAMESE,
    "dropout": SIAMESE,
    "width": ("dual-hrnet",),
    "stem": ("dual-hrnet",),
    "backbone": tuple(BACKBONE),
}
"""Settings that mean something to these networks only."""

_FREE = {"out", "cache", "workers", "minutes", "tensorboard", "training_data", "licence"}
"""What may differ when a training goes on: it does not decide the weights."""


@dataclass(frozen=True)
class SyntheticRecipe:
    """Synthetic scenes to train on: one scene is one chip, of which crops are taken."""

    scenes: int = 240
    """Scenes for training."""
    validation: int = 8
    """Scenes for validation; their seeds are never trained on."""
    test: int = 8
    """Scenes for testing, likewise; rendered only where something is tested on them."""
    side: int = 768
    """Height and width of a scene, px."""
    resolution: tuple[float, float] = (0.35, 0.7)
    """Range of pixel sizes, m."""
    first_seed: int = 100_000
    """Seed of the first training scene; validation begins half a million further, testing another
    quarter. Far from the small seeds that demos and tests use."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """What every training is told. Raises UsageError for unusable values."""

    out: str
    """Folder for the weights and the state to resume from."""
    method: str = "fc-siam-diff"
    """Name of the network."""
    size: str = "medium"
    """Size of a network of paper 001."""
    width: int = 32
    """Channels of Dual-HRNet's finest branch."""
    backbone: str | None = None
    """Encoder of a network of paper 004, such as "resnet34"; None is that of the paper."""
    stem: str = "canonical"
    """How Dual-HRNet begins; see HRNet."""
    data: tuple[str, ...] = (SYNTHETIC,)
    """Sources of chips: "synthetic", or folders that `open_chips` reads."""
    weights: tuple[float, ...] = ()
    """Share of each source in an epoch, in any unit; empty: by how many chips each has."""
    synthetic: SyntheticRecipe = field(default_factory=SyntheticRecipe)
    cache: str | None = None
    """Folder that rendered scenes are kept in; None takes one within `out`."""
    augment: Augmentation = "auto"
    """How chips are changed: "paper" as in paper 001, "paper-apart" with separate light for before
    and after and some misregistration, "xview2" as in paper 002 and "xview2-code" as in its
    published code, "amatrice" as in paper 004, "auto" strongly for synthetic scenes and mildly for others."""
    epochs: int = 12
    steps: int | None = None
    """Optimiser steps per epoch; None: as many as the chips fill once."""
    chip: int = 256
    """Height and width of a training crop, px."""
    batch: int = 8
    """Crops of which one optimiser step takes the gradient."""
    accumulate: int = 1
    """Parts in which a batch is worked on, for memory; the gradient stays that of the whole batch."""
    lr: float = 1e-3
    encoder_lr: float | None = None
    """Learning rate of the encoder; None takes `lr`."""
    schedule: Schedule = "cosine"
    """"cosine" rises over the first 3 % of the steps, then falls to zero; paper 001 is constant;
    "poly" falls as paper 002 does."""
    optimizer: Optimizer = "adamw"
    """"sgd" has a momentum of 0.9, as paper 002."""
    weight_decay: float = 2e-3
    clip: float = 1.0
    """Largest norm of the gradient; infinite clips nothing."""
    patience: int | None = None
    """Stop after this many epochs without a better score; None never stops early."""
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the forward pass; "auto" is bf16 where the processor computes in it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = 1
    """Threads that prepare batches ahead."""
    minutes: float | None = None
    """Begin no epoch that would end later than this; such weights depend on the machine's speed."""
    tensorboard: bool = False
    """Write scalars into `out/log` for TensorBoard."""

    def __post_init__(self) -> None:
        if isinstance(self.data, str):
            object.__setattr__(self, "data", (self.data,))
        object.__setattr__(self, "data", tuple(map(str, self.data)))
        object.__setattr__(self, "weights", tuple(self.weights))
        if self.method not in NETWORKS:
            raise UsageError(
                f"Unknown method {self.method!r} to train. Valid names: "
                f"{', '.join(sorted(NETWORKS))}. Change --method."
            )
        for name, methods in _OWN.items():
            value = getattr(self, name, None)
            if self.method not in methods and value != getattr(type(self), name, None):
                raise UsageError(
                    f"--{name} {value} means nothing to {self.method}: it is for "
                    f"{', '.join(methods)}. Leave it out."
                )
        for name in ("epochs", "chip", "batch", "lr", "clip", "workers", "accumulate"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be positive; got {getattr(self, name)}.")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed} is below 0. Give a whole number of 0 or more.")
        for name in ("steps", "patience", "encoder_lr"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} must be positive; got {value}.")
        if self.batch % self.accumulate:
            raise UsageError(
                f"A batch of {self.batch} crops cannot be worked on in {self.accumulate} equal "
                f"parts. Change --batch or --accumulate."
            )
        if not self.data:
            raise UsageError("There is nothing to train on. Give --data.")
        if self.weights and len(self.weights) != len(self.data):
            raise UsageError(
                f"{len(self.data)} sources of chips, but {len(self.weights)} weights. Give each "
                f"--data its weight, as in --data chips=2 --data synthetic=1, or none."
            )
        if any(not 0 < weight < float("inf") for weight in self.weights):
            raise UsageError(f"Weights of sources are positive numbers; got {self.weights}.")
        self._check_choice("augment", Augmentation)
        self._check_choice("schedule", Schedule)
        self._check_choice("optimizer", Optimizer)

    @property
    def scenes(self) -> Path:
        """Where rendered scenes are kept."""
        return Path(self.cache) if self.cache is not None else Path(self.out) / "scenes"

    def decisive(self) -> dict[str, Any]:
        """What decides the weights, as plain JSON values: a resumed run must agree on these."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
            if key not in _FREE
        }

    def _check_choice(self, name: str, choices: Any) -> None:
        value, valid = getattr(self, name), get_args(choices)
        if value not in valid:
            raise UsageError(f"{name} is one of {', '.join(valid)}; got {value!r}.")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LoopConfig):
    """Everything that decides what weights come out. Raises UsageError for unusable values."""

    classes: int = 5
    """1 (damaged or not) or 5 (background and four levels)."""
    intact: bool = True
    """Whether places that show no damage take part; those of paper 001 did not."""
    validation: str | None = None
    """Another folder, for validation; None takes what the chips' own splits hold out."""
    resolution: tuple[float, float] = (0.3, 0.8)
    """Range of pixel sizes, m, that the weights are meant for; goes to the card."""
    nominal_resolution: float = 0.5
    dropout: float = 0.05
    norm_momentum: float | None = None
    """How fast BatchNorm's statistics follow the batches; None is the network's own. That of
    Dual-HRNet, 0.01, is too slow for a few hundred steps."""
    loss: Loss = "auto"
    """"auto" takes "levels" for five classes, "dice" for one, "lovasz" for Dual-HRNet, "bce-jaccard"
    for footprints and "bce" for grid cells; "entropy" is the alternative that paper 002 rejects."""
    pos_weight: float | None = None
    """Weight of damaged pixels in the loss "bce"; the code of paper 001 has 16.2578."""
    class_weights: tuple[float, ...] | None = None
    """Weights of the cross-entropy of "levels", one per class, or of Dual-HRNet's four levels."""
    encoder: str | None = None
    """File of a pre-trained encoder to begin with; for Dual-HRNet timm's hrnet_w32, for
    the networks of paper 004 timm's file of the backbone."""
    init: str | None = None
    """Weights of the same network to begin with, instead of random ones."""
    freeze: Freeze = "no"
    """"all" keeps the encoder as it is, its BatchNorm too; "weights" lets the statistics of its
    BatchNorm move, as the code of paper 001 did."""
    core: int | None = None
    """Core of the window in the card, px; None takes what the network is best used with."""
    halo: int | None = None
    """Halo of the window in the card, px; None likewise."""
    training_data: str = ""
    """What goes to the card about the data; empty: a sentence is made from this configuration."""
    licence: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("loss", Loss)
        self._check_choice("freeze", Freeze)
        if self.norm_momentum is not None and not 0 < self.norm_momentum <= 1:
            raise UsageError(
                f"--norm-momentum {self.norm_momentum:g} is no share. Give one above 0, at most 1."
            )
        if self.classes not in (1, 5):
            raise UsageError(
                f"Networks tell 1 class apart (damaged or not) or 5 (background and four levels); "
                f"got {self.classes}. Change --classes."
            )
        if self.method in BACKBONE and self.classes != 1:
            raise UsageError(
                f"{self.method} says one thing of an image; got classes={self.classes}. Give --classes 1."
            )
        dual = self.method == "dual-hrnet"
        if dual and self.classes != 5:
            raise UsageError(
                f"dual-hrnet tells background and four levels apart; got classes={self.classes}. "
                f"Leave out --classes."
            )
        losses = _LOSSES[self.method if self.method in _LOSSES else self.classes]
        if self.loss != "auto" and self.loss not in losses:
            raise UsageError(
                f"The loss {self.loss!r} does not go with {self.method} of {self.classes} classes. "
                f"Give one of {', '.join(losses)} with --loss."
            )
        weighed = 4 if dual else self.classes
        if self.class_weights is not None and len(self.class_weights) != weighed:
            raise UsageError(f"{weighed} classes, but {len(self.class_weights)} weights.")
        if self.pos_weight is not None and (self.loss != "bce" or not self.pos_weight > 0):
            raise UsageError(
                f"pos_weight {self.pos_weight} goes with the loss 'bce' and is positive; the loss "
                f"is {self.loss!r}. Give --loss bce, or leave out --pos-weight."
            )
        if self.encoder is not None and self.init is not None:
            raise UsageError("A training begins with --encoder or with --init, not with both.")
        if self.freeze != "no" and self.encoder is None and self.init is None:
            raise UsageError(
                "A frozen encoder that learnt nothing is of no use. Give --encoder, the file that "
                "`aftermap pretrain` wrote, or leave out --freeze."
            )

    def decisive(self) -> dict[str, Any]:
        """As for every training; of files to begin with the content decides, not where they lie."""
        files = {"encoder": self.encoder, "init": self.init}
        return super().decisive() | {
            name: content_digest(name, file) for name, file in files.items()
        }


def content_digest(name: str, file: str | None) -> str | None:
    """SHA-256 of a file that the setting `name` gives; Refused where it cannot be read."""
    if file is None:
        return None
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError as error:
        raise Refused(f"The file {file} cannot be read: {error}. Change --{name}.") from error


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(LoopConfig):
    """Contrastive pre-training of an encoder, with the numbers of paper 001, section IV.D."""

    batch: int = 8
    """Pairs, or for FC-EF pairs of pairs."""
    lr: float = 1e-5
    weight_decay: float = 1e-4
    schedule: Literal["cosine", "constant"] = "constant"
    clip: float = float("inf")
    augment: Augmentation = "paper"
    margin: float = 1.0
    """Squared distance beyond which embeddings that differ are far enough apart."""
    normalize: bool = True
    """Whether embeddings are scaled to length 1 first, as in the code of paper 001; its equation 1
    does not."""
    dimensions: int = 128
    """Length of an embedding."""
    least: float = 0.005
    """Share of damaged pixels from which a crop counts as damaged; one with fewer, but some, is
    drawn again."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("margin", "dimensions"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be positive; got {getattr(self, name)}.")
        if not 0 <= self.least < 1:
            raise UsageError(f"least is a share in [0, 1); got {self.least}.")


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
