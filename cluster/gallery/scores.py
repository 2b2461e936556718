"""The scores of photos, batch by batch, each kept as soon as it is known."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from rasterio.errors import NotGeoreferencedWarning
from torch import Tensor

from ...models.batches import normalised
from ...models.card import Card
from ...models.photos.photoset import PhotoSet
from ...models.score_net import ScoreNet
from ...scenes.atomic import write_atomically
from ...scenes.errors import Refused
from ..progress import RunProgress

BATCH = 16
"""Photos that are scored together: a gigabyte with Inception-v3 on a CPU."""

_THREADS = 4
"""That decode at the same time: more would hold more large photos in memory."""


@contextmanager
def decoding(photos: PhotoSet) -> Iterator[ThreadPoolExecutor]:
    """Threads that decode photos, of which nothing is said of missing coordinates.

    One thread for chips: each silences warnings, and where threads do so, it is for all of them.
    """
    count = _THREADS if all(photo.chip is None for photo in photos.photos) else 1
    with warnings.catch_warnings(), ThreadPoolExecutor(count) as threads:
        # Whoever makes maps meanwhile reads chips, too.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield threads


def batches(count: int) -> list[range]:
    """The numbers of the photos of each batch; the same for every attempt."""
    return [range(first, min(first + BATCH, count)) for first in range(0, count, BATCH)]


def scores_of(
    network: ScoreNet, card: Card, photos: PhotoSet, device: str, kept: Path, quiet: bool
) -> np.ndarray:
    """The scores of all photos, fp32 (n,).

    `kept` is a folder with a file for each batch whose photos are known already: a batch is taken
    whole or worked on whole, so that an interruption changes no bit. Raises Refused for photos
    that are gone and for scores that are not finite.
    """
    kept.mkdir(exist_ok=True)
    found = np.empty(len(photos), np.float32)
    with (
        RunProgress(len(photos), quiet=quiet, noun="photos") as bar,
        decoding(photos) as threads,
    ):
        for batch in batches(len(photos)):
            digests = list(threads.map(photos.digest, batch))
            file = kept / f"{hashlib.sha256(' '.join(digests).encode()).hexdigest()[:24]}.csv"
            scores = _read(file, digests)
            if scores is None:
                squares = np.stack(list(threads.map(photos.image, batch)))
                scores = _scores(network, card, squares, device)
                _check(scores, card)
                _write(file, digests, scores)
            found[batch.start : batch.stop] = scores
            for _ in batch:
                bar.advance(photos.side**2)
    return found


def ready(squares: np.ndarray, card: Card, device: str) -> Tensor:
    """uint8 squares (n, 3, side, side) as the card wants them, on a device."""
    return normalised(torch.from_numpy(squares).to(device), card.mean, card.std, card.scale)


@torch.inference_mode()
def _scores(network: ScoreNet, card: Card, squares: np.ndarray, device: str) -> np.ndarray:
    return network.scores(ready(squares, card, device)).float().cpu().numpy()


def _check(scores: np.ndarray, card: Card) -> None:
    broken = int((~np.isfinite(scores)).sum())
    if broken:
        raise Refused(
            f"{broken} of {len(scores)} scores of {card.method} are not finite: the network is "
            f"unsound. Give other weights with --weights."
        )


def _read(file: Path, digests: list[str]) -> np.ndarray | None:
    """The scores of a batch; None where they are not known."""
    try:
        lines = [line.split(",") for line in file.read_text(encoding="ascii").splitlines()]
        scores = np.array([np.float32(score) for _, score in lines], np.float32)
    except (OSError, ValueError):
        return None
    return scores if [digest for digest, _ in lines] == digests else None


def _write(file: Path, digests: list[str], scores: np.ndarray) -> None:
    lines = [f"{digest},{score}\n" for digest, score in zip(digests, scores, strict=True)]
    write_atomically(file, "".join(lines).encode())
