"""Encoders that learn by comparing: the network of contrastive pre-training, and its file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ..scenes.atomic import write_atomically
from ..scenes.errors import Refused, UsageError
from .change import ChangeNet
from .checkpoint import check_file, differences, not_finite

_KEY = "aftermap-encoder"
_ENCODER, _HEAD = "encoder.", "head."


class Embedder(nn.Module):
    """A change network's encoder with a linear head, which turn images into embeddings.

    The mean over all positions of the last pooled features, then one linear layer. FC-Siam embeds
    the image before and the image after of each pair: `forward(pre, post)` of (n, c, h, w) returns
    (n, 2, dimensions). FC-EF embeds pairs and compares each two that follow each other: n is even,
    and (n / 2, 2, dimensions) comes back. Paper 001, sections III.H and IV.D.
    """

    def __init__(self, network: ChangeNet, dimensions: int = 128) -> None:
        super().__init__()
        self.network = network
        last = network.encoder[-1]
        assert isinstance(last, nn.Sequential)
        widths = [layer.out_channels for layer in last if isinstance(layer, nn.Conv2d)]
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], dimensions)
        )
        # The decoder takes no part: processes that train together would wait for its gradients.
        for module in (network.ups, network.decoder):
            module.requires_grad_(False)

    @property
    def compares_pairs(self) -> bool:
        """Whether pairs are compared with pairs (FC-EF), rather than before with after."""
        return self.network.fusion == "ef"

    def forward(self, pre: Tensor, post: Tensor) -> Tensor:
        if not self.compares_pairs:
            first, second = pre, post
        else:
            if len(pre) % 2:
                raise UsageError(f"FC-EF compares pairs two by two; got {len(pre)} of them.")
            both = torch.cat([pre, post], dim=1)
            first, second = both[0::2], both[1::2]
        return torch.stack([self._embed(first), self._embed(second)], dim=1)

    def different(self, damaged: Tensor) -> Tensor:
        """What the loss wants apart, bool: pairs with damage, or pairs of which one has damage."""
        return damaged[0::2] != damaged[1::2] if self.compares_pairs else damaged

    def _embed(self, images: Tensor) -> Tensor:
        return self.head(self.network.encode(images)[1])


@dataclass(frozen=True)
class EncoderFacts:
    """What an encoder's file says of itself."""

    method: str
    size: str
    bands: int
    dimensions: int
    training_data: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    """Measured on held-out pairs: loss, and the area under the ROC curve of the distance."""


def save_encoder(path: Path, embedder: Embedder, facts: EncoderFacts) -> None:
    """Write encoder, head and facts into one safetensors file, by rename.

    Raises UsageError if a weight is not finite.
    """
    parts = ((_ENCODER, embedder.network.encoder), (_HEAD, embedder.head))
    tensors = {
        prefix + key: value.detach().cpu().contiguous()
        for prefix, module in parts
        for key, value in module.state_dict().items()
    }
    broken = not_finite(tensors)
    if broken:
        raise UsageError(f"{path} was not written: {broken} of the encoder is not finite.")
    path.parent.mkdir(parents=True, exist_ok=True)
    note = {_KEY: json.dumps(asdict(facts))}
    write_atomically(path, safetensors.torch.save(tensors, metadata=note))


def load_encoder(path: str | os.PathLike[str], network: ChangeNet, method: str) -> EncoderFacts:
    """Copy a pre-trained encoder into a network; its head stays behind. Returns the file's facts.

    Raises Refused for a file that is none, cut or not finite, and for an encoder of another method,
    size or number of bands. FC-Siam-conc and FC-Siam-diff have the same encoder.
    """
    file = Path(path)
    facts, tensors = _read(file)
    wanted = network.size, network.in_channels, method == "fc-ef"
    if (facts.size, facts.bands, facts.method == "fc-ef") != wanted:
        raise Refused(
            f"{file} holds an encoder of {facts.method}, size {facts.size}, {facts.bands} bands, "
            f"and {method}, size {network.size}, {network.in_channels} bands is to be trained. "
            f"Change --encoder, --method or --size."
        )
    _fill(network.encoder, _part(tensors, _ENCODER), file)
    return facts


def load_embedder(path: str | os.PathLike[str], embedder: Embedder) -> None:
    """Copy encoder and head of a file into an embedder of the same kind; Refused for others."""
    _, tensors = _read(Path(path))
    _fill(embedder.network.encoder, _part(tensors, _ENCODER), Path(path))
    _fill(embedder.head, _part(tensors, _HEAD), Path(path))


def _read(file: Path) -> tuple[EncoderFacts, dict[str, Tensor]]:
    check_file(file, file, "--encoder")
    try:
        with safetensors.safe_open(file, "pt") as opened:
            facts = EncoderFacts(**json.loads((opened.metadata() or {})[_KEY]))
            return facts, {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise Refused(
            f"{file} is no encoder that `aftermap pretrain` wrote: {type(error).__name__}: {error}. "
            f"Change --encoder."
        ) from None


def _fill(module: nn.Module, tensors: dict[str, Tensor], file: Path) -> None:
    wrong = differences(module.state_dict(), tensors) or not_finite(tensors)
    if wrong:
        shown = wrong if isinstance(wrong, str) else "; ".join(wrong[:3])
        raise Refused(f"{file} does not fit the network: {shown}. Change --encoder.")
    module.load_state_dict(tensors)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
