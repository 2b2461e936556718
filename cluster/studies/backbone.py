"""What backbones make of photos, computed once and kept with the study."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import torch

from ...kernels.methods import choose_device
from ...models.bottlenecks import Bottlenecks
from ...models.checkpoint import read_tensors
from ...models.inception_window import InceptionWindow
from ...models.photos.photoset import PhotoSet
from ...scenes.errors import Refused, UsageError

_LOCK = threading.Lock()
"""Tasks may be threads of one process: they share torch's random numbers, and what the first computes."""


def backbone_of(name: str, side: int, encoder: str | None) -> InceptionWindow:
    """A backbone of timm with the weights of a file, or with random ones, always the same.

    Raises Refused for weights that do not fit, UsageError for an unknown name or side.
    """
    with _LOCK:
        torch.manual_seed(0)
        network = InceptionWindow(name, side)
    if encoder is not None:
        try:
            network.load_encoder(read_tensors(encoder, "--encoder"))
        except UsageError as error:
            raise Refused(f"{encoder} cannot be the encoder: {error} Change --encoder.") from None
    return network.eval()


def features_of(network: InceptionWindow, photos: PhotoSet, folder: Path) -> np.ndarray:
    """The features of photos as they are, fp32 (n, 1, d); see `Bottlenecks`."""
    network.to(choose_device("auto"))
    with _LOCK:
        return Bottlenecks(folder, network).of(photos)
