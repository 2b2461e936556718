"""Weights on disk: a safetensors file with its card beside it, checked before it is believed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ..scenes.atomic import write_atomically
from ..scenes.errors import Refused, UsageError
from .card import Card
from .registry import build

SUFFIX = ".safetensors"
PICKLES = {".pth", ".pt", ".pkl", ".pickle", ".ckpt", ".bin"}
_SENT: dict[str, str] = {}
"""Weights that were sent to this process, by digest."""
_PICKLE_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def bundled(method: str) -> Path | None:
    """The weights file that comes with the package for a method, or None."""
    path = Path(__file__).parent / "weights" / f"{method}{SUFFIX}"
    return path if path.exists() else None


def save(path: str | os.PathLike[str], network: torch.nn.Module, card: Card) -> Card:
    """Write `<stem>.safetensors` and `<stem>.json`; returns the card with the weights' digest.

    Each file appears by rename, the card last: a kill in between leaves an old card, which `load`
    refuses by its digest. Raises UsageError if the weights hold NaN or infinity.
    """
    weights, beside = _files(path)
    tensors = {
        key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()
    }
    broken = not_finite(tensors)
    if broken:
        raise UsageError(f"{weights} was not written: {broken} of the network is not finite.")
    content = safetensors.torch.save(tensors)
    card = dataclasses.replace(card, sha256=hashlib.sha256(content).hexdigest())
    weights.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(weights, content)
    write_atomically(beside, card.to_json().encode())
    return card


def load(
    path: str | os.PathLike[str],
    method: str | None = None,
    classes: int | None = None,
    bands: int | None = None,
) -> tuple[torch.nn.Module, Card]:
    """Read weights and card; the network comes back on the CPU, in eval mode, fp32.

    `method`, `classes` and `bands` say what the caller needs; None accepts any. Nothing is ever
    unpickled. Raises Refused for a missing, foreign, truncated or altered file, a missing or
    unsound card, weights that are not finite, and weights that do not fit the network.
    """
    weights, beside = _files(path)
    check_file(weights, Path(path))
    card = read_card(weights)
    for argument, wanted, found in (
        ("method", method, card.method),
        ("classes", classes, card.classes),
        ("bands", bands, card.bands),
    ):
        if wanted is not None and wanted != found:
            raise Refused(
                f"Weights for {argument} {wanted} were asked for, but {beside} says "
                f"{argument} {found}. Give other weights with --weights, or change --{argument}."
            )
    content = weights.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.sha256:
        raise Refused(
            f"{weights} has SHA-256 {digest[:12]}…, but its card {beside} says "
            f"{card.sha256[:12] or 'nothing'}…: the file was altered or belongs to another card. "
            f"Give --weights a file with its own card."
        )
    tensors = safetensors.torch.load(content)
    broken = not_finite(tensors)
    if broken:
        raise Refused(
            f"{weights} holds NaN or infinite weights: {broken}. Give --weights a sound file."
        )
    try:
        network = build(card.network, **card.options)
    except UsageError as error:
        raise Refused(f"{beside} names a network that cannot be built: {error}") from error
    wrong = differences(network.state_dict(), tensors)
    if wrong:
        shown = "; ".join(wrong[:3])
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise Refused(
            f"{weights} does not fit the network {card.network} {dict(card.options)} that "
            f"{beside} names: {shown}{more}. Give --weights the file of that network."
        )
    network.load_state_dict(tensors)
    return network.eval(), card


@dataclasses.dataclass(frozen=True)
class SentWeights:
    """A weights file and its card as they travel to a process that cannot read them."""

    digest: str
    """SHA-256 of the weights."""
    weights: bytes
    card: bytes


def pack(path: str | os.PathLike[str]) -> SentWeights:
    """Read a weights file and its card to send them elsewhere."""
    weights, beside = _files(path)
    content = weights.read_bytes()
    return SentWeights(hashlib.sha256(content).hexdigest(), content, beside.read_bytes())


def keep_sent(sent: SentWeights, folder: Path) -> None:
    """Put sent weights into a folder of this process, where `found` finds them by their digest."""
    place = folder / f"aftermap-{sent.digest[:16]}{SUFFIX}"
    weights, beside = _files(place)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(weights, sent.weights)
    write_atomically(beside, sent.card)
    _SENT[sent.digest] = str(weights)


def found(path: str, digest: str) -> str:
    """Where the weights of a digest are in this process: as sent to it, or at their own path."""
    return _SENT.get(digest, path)


def read_card(path: str | os.PathLike[str]) -> Card:
    """Read the card that lies beside a weights file; raises Refused if it is missing or unsound."""
    weights, beside = _files(path)
    if not beside.is_file():
        raise Refused(
            f"{weights} has no card: {beside} was expected beside it and is missing. Copy both "
            f"files, or give --weights a file with its card."
        )
    try:
        return Card.from_json(beside.read_text(encoding="utf-8"))
    except (UsageError, UnicodeDecodeError) as error:
        raise Refused(
            f"{beside} is not a sound card: {error} Give --weights another file."
        ) from None


def read_tensors(path: str | os.PathLike[str], argument: str) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file that has no card, such as a library's.

    Raises Refused, naming the argument, for a missing, foreign or truncated file.
    """
    check_file(Path(path), Path(path), argument)
    return safetensors.torch.load(Path(path).read_bytes())


