"""A trained network that scores whole squares, as a kernel of scanned windows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..models.card import Card
from ..models.checkpoint import load
from ..models.deep_disaster import DeepDisaster
from ..models.localisation import vanilla_gradient
from ..models.score_net import ScoreNet
from ..scenes.errors import Refused
from ..scenes.layer import NOT_ANALYSED, Layer, encode
from ..scenes.legend import UNGRADED
from ..scenes.pair import Pair
from ..scenes.plan import Window
from .detections import LAYER, score_bytes
from .loaded import Precision, choose_precision, loaded, normalised, on_device

MAP = "anomaly_map"
"""The layer of deep-disaster that says where in its square the damage seems to be."""

OVERLAP = 90
"""Pixels that neighbouring squares have in common; paper 003."""


@dataclass(frozen=True)
class ScanKernel:
    """A network on squares; holds no tensors, so it travels in a task as a few hundred bytes.

    The damage raster has 5 where a core's square reaches the card's threshold (inclusive), 0
    elsewhere; `window_score`, or `anomaly_score`, has a cell for each square. Of deep-disaster,
    `anomaly_map` has the gradient map of each such square (paper 000, eq. 10), stretched within the
    square, and 0 elsewhere.
    """

    weights: str
    """Path of the safetensors file; its card lies beside it."""
    card: Card
    device: str
    """"cpu" or "cuda"."""
    precision: Precision
    window: Window

    inputs: ClassVar[tuple[str, ...]] = ("post",)
    ready: ClassVar[bool] = True
    batch: ClassVar[int] = 1
    """The size of a batch changes bits on a GPU; on a CPU larger ones gain little."""

    @property
    def method(self) -> str:
        """The card's method."""
        return self.card.method

    @property
    def bands(self) -> int:
        """Bands per image."""
        return self.card.bands

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Damage and its probability, pixel by pixel, the scores of squares, and maps of them."""
        maps = (Layer(MAP, "probability"),) if self._mapped else ()
        return (
            Layer("damage", "class"),
            Layer("damage_probability", "probability"),
            Layer(self._score, "probability", self.window.core),
            *maps,
        )

    @property
    def resolution(self) -> tuple[float, float]:
        """The card's range of ground sample distances, m."""
        return self.card.resolution

    @property
    def threshold(self) -> float:
        """The card's."""
        return self.card.threshold

    @property
    def window_bytes(self) -> int:
        """Activations of the widest stages of Inception-v3 on a square, estimated; the peak of a worker
        that docs/performance.md tells is in keeping with it."""
        return self.window.scan**2 * (700 if self.device == "cpu" else 24)

    @property
    def device_bytes(self) -> int:
        """Memory of a GPU at its peak, or 0 on a CPU: context, weights, activations of a square; an
        estimate that was never compared with a GPU."""
        return 0 if self.device == "cpu" else (1536 << 20) + self.window.scan**2 * 2000

    @property
    def fixed_bytes(self) -> int:
        """Interpreter, torch and the raster libraries, measured, and the weights."""
        return (450 << 20) + 2 * os.path.getsize(self.weights)

    def facts(self) -> dict[str, object]:
        """Weights, digest, precision, device and squares for provenance and fingerprint."""
        return {
            "method": self.method,
            "network": self.card.network,
            "network_options": dict(self.card.options),
            "weights": self.weights,
            "weights_sha256": self.card.sha256,
            "precision": self.precision,
            "device": self.device,
            "normalisation": [self.card.mean, self.card.std, self.card.scale],
            "classes": [self.card.classes, self.card.threshold],
            "squares": [self.window.scan, self.window.overlap],
            "maps": "gradient" if self._mapped else None,
        }

    def fitted(self, pair: Pair) -> ScanKernel:
        """Itself: a trained network learns nothing from the scene."""
        return self

    def load(self) -> None:
        """Load the weights, once per process, onto the device."""
        self._network()

    def __call__(
        self, pre: np.ndarray, post: np.ndarray, valid: np.ndarray
    ) -> Mapping[str, np.ndarray]:
        """Score squares, which `scanned` places: a cell (n, 1, 1) each, and maps. See Kernel."""
        scores = self.scores(post, valid)
        return {**self.scored(scores[:, None, None]), **self.drawn(post, valid, scores)}

    def scores(self, images: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Of squares on the kernel's device; see Scanning."""
        self.load()  # outside inference mode, in which tensors are made that know no gradients

        @torch.inference_mode()
        def work(image: Tensor, seen: Tensor) -> Tensor:
            ready = normalised(image, seen[:, None], self.card, self.precision)
            found = self._network().scores(ready).float()
            # One score of two may keep a stride of two, and count as contiguous all the same.
            return found.clone(memory_format=torch.contiguous_format).view(torch.uint8)

        return on_device(self.device, work, images, valid).view(np.float32)

    def drawn(
        self, images: np.ndarray, valid: np.ndarray, scores: np.ndarray
    ) -> Mapping[str, np.ndarray]:
        """Maps of the squares that reach the threshold, 0 elsewhere; see Scanning."""
        if not self._mapped:
            return {}
        maps, hits = np.zeros(valid.shape, np.uint8), scores >= self.threshold
        if hits.any():
            maps[hits] = on_device(self.device, self._maps, images[hits], valid[hits])
        return {MAP: maps}

    def scored(self, scores: np.ndarray) -> Mapping[str, np.ndarray]:
        """Bytes of every layer, one per core; see Scanning."""
        stored = score_bytes(scores, self.threshold)
        codes = np.where(scores >= self.threshold, UNGRADED, 0)
        codes[np.isnan(scores)] = NOT_ANALYSED
        return {"damage": codes.astype(np.uint8), "damage_probability": stored, self._score: stored}

    @property
    def _score(self) -> str:
        """What the layer of scores is called: squares are chosen from, anomalies are regions."""
        return "anomaly_score" if self._mapped else LAYER

    @property
    def _mapped(self) -> bool:
        return self.card.network == "deep-disaster"

    def _maps(self, image: Tensor, seen: Tensor) -> Tensor:
        """Bytes (n, scan, scan) of squares on a device."""
        network = self._network()
        assert isinstance(network, DeepDisaster)
        ready = normalised(image, seen[:, None], self.card, self.precision)
        return torch.from_numpy(encode(vanilla_gradient(network, ready))).to(image.device)

    def _network(self) -> ScoreNet:
        network = loaded(self.weights, self.card.sha256, self.device, self.precision)
        assert isinstance(network, ScoreNet)
        return network


def scan_kernel(
    method: str,
    weights: str,
    device: str = "cpu",
    precision: str = "auto",
    overlap: int | None = None,
) -> ScanKernel:
    """Make a kernel of a weights file, checked now: the file is loaded once and kept.

    `overlap` is what neighbouring squares have in common, px; None is the card's. `precision`
    "auto" is the card's, or fp32 where the machine has no bf16 arithmetic.
    """
    path = str(Path(weights).absolute())
    network, card = load(path, method=method)
    if not isinstance(network, ScoreNet):
        raise Refused(f"{path} holds {card.network}, which gives squares no score.")
    if card.options.get("batch_statistics"):
        raise Refused(
            f"{path} uses the statistics of the images that are scored together, and squares of a "
            f"raster are scored one at a time: that exists for photos only. Give --weights of a "
            f"training without batch_statistics, or a folder of photos."
        )
    window = card.window if overlap is None else Window.scanning(card.scan, overlap)
    return ScanKernel(path, card, device, choose_precision(card, precision, device), window)
