"""Training of paper 003's window classifier: features once, then a head, then a threshold."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from ..scenes.errors import Refused, UsageError
from ..scenes.holding import holding
from .bottlenecks import UPRIGHT, Bottlenecks
from .card import Card
from .checkpoint import SUFFIX, load, read_tensors, save
from .hash_split import hash_split
from .heads import Fitter, LinearHead, LinearSVM, Logistic, Softmax
from .inception_window import SIDE, InceptionWindow
from .operating_point import OperatingPoint, at_false_positive_rate
from .photos.open import open_photos
from .photos.photoset import PhotoSet
from .roc import auc
from .rotations import TURNS, Turn, context

METHOD = "inception-window"
Heads = Literal["softmax", "logistic", "svm"]

FEATURES = "features"
"""Folder within `out` that backbone features are kept in."""


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """Everything that decides what weights come out. Raises UsageError for unusable values."""

    out: str
    """Folder for the weights and the features."""
    data: str
    """Folder of photos; see `open_photos`."""
    backbone: str = "inception_v3"
    """A model of timm."""
    encoder: str | None = None
    """timm's weights of it as safetensors; None begins at random, which says little."""
    side: int = SIDE
    """Of the squares, px."""
    overlap: int | None = None
    """What neighbouring squares of a raster have in common, px; see `InceptionWindow.window`."""
    head: Heads = "softmax"
    """"softmax" by plain gradient descent, as in the paper; "logistic" or "svm"."""
    steps: int = 1000
    """Of gradient descent."""
    batch: int = 10
    """Photos of each."""
    lr: float = 0.01
    turns: bool = False
    """Whether photos are learnt from in all 72 orientations; they then need a margin around them."""
    false_alarms: float = 0.0
    """Share of the photos without damage that may score above the threshold."""
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    resolution: tuple[float, float] = (0.01, 2.0)
    """Range of pixel sizes, m, of rasters that the weights are meant for; goes to the card."""
    nominal_resolution: float = 0.1
    training_data: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        if self.head not in get_args(Heads):
            raise UsageError(f"--head is one of {', '.join(get_args(Heads))}; got {self.head!r}.")
        for name in ("steps", "batch", "lr", "side"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be positive; got {getattr(self, name)}.")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed} is below 0. Give a whole number of 0 or more.")
        if not 0 <= self.false_alarms < 1:
            raise UsageError(f"--false-alarms {self.false_alarms:g} is no share from 0 to below 1.")

    @property
    def fitter(self) -> Fitter:
        """How the head is found."""
        if self.head == "softmax":
            return Softmax(self.steps, self.batch, self.lr, self.seed)
        return Logistic() if self.head == "logistic" else LinearSVM()


def train_window(config: WindowConfig, progress: Callable[[int, int], None] | None = None) -> Path:
    """Train the window classifier; returns the path of the weights.

    Photos keep the parts that they bring; others are divided by their names (see `hash_split`). The
    head learns from the training part; threshold and figures are those of the validation part, or
    of the training part where validation lacks a class. Features are kept in `out`, so that a second
    run, killed or not, computes only what is missing. `progress` is told rows of features; None
    prints.

    Raises Refused for photos of one class only, an encoder that does not fit and a folder in use, UsageError for
    unusable values and without [zoo].
    """
    with holding(Path(config.out), "training"):
        return _trained(config, progress or _print_rows)


def _trained(config: WindowConfig, tell: Callable[[int, int], None]) -> Path:
    network = _network(config)
    photos = parted(open_photos(config.data, context(config.side) if config.turns else config.side))
    parts = {name: photos.part(name).labelled for name in ("train", "validation", "test")}
    parts["train"].check_classes()
    device = "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"
    kept = Bottlenecks(Path(config.out) / FEATURES, network.to(device))
    turns: Sequence[Turn] = TURNS if config.turns else UPRIGHT
    learnt = kept.of(parts["train"], turns, tell)
    labels = parts["train"].labels.repeat(len(turns))
    head = config.fitter.fit(learnt.reshape(-1, learnt.shape[-1]), labels)
    assert isinstance(head, LinearHead)
    network.set_head(*head.tensors())
    network.to(device)
    scored = {
        name: (_scores(network, kept.of(part, UPRIGHT, tell)[:, 0]), part.labels)
        for name, part in parts.items()
        if len(part)
    }
    point, metrics = _examined(scored, config.false_alarms)
    return _keep(config, network, point.threshold, metrics, photos)


