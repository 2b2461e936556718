"""A backbone's features of photos, computed once and kept in files; paper 003's "bottlenecks"."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import safetensors
import safetensors.numpy
import torch

from ..scenes.atomic import write_atomically
from ..scenes.errors import Refused, UsageError
from .batches import normalised
from .inception_window import InceptionWindow
from .rotations import Turn, context, turned

UPRIGHT = (Turn(),)
"""Photos as they are."""

_KEYS = "keys"
_FEATURES = "features"
_FLUSH = 256
"""Rows after which a file is written: what a kill costs, half a minute on two cores."""
_THREADS = 4


class Pictures(Protocol):
    """Squares by number, such as a PhotoSet; `image` may be called from several threads."""

    side: int

    def __len__(self) -> int: ...

    def image(self, index: int) -> np.ndarray:
        """uint8 (3, side, side)."""
        ...

    def digest(self, index: int) -> str:
        """The same only for the same image; cheaper than reading it."""
        ...


@dataclass(frozen=True)
class _Row:
    """Where a row of features lies."""

    file: Path
    number: int


class Bottlenecks:
    """A folder of features of images, by the backbone, its weights, and how images are prepared.

    Files are only ever added, each by rename, so that a kill loses what was computed since the last
    one, and several processes may share a folder. Features computed with other batches or on another
    device differ in their last bits.
    """

    def __init__(
        self, folder: str | os.PathLike[str], network: InceptionWindow, batch: int = 32
    ) -> None:
        """`batch` is how many squares the network sees at once. Raises UsageError if it is below 1."""
        if batch < 1:
            raise UsageError(f"A batch of {batch} squares is none; give --batch 1 or more.")
        self.root = Path(folder)
        self.network = network
        self.batch = batch

    def of(
        self,
        pictures: Pictures,
        turns: Sequence[Turn] = UPRIGHT,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """The features of all images in all orientations, fp32 (n, turns, d).

        What is there already is read from the folder, of the images themselves only their digests.
        `progress` is told how many rows are there, and how many are wanted. Images must have the
        network's side, or for other turns than none `context(side)` or more. Raises UsageError for
        others, and Refused where an image or the folder cannot be read or written.
        """
        self._check_side(pictures, turns)
        folder = self.root / self.key()
        names = [pictures.digest(index) for index in range(len(pictures))]
        keys = [[f"{name} {pictures.side} {turn}" for turn in turns] for name in names]
        known = _index(folder)
        wanted = {
            key: (index, turn)
            for index, row in enumerate(keys)
            for turn, key in zip(turns, row, strict=True)
        }
        todo = {key: place for key, place in wanted.items() if key not in known}
        done = len(wanted) - len(todo)
        for found, features in self._computed(pictures, todo):
            file = _write(folder, found, features)
            known |= {key: _Row(file, number) for number, key in enumerate(found)}
            done += len(found)
            if progress is not None:
                progress(done, len(wanted))
        flat = [known[key] for row in keys for key in row]
        length = self.network.head.in_features
        return _gathered(flat, length).reshape(len(keys), len(turns), length)

    def key(self) -> str:
        """The name of the folder of the network's features, as it is now."""
        network = self.network
        digest = hashlib.sha256()
        about = [network.backbone, network.side, network.mean, network.std]
        digest.update(json.dumps(about).encode())
        for name, tensor in sorted(network.encoder.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return f"{network.backbone.replace('/', '_')}-{digest.hexdigest()[:16]}"

    def _check_side(self, pictures: Pictures, turns: Sequence[Turn]) -> None:
        side = self.network.side
        if pictures.side == side and tuple(turns) == UPRIGHT:
            return
        if pictures.side < context(side):
            raise UsageError(
                f"The network takes squares of {side} px, which are turned within {context(side)} px "
                f"or more; the photos are read with {pictures.side} px. Open them with side={side}, or "
                f"side={context(side)} to turn them."
            )

    def _computed(
        self, pictures: Pictures, todo: dict[str, tuple[int, Turn]]
    ) -> Iterator[tuple[list[str], np.ndarray]]:
        """Keys and features of what is not known yet, as many as a file holds."""
        keys: list[str] = []
        rows: list[np.ndarray] = []
        with ThreadPoolExecutor(_THREADS) as threads:
            missing = list(todo)
            for start in range(0, len(missing), self.batch):
                some = missing[start : start + self.batch]
                indices = sorted({todo[key][0] for key in some})
                images = dict(zip(indices, threads.map(pictures.image, indices), strict=True))
                places = [todo[key] for key in some]
                squares = [self._square(images[index], turn) for index, turn in places]
                keys += some
                rows.append(self._features(np.stack(squares)))
                if len(keys) >= _FLUSH:
                    yield keys, np.concatenate(rows)
                    keys, rows = [], []
        if keys:
            yield keys, np.concatenate(rows)

    def _square(self, image: np.ndarray, turn: Turn) -> np.ndarray:
        side = self.network.side
        return image if image.shape[-1] == side else turned(image, turn, side)

    @torch.inference_mode()
    def _features(self, squares: np.ndarray) -> np.ndarray:
        network = self.network
        training, device = network.training, network.head.weight.device
        network.eval()
        image = normalised(torch.from_numpy(squares).to(device), network.mean, network.std)
        features = network.features(image).float().cpu().numpy()
        network.train(training)
        return features


def _index(folder: Path) -> dict[str, _Row]:
    """Where each row of a folder lies; files that cannot be read are passed over."""
    known: dict[str, _Row] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safetensors.safe_open(file, "numpy") as opened:
                keys = json.loads((opened.metadata() or {})[_KEYS])
        except (OSError, safetensors.SafetensorError, KeyError, ValueError):
            continue
        known |= {key: _Row(file, number) for number, key in enumerate(keys)}
    return known


def _write(folder: Path, keys: Sequence[str], features: np.ndarray) -> Path:
    note = {_KEYS: json.dumps(list(keys))}
    content = safetensors.numpy.save({_FEATURES: features}, metadata=note)
    file = folder / f"{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(file, content)
    except OSError as error:
        raise Refused(f"Features could not be kept in {folder}: {error}.") from error
    return file


def _gathered(rows: Sequence[_Row], length: int) -> np.ndarray:
    """Rows in the order given, read file by file: fp32 (n, length)."""
    out = np.empty((len(rows), length), np.float32)
    places: dict[Path, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.file, []).append(place)
    for file, these in places.items():
        try:
            features = safetensors.numpy.load_file(file)[_FEATURES]
        except (OSError, safetensors.SafetensorError) as error:
            raise Refused(f"The features {file} cannot be read: {error}. Remove it.") from error
        out[these] = features[[rows[place].number for place in these]]
    return out
