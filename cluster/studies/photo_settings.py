"""What the studies of photos are told alike: which photos, and a backbone for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from ...models.photos.open import open_photos
from ...models.photos.photoset import PhotoSet
from ...models.photos.synthetic import PhotoRecipe, synthetic_photos
from ...models.presets import SYNTHETIC_TOWNS
from ...models.recipes import SYNTHETIC, TrainConfig, content_digest
from ...scenes.errors import UsageError
from ..gallery.rows import plain

_HEEDED = {"data", "weights", "backbone", "encoder", "chip", "batch", "lr", "synthetic"}
"""Settings of trainings that mean something to every study of photos."""


@dataclass(frozen=True, kw_only=True)
class PhotoSettings:
    """What decides the figures of a study of photos. Raises UsageError for unusable values."""

    FOLDERS: ClassVar[int] = 1
    """Most that `data` may name."""

    data: tuple[str, ...] = (SYNTHETIC,)
    """A folder of photos, see `open_photos`, or "synthetic"."""
    synthetic: PhotoRecipe = field(default_factory=lambda: PhotoRecipe(SYNTHETIC_TOWNS))
    encoder: str | None = None
    """timm's weights of the backbone; None begins at random."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", tuple(self.data))
        if isinstance(self.synthetic, Mapping):
            object.__setattr__(self, "synthetic", PhotoRecipe(**self.synthetic))
        if not 1 <= len(self.data) <= self.FOLDERS:
            times = " or ".join(("once", "twice")[: self.FOLDERS])
            raise UsageError(f"The study got {len(self.data)} folders. Give --data {times}.")
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            if isinstance(value, int | float) and not value > 0:
                raise UsageError(f"{name} must be positive; got {value}.")

    @property
    def source(self) -> str:
        """What is studied."""
        return self.data[0]

    def decisive(self) -> dict[str, Any]:
        """All of it, as plain values.

        Of an encoder its name and content; of synthetic photos only where they are looked at.
        """
        values = asdict(self)
        if self.encoder is not None:
            digest = content_digest("encoder", self.encoder)
            values |= {"encoder": Path(self.encoder).name, "encoder_sha256": digest}
        if self.source != SYNTHETIC:
            del values["synthetic"]
        return values

    def opened(self, folder: Path, side: int) -> PhotoSet:
        """All photos that can be read; synthetic ones are cut into a folder."""
        root = synthetic_photos(folder, self.synthetic) if self.source == SYNTHETIC else self.source
        return open_photos(root, side)

    def usable(self, photos: PhotoSet) -> PhotoSet:
        """Those with a label and a town, whose name can be written."""
        known = [p for p in photos.photos if p.damaged is not None and p.town]
        return photos.replaced([replace(photo, town=plain(photo.town)) for photo in known])

    def photos(self, folder: Path, side: int) -> PhotoSet:
        """The photos that are studied."""
        return self.usable(self.opened(folder, side))


def foreign(*own: str) -> frozenset[str]:
    """Settings of trainings without meaning for a study of photos that heeds `own` besides."""
    return frozenset(f.name for f in fields(TrainConfig)) - _HEEDED - set(own)


def renamed(training: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as studies of photos call them: `chip` is the side of a photo.

    Raises UsageError for weights of sources.
    """
    if training.get("weights"):
        raise UsageError("Photos have no share in an epoch. Give --data without =.")
    given = {name: value for name, value in training.items() if name != "weights"}
    if "chip" in given:
        given["side"] = given.pop("chip")
    return given