@torch.inference_mode()
def _scores(network: InceptionWindow, features: np.ndarray) -> np.ndarray:
    """What the network itself says of features, to the bit: a threshold may be one of these."""
    inputs = torch.from_numpy(features).to(network.head.weight.device)
    return network.head(inputs).float().softmax(dim=1)[:, 1].cpu().numpy()


def parted(photos: PhotoSet) -> PhotoSet:
    """Photos with the parts that they bring, or else those that their names give."""
    if any(photo.split for photo in photos.photos):
        return photos
    return hash_split(photos)


def _network(config: WindowConfig) -> InceptionWindow:
    torch.manual_seed(config.seed)
    return with_encoder(InceptionWindow(config.backbone, config.side), config.encoder)


def with_encoder(network: InceptionWindow, encoder: str | None) -> InceptionWindow:
    """A network with the tensors of its backbone from a file, if one is named, in eval mode.

    Raises Refused for a file of another backbone.
    """
    if encoder is not None:
        try:
            network.load_encoder(read_tensors(encoder, "--encoder"))
        except UsageError as error:
            raise Refused(f"{encoder} cannot be the encoder: {error} Change --encoder.") from None
    return network.eval()


def _examined(
    scored: dict[str, tuple[np.ndarray, np.ndarray]], rate: float
) -> tuple[OperatingPoint, dict[str, float]]:
    """The threshold, and figures of every part."""
    both = [name for name, (_, labels) in scored.items() if labels.any() and not labels.all()]
    chosen = "validation" if "validation" in both else "train"
    point = at_false_positive_rate(*scored[chosen], rate)
    metrics = {f"threshold_of_{chosen}": 1.0}
    for name, (scores, labels) in scored.items():
        found = scores >= point.threshold
        metrics[f"{name}_photos"] = float(len(labels))
        metrics[f"{name}_accuracy"] = float((found == labels).mean())
        if name in both:
            metrics[f"{name}_auc"] = float(auc(scores, labels) or 0.0)
            metrics[f"{name}_true_positive_rate"] = float(found[labels].mean())
            metrics[f"{name}_false_positive_rate"] = float(found[~labels].mean())
    return point, metrics


def _keep(
    config: WindowConfig,
    network: InceptionWindow,
    threshold: float,
    metrics: dict[str, float],
    photos: PhotoSet,
) -> Path:
    window = network.window(config.overlap)
    damaged = int(photos.labelled.labels.sum())
    told = (
        f"Trained by aftermap on {len(photos.labelled)} photos of {Path(config.data).name}, {damaged} "
        f"with damage; backbone {config.backbone}"
        f"{' with random weights' if config.encoder is None else ''}, head {config.head}."
    )
    card = Card(
        method=METHOD,
        network=METHOD,
        options={"encoder": config.backbone, "side": config.side},
        classes=1,
        bands=3,
        mean=network.mean,
        std=network.std,
        resolution=config.resolution,
        nominal_resolution=config.nominal_resolution,
        core=window.core,
        halo=window.halo,
        scan=window.scan,
        stride=1,
        threshold=float(np.clip(threshold, 1e-6, 1 - 1e-6)),
        training_data=config.training_data or told,
        licence=config.licence,
        metrics=metrics,
    )
    target = Path(config.out) / f"{METHOD}{SUFFIX}"
    save(target, network.cpu(), card)
    load(target, method=METHOD)
    return target


def _print_rows(done: int, wanted: int) -> None:
    print(f"features {done}/{wanted}", file=sys.stderr)
