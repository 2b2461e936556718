"""What a gallery is asked for, checked: weights, photos, maps, device."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...kernels.methods import SCANNED, choose_device
from ...models.card import Card
from ...models.checkpoint import load
from ...models.deep_disaster import DeepDisaster
from ...models.photos.decode import is_photo, read_photo
from ...models.photos.open import open_photos
from ...models.photos.photoset import PhotoSet
from ...models.score_net import ScoreNet
from ...scenes.errors import NothingToAnalyse, Refused, UsageError
from .folder import PAGE, TABLE
from .scores import BATCH

MAPS = {
    "vanilla-gradient": "gradient",
    "smooth-gradient": "smooth-gradient",
    "guided": "guided-backpropagation",
    "none": None,
}
"""What maps are called on the command line, and in `localisation.METHODS`."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A gallery that passed every check; nothing is scored yet."""

    network: ScoreNet
    card: Card
    photos: PhotoSet
    maps: str
    """One of MAPS."""
    device: str
    """"cpu" or "cuda"."""

    @property
    def root(self) -> Path:
        """The folder of photos."""
        return Path(self.photos.source)

    @property
    def drawing(self) -> str | None:
        """The maps in `localisation.METHODS`; None: none."""
        return MAPS[self.maps]

    def facts(self) -> dict[str, Any]:
        """What decides the scores; a gallery goes on only with the same."""
        return {
            "photos": str(self.root.absolute()),
            "method": self.card.method,
            "weights_sha256": self.card.sha256,
            "device": self.device,
        }

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.facts() | {
            "count": len(self.photos),
            "labelled": len(self.photos.labelled),
            "unreadable": len(self.photos.unreadable),
            "threshold": self.card.threshold,
            "maps": self.maps,
        }

    def text(self) -> str:
        """What would be done, for the command line."""
        photos, unreadable = self.photos, len(self.photos.unreadable)
        return "\n".join(
            [
                f"photos     {len(photos)} of {self.root}, {len(photos.labelled)} of them labelled; "
                f"{unreadable} cannot be read",
                f"method     {self.card.method}, weights {self.card.sha256[:12]}, on {self.device}",
                f"work       squares of {photos.side} px in {-(-len(photos) // BATCH)} batches of "
                f"{BATCH}; threshold {self.card.threshold:.4g}",
                f"maps       {self.maps}",
                f"written    {TABLE}, {PAGE}",
            ]
        )


def prepared(
    photos: str | os.PathLike[str],
    weights: str | os.PathLike[str],
    method: str | None = None,
    maps: str | None = None,
    device: str = "auto",
    quiet: bool = True,
) -> Asked:
    """Check what `gallery` is asked for, and look at every photo once; writes nothing."""
    network, card = load(weights, method=method)
    if not isinstance(network, ScoreNet):
        raise Refused(
            f"{weights} holds {card.network}, which gives photos no score. Give weights of "
            f"{' or '.join(SCANNED)} with --weights."
        )
    chosen, place = _maps(network, card, maps), choose_device(device)
    if not quiet:
        print(f"looking at the photos of {photos}", file=sys.stderr, flush=True)
    return Asked(network.to(place), card, _opened(Path(photos), network.side), chosen, place)


def _maps(network: ScoreNet, card: Card, asked: str | None) -> str:
    if asked is None:
        return next(iter(MAPS)) if isinstance(network, DeepDisaster) else "none"
    if asked not in MAPS:
        raise UsageError(f"Unknown maps {asked!r}: give --maps one of {', '.join(MAPS)}.")
    if asked != "none" and not isinstance(network, DeepDisaster):
        raise UsageError(
            f"--maps {asked}: {card.method} has no maps, only deep-disaster does. Leave out --maps."
        )
    return asked


def _opened(folder: Path, side: int) -> PhotoSet:
    try:
        return open_photos(folder, side)
    except Refused as error:
        if _none_readable(folder):
            raise NothingToAnalyse(str(error)) from error
        raise


def _none_readable(folder: Path) -> bool:
    """Whether a folder has photos, and none of them can be read."""
    files = [path for path in folder.rglob("*") if is_photo(path)]
    return bool(files) and not any(map(_readable, files))


def _readable(path: Path) -> bool:
    try:
        read_photo(path, 1)
    except Refused:
        return False
    return True