def _files(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """The weights file and the card, from the path of either or the path without a suffix."""
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in {SUFFIX, ".json"} else path
    return stem.with_name(stem.name + SUFFIX), stem.with_name(stem.name + ".json")


def check_file(weights: Path, asked: Path, argument: str = "--weights") -> None:
    """Refuse what is not a whole safetensors file, judging by names and bytes alone."""
    if asked.suffix.lower() in PICKLES or _is_pickle(asked) or _is_pickle(weights):
        raise Refused(
            f"{asked} is a pickle, and reading a pickle can run any code in it: only safetensors "
            f"files are read. Convert it with `aftermap weights convert`, then give {argument} "
            f"the .safetensors file."
        )
    if not weights.is_file():
        raise Refused(f"There is no weights file {weights}. Check the path given to {argument}.")
    size = weights.stat().st_size
    with weights.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= 100_000_000:
            raise Refused(_foreign(weights, argument, f"{size} bytes without a safetensors header"))
        if length > size - 8:
            raise Refused(_cut(weights, argument, size, length + 8, "at least "))
        try:
            header = json.loads(file.read(length))
            ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
            whole = 8 + length + max(ends, default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            raise Refused(_foreign(weights, argument, "a header that cannot be read")) from None
    if size < whole:
        raise Refused(_cut(weights, argument, size, whole))
    try:
        with safetensors.safe_open(weights, "pt"):
            pass
    except safetensors.SafetensorError as error:
        raise Refused(_foreign(weights, argument, str(error))) from None


def _is_pickle(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(9)
    # A safetensors header may be 640 bytes long and so begin like a pickle; its brace tells.
    return start.startswith(_PICKLE_MAGIC) and start[8:] != b"{"


def _foreign(weights: Path, argument: str, found: str) -> str:
    return f"{weights} is not a safetensors file: found {found}. Give {argument} another file."


def _cut(weights: Path, argument: str, size: int, whole: int, bound: str = "") -> str:
    return (
        f"{weights} is truncated: {size} bytes of {bound}{whole}. Fetch or copy it again, or give "
        f"{argument} another file."
    )


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """Name and count of the first tensor with NaN or infinity, or an empty string."""
    for key, tensor in tensors.items():
        if tensor.is_floating_point():
            count = int((~torch.isfinite(tensor)).sum())
            if count:
                return f"{key} ({count} of {tensor.numel()} values)"
    return ""


def differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """How found weights differ from those that a network has, one short text each."""
    texts = []
    for key, tensor in expected.items():
        if key not in found:
            texts.append(f"{key} is missing")
        elif found[key].shape != tensor.shape:
            texts.append(f"{key} is {tuple(found[key].shape)}, not {tuple(tensor.shape)}")
        elif found[key].dtype != tensor.dtype:
            texts.append(f"{key} is {found[key].dtype}, not {tensor.dtype}")
    return texts + [f"{key} is unknown" for key in found if key not in expected]
