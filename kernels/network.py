"""A trained network as a kernel: pickled as path, digest and options, loaded once per process."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from ..models.card import Card
from ..models.checkpoint import load
from ..models.damage_net import DamageNet, without_halo
from ..scenes.errors import Refused, UsageError
from ..scenes.layer import FULL, Layer
from ..scenes.pair import Pair
from ..scenes.plan import Window
from .loaded import Precision, choose_precision, loaded, normalised, on_device
from .views import VIEWS, turned, turned_back

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
_LAYERS = {1: _BINARY, 2: _GRADED[:3], 5: _GRADED}
"""By what a network tells apart; see Card."""


@dataclass(frozen=True)
class Member:
    """A network of an ensemble."""

    weights: str
    """Path of the safetensors file; its card lies beside it."""
    card: Card


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
    others: tuple[Member, ...] = ()
    """Further networks, whose probabilities are averaged with the first's."""
    views: int = 1
    """Ways in which every window is turned before the mean is taken; see `VIEWS`."""

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
        return _LAYERS[self.card.classes]

    @property
    def resolution(self) -> tuple[float, float]:
        """The range of ground sample distances that every card allows, m."""
        lows, highs = zip(*(member.card.resolution for member in self.members), strict=True)
        return max(lows), min(highs)

    @property
    def threshold(self) -> float | None:
        """The card's threshold for binary networks."""
        return self.card.threshold if self.card.classes < 5 else None

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
        """Interpreter, torch and the raster libraries, measured, and the weights as they lie on disk."""
        return (450 << 20) + sum(os.path.getsize(member.weights) for member in self.members)

    @property
    def cut(self) -> int:
        """The network's; see Blending."""
        return self._networks()[0].cut

    @property
    def margin(self) -> int:
        """The network's; see Blending."""
        return self._networks()[0].margin

    @property
    def members(self) -> tuple[Member, ...]:
        """All networks, of which there is mostly one."""
        return (Member(self.weights, self.card), *self.others)

    def facts(self) -> dict[str, object]:
        """Weights, digest, precision and device for provenance and fingerprint."""
        together: dict[str, object] = {}
        if self.others:
            together["ensemble"] = [member.weights for member in self.others]
        if self.views > 1:
            together["views"] = self.views
        return together | {
            "method": self.method,
            "network": self.card.network,
            "network_options": dict(self.card.options),
            "weights": self.weights,
            "weights_sha256": "+".join(member.card.sha256 for member in self.members),
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
        self._networks()

    def __call__(
        self, pre: np.ndarray, post: np.ndarray, valid: np.ndarray
    ) -> Mapping[str, np.ndarray]:
        """Run the network on windows; see Kernel."""
        return self._named(self._run(self._forward, pre, post, valid))

    def probabilities(self, pre: np.ndarray, post: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Of one whole square, for windows that are blended; see Blending."""

        def as_bytes(pre: Tensor, post: Tensor, valid: Tensor) -> Tensor:
            return self._found(pre, post, valid)[0].contiguous().view(torch.uint8)

        return self._run(as_bytes, pre, post, valid).view(np.float32)

    @torch.inference_mode()
    def stored(self, probabilities: np.ndarray, valid: np.ndarray) -> Mapping[str, np.ndarray]:
        """Layers of blended probabilities; see Blending. What is not valid is no building."""
        found = torch.from_numpy(probabilities * valid)[None]
        return self._named(without_halo(self._stored(found), self.margin)[:, 0].numpy())

    @torch.inference_mode()
    def _run(self, work: Callable[..., Tensor], *windows: np.ndarray) -> np.ndarray:
        """What `work` makes, uint8, of windows on the kernel's device."""
        self.load()
        return on_device(self.device, work, *windows)

    def _named(self, stored: np.ndarray) -> dict[str, np.ndarray]:
        return {layer.name: stored[place] for place, layer in enumerate(self.layers)}

    def _networks(self) -> list[DamageNet]:
        networks = [
            loaded(m.weights, m.card.sha256, self.device, self.precision, self.compiled)
            for m in self.members
        ]
        return cast(list[DamageNet], networks)  # as `network_kernel` saw them

    def _forward(self, pre: Tensor, post: Tensor, valid: Tensor) -> Tensor:
        """From uint8 windows to the layers' bytes (layers, n, core, core), all on one device."""
        return self._stored(self._found(pre, post, valid, self.window.halo))

    def _found(self, pre: Tensor, post: Tensor, valid: Tensor, halo: int = 0) -> Tensor:
        """From uint8 windows to probabilities (n, classes, h, w), fp32, all on one device.

        The mean over the networks and over the ways in which the windows are turned.
        """
        seen = valid[:, None]
        total = None
        for network, member in zip(self._networks(), self.members, strict=True):
            before, after = (normalised(x, seen, member.card, self.precision) for x in (pre, post))
            for view in VIEWS[: self.views]:
                first, second = turned(before, *view), turned(after, *view)
                found = turned_back(network.probabilities(first, second, halo), *view)
                total = found if total is None else total + found
        assert total is not None
        count = len(self.members) * self.views
        return total if count == 1 else total / count

    def _stored(self, probabilities: Tensor) -> Tensor:
        """Probabilities to bytes, in the order of `layers`."""
        damage = self._networks()[0].codes(probabilities, self.card.threshold)
        if self.card.classes < 5:
            # Buildings come first where they are told, and last among the layers.
            return torch.stack([damage, *(_bytes(x) for x in probabilities.unbind(1)[::-1])])
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
    ensemble: Sequence[str | Path] = (),
    views: int = 1,
) -> NetworkKernel:
    """Make a kernel of a weights file, checked now: the file is loaded once and kept.

    `precision` "auto" is the card's, or fp32 where the machine has no bf16 arithmetic. A `halo`
    other than the card's must be a multiple of the network's stride. `compiled` has `torch.compile`
    rewrite the network, which takes a minute at the start and rounds differently. `ensemble` are
    further weights of the method, and `views` ways of turning each window: probabilities are
    averaged over both, and cost as many times as much.
    """
    if views not in (1, 4, len(VIEWS)):
        raise UsageError(f"--views {views} is none of 1, 4 (flips) and 8 (quarter turns too).")
    network, first = _member(weights, method)
    others = [_further(str(file), method) for file in ensemble]
    for other in others:
        _check_together(first, other)
    cards = [member.card for member in (first, *others)]
    window = max((card.window for card in cards), key=lambda window: window.halo)
    if halo is not None:
        window = Window(window.core, halo, window.blended)
    if window.blended and network.margin > window.core - window.halo:
        raise Refused(
            f"--halo {window.halo} is too wide for cores of {window.core} px: {method} needs "
            f"{network.margin} px beside it. Leave it out."
        )
    for card in cards:
        if window.halo % card.stride or window.core % card.stride:
            raise Refused(
                f"--halo {window.halo} is not a multiple of {card.stride} px, the stride of "
                f"{method}. Give {-(-window.halo // card.stride) * card.stride}."
            )
    chosen: Precision = "bf16"
    if any(choose_precision(card, precision, device) == "fp32" for card in cards):
        chosen = "fp32"
    return NetworkKernel(
        first.weights, first.card, device, chosen, window, compiled, tuple(others), views
    )


def _member(weights: str, method: str) -> tuple[DamageNet, Member]:
    path = str(Path(weights).absolute())
    network, card = load(path, method=method)
    if not isinstance(network, DamageNet):
        raise Refused(f"{path} holds {card.network}, which finds no damage between two images.")
    return network, Member(path, card)


def _further(weights: str, method: str) -> Member:
    """A member beside the first; what is wrong with it is said of the option that names it."""
    try:
        return _member(weights, method)[1]
    except Refused as error:
        raise Refused(str(error).replace("--weights", "--ensemble")) from error


def _check_together(first: Member, other: Member) -> None:
    """Refuse networks whose answers cannot be averaged."""
    # Blended squares of different networks would not lie on each other.
    squares = ("core", "halo") if first.card.blended else ()
    for name in ("classes", "bands", "blended", *squares):
        one, two = getattr(first.card, name), getattr(other.card, name)
        if one != two:
            raise Refused(
                f"{other.weights} cannot be averaged with {first.weights}: {name} is {two} and "
                f"{one}. Change --ensemble."
            )
    lows, highs = zip(first.card.resolution, other.card.resolution, strict=True)
    if max(lows) > min(highs):
        raise Refused(
            f"{other.weights} cannot be averaged with {first.weights}: one is meant for pixels of "
            f"at most {min(highs):g} m and the other of at least {max(lows):g} m. Change --ensemble."
        )


def _bytes(probability: Tensor) -> Tensor:
    return (probability * FULL).round_().to(torch.uint8)
