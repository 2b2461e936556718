"""A trained network as a kernel: pickled as path, digest and options, loaded once per process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..models.card import Card
from ..models.checkpoint import found, load
from ..scenes.errors import Refused
from ..scenes.layer import FULL, Layer
from ..scenes.pair import Pair
from ..scenes.plan import Window
from .gpu import lane

Precision = Literal["fp32", "bf16"]

_GRADED = (
    Layer("damage", "class"),
    Layer("damage_probability", "probability"),
    Layer("building_probability", "probability"),
    Layer("p_none", "probability"),
    Layer("p_minor", "probability"),
    Layer("p_major", "probability"),
    Layer("p_destroyed", "probability"),
)
_BINARY = (Layer("damage", "class"), Layer("damage_probability", "probability"))

_STRIP = 64
"""Rows that are normalised at a time on a CPU."""


@dataclass(frozen=True)
class NetworkKernel:
    """A change network on windows; holds no tensors, so it travels in a task as a few hundred bytes."""

    weights: str
    """Path of the safetensors file; its card lies beside it."""
    card: Card
    device: str
    """"cpu" or "cuda"."""
    precision: Precision
    window: Window
    compiled: bool = False
    """Whether `torch.compile` rewrites the network for the device; its rounding differs."""

    inputs: ClassVar[tuple[str, ...]] = ("pre", "post")
    ready: ClassVar[bool] = True

    @property
    def method(self) -> str:
        """The card's method."""
        return self.card.method

    @property
    def bands(self) -> int:
        """Bands per image."""
        return self.card.bands

    @property
    def batch(self) -> int:
        """One window: more gain nothing on a CPU, and on a GPU the batch's size changes bits."""
        return 1

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Damage and probabilities; the level probabilities only for graded networks."""
        return _BINARY if self.card.classes == 1 else _GRADED

    @property
    def resolution(self) -> tuple[float, float]:
        """The card's range of ground sample distances, m."""
        return self.card.resolution

    @property
    def threshold(self) -> float | None:
        """The card's threshold for binary networks."""
        return self.card.threshold if self.card.classes == 1 else None

    @property
    def window_bytes(self) -> int:
        """Activations at full resolution dominate: both branches' first stage, skips and decoder.

        On a GPU only what is staged on its way there and back lies in this memory.
        """
        bytes_per_pixel = 16 * 4 * 14 if self.device == "cpu" else 24
        return self.window.size**2 * bytes_per_pixel

    @property
    def device_bytes(self) -> int:
        """Memory of a GPU at its peak, or 0 on a CPU: context, copies and activations, as measured."""
        if self.device == "cpu":
            return 0
        bytes_per_pixel = 500 if self.precision == "bf16" else 1200
        return (1280 << 20) + self.batch * self.window.size**2 * bytes_per_pixel

    @property
    def fixed_bytes(self) -> int:
        """Interpreter, torch and the raster libraries, measured, and the weights."""
        return 450 << 20

    def facts(self) -> dict[str, object]:
        """Weights, digest, precision and device for provenance and fingerprint."""
        return {
            "method": self.method,
            "network": self.card.network,
            "network_options": dict(self.card.options),
            "weights": self.weights,
            "weights_sha256": self.card.sha256,
            "precision": self.precision,
            "device": self.device,
            "compiled": self.compiled,
            "normalisation": [self.card.mean, self.card.std, self.card.scale],
            "classes": [self.card.classes, self.card.threshold],
            "temperatures": list(self.card.temperatures),
            "halo_flip_rate": self.card.halo_flip_rate if self.window == self.card.window else None,
        }

    def fitted(self, pair: Pair) -> NetworkKernel:
        """Itself: a trained network learns nothing from the scene."""
        return self

    def load(self) -> None:
        """Load the weights, once per process, onto the device."""
        self._network()

    def __call__(
        self, pre: np.ndarray, post: np.ndarray, valid: np.ndarray
    ) -> Mapping[str, np.ndarray]:
        """Run the network on windows; see Kernel."""
        try:
            return self._run(pre, post, valid)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                if self.device == "cuda":
                    torch.cuda.empty_cache()  # others may share the device
                raise MemoryError(str(error)) from error
            raise

    @torch.inference_mode()
    def _run(self, pre: np.ndarray, post: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
        network = self._network()
        if self.device == "cpu":
            stored = self._forward(network, *map(torch.from_numpy, (pre, post, valid))).numpy()
        else:
            stored = lane().run(partial(self._forward, network), (pre, post, valid))
        return {layer.name: stored[place] for place, layer in enumerate(self.layers)}

    def _network(self) -> nn.Module:
        return _loaded(self.weights, self.card.sha256, self.device, self.precision, self.compiled)

    def _forward(self, network: nn.Module, pre: Tensor, post: Tensor, valid: Tensor) -> Tensor:
        """From uint8 windows to the layers' bytes (layers, n, core, core), all on one device."""
        seen = valid[:, None]
        logits = network(self._normalised(pre, seen), self._normalised(post, seen))
        halo = self.window.halo
        if halo:
            logits = logits[..., halo:-halo, halo:-halo]
        return self._stored(logits.float())

    def _normalised(self, source: Tensor, seen: Tensor) -> Tensor:
        """uint8 windows to the network's dtype, zero (the mean colour) where nothing was measured."""
        card = self.card
        mean, std = (
            torch.tensor(values, device=source.device).view(1, -1, 1, 1) * card.scale
            for values in (card.mean, card.std)
        )
        out = torch.empty(
            source.shape,
            dtype=torch.bfloat16 if self.precision == "bf16" else torch.float32,
            device=source.device,
            memory_format=torch.channels_last,
        )
        # Strips of rows stay in a CPU's cache; a GPU takes the window at once.
        height = source.shape[-2]
        step = _STRIP if self.device == "cpu" else height
        for row in range(0, height, step):
            rows = np.s_[..., row : row + step, :]
            x = source[rows].to(torch.float32).sub_(mean).div_(std)
            out[rows] = x.mul_(seen[rows])
        return out

    def _stored(self, logits: Tensor) -> Tensor:
        """Logits to bytes, in the order of `layers`."""
        if self.card.classes == 1:
            probability = torch.sigmoid(logits[:, 0])
            damage = (probability > self.card.threshold).to(torch.uint8) * 5
            return torch.stack([damage, _bytes(probability)])
        probabilities = torch.softmax(logits, dim=1)
        damage = probabilities.max(dim=1).indices.to(torch.uint8)
        shares = (probabilities[:, 2:].sum(dim=1), 1 - probabilities[:, 0])
        levels = (probabilities[:, level] for level in range(1, 5))
        return torch.stack([damage, *map(_bytes, (*shares, *levels))])


def network_kernel(
    method: str,
    weights: str,
    device: str = "cpu",
    precision: str = "auto",
    halo: int | None = None,
    compiled: bool = False,
) -> NetworkKernel:
    """Make a kernel of a weights file, checked now: the file is loaded once and kept.

    `precision` "auto" is the card's, or fp32 where the machine has no bf16 arithmetic. A `halo`
    other than the card's must be a multiple of the network's stride. `compiled` has `torch.compile`
    rewrite the network, which takes a minute at the start and rounds differently.
    """
    _, card = load(weights, method=method)
    chosen = _precision(card, precision, device)
    window = card.window if halo is None else Window(card.core, halo)
    if window.halo % card.stride:
        raise Refused(
            f"--halo {halo} is not a multiple of {card.stride} px, the stride of {method}. "
            f"Give {-(-window.halo // card.stride) * card.stride}."
        )
    return NetworkKernel(weights, card, device, chosen, window, compiled)


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Fold every BatchNorm that directly follows a convolution in a Sequential into it (eval only)."""
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            _fold_sequence(module)
    return network


def _fold_sequence(sequence: nn.Sequential) -> None:
    names = list(sequence._modules)
    for first, second in pairwise(names):
        conv, norm = sequence._modules[first], sequence._modules[second]
        if isinstance(norm, nn.BatchNorm2d) and isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d)):
            transposed = isinstance(conv, nn.ConvTranspose2d)
            sequence._modules[first] = nn.utils.fuse_conv_bn_eval(conv, norm, transpose=transposed)
            sequence._modules[second] = nn.Identity()


@lru_cache(maxsize=4)
def _loaded(
    weights: str, digest: str, device: str, precision: Precision, compiled: bool = False
) -> nn.Module:
    """The network, ready to run; once per process. Refuses weights that changed since the plan."""
    network, card = load(found(weights, digest))
    if card.sha256 != digest:
        raise Refused(f"{weights} changed since the run was planned; start it again with --fresh.")
    network = fold_batch_norm(network).to(device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if precision == "bf16":
        network = network.to(torch.bfloat16)
    return torch.compile(network) if compiled else network  # type: ignore[return-value]


def _precision(card: Card, asked: str, device: str) -> Precision:
    if asked == "fp32" or (asked == "auto" and card.precision == "fp32"):
        return "fp32"
    if asked not in ("auto", "bf16"):
        raise Refused(f"--precision {asked!r} is unknown; give auto, fp32 or bf16.")
    if asked == "auto" and not has_bf16(device):
        return "fp32"
    return "bf16"


def has_bf16(device: str) -> bool:
    """Whether a device computes bf16 natively; emulation is slower than fp32."""
    if device == "cuda":
        # Without a GPU here it is another machine's: all since 2020 have it.
        return not torch.cuda.is_available() or torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_avx512_bf16_supported())


def _bytes(probability: Tensor) -> Tensor:
    return (probability * FULL).round_().to(torch.uint8)
