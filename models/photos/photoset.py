"""Sets of photos: where each lies, what it shows, where it is from and what it is for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...scenes.errors import Refused
from ..chips.picture import Picture
from .decode import read_photo, squared


@dataclass(frozen=True)
class Photo:
    """One photo, or the image after the event of a chip; small, and picklable."""

    path: Path
    damaged: bool | None = None
    """Whether it shows damage; None: nobody said."""
    town: str = ""
    """The town or event that it is from; empty where that is not known."""
    split: str = ""
    """The part of the data set that it belongs to: train, validation, test; empty: not divided."""
    chip: Picture | None = None
    """How the image of a chip is read; None: `path` is an image file."""


@dataclass(frozen=True)
class Unreadable:
    """A photo that was left out."""

    path: Path
    reason: str


class PhotoSet:
    """Photos by number, all read as squares of one side. Reading may happen on several threads."""

    def __init__(
        self,
        photos: Sequence[Photo],
        side: int,
        source: str = "",
        unreadable: Sequence[Unreadable] = (),
    ) -> None:
        self.photos = tuple(photos)
        self.side = side
        """Height and width of the images, px."""
        self.source = source
        """Where they come from, for messages."""
        self.unreadable = tuple(unreadable)
        """What was left out when the set was opened."""

    def __len__(self) -> int:
        return len(self.photos)

    def image(self, index: int) -> np.ndarray:
        """The middle square of a photo, uint8 (3, side, side); raises Refused if it is gone."""
        photo = self.photos[index]
        if photo.chip is None:
            return read_photo(photo.path, self.side)
        pixels = photo.chip.read(3).transpose(1, 2, 0)
        return squared(Image.fromarray(np.ascontiguousarray(pixels)), self.side)

    def label(self, index: int) -> bool | None:
        """Whether a photo shows damage; None: nobody said."""
        return self.photos[index].damaged

    def digest(self, index: int) -> str:
        """SHA-256 of a photo's file, which is not decoded for it, or of a chip's pixels.

        The same only for the same image.
        """
        photo = self.photos[index]
        try:
            content = (
                photo.path.read_bytes() if photo.chip is None else photo.chip.read(3).tobytes()
            )
        except OSError as error:
            raise Refused(f"The photo {photo.path} cannot be read: {error}.") from error
        return hashlib.sha256(content).hexdigest()

    @property
    def towns(self) -> tuple[str, ...]:
        """The towns or events that the photos are from, sorted."""
        return tuple(sorted({photo.town for photo in self.photos if photo.town}))

    @property
    def labelled(self) -> PhotoSet:
        """The photos of which somebody said whether they show damage."""
        return self._where(photo.damaged is not None for photo in self.photos)

    @property
    def labels(self) -> np.ndarray:
        """Whether each photo shows damage, bool (n,); raises Refused where that is not known of all."""
        unknown = [photo.path for photo in self.photos if photo.damaged is None]
        if unknown:
            raise Refused(
                f"Of {len(self)} photos of {self.source} {len(unknown)} have no label, such as "
                f"{unknown[0]}. Put them into folders damage/ and no_damage/, or change --data."
            )
        return np.array([photo.damaged for photo in self.photos], bool)

    def part(self, split: str) -> PhotoSet:
        """The photos of a part of the data set."""
        return self._where(photo.split == split for photo in self.photos)

    def town(self, name: str) -> PhotoSet:
        """The photos of a town or event."""
        return self._where(photo.town == name for photo in self.photos)

    def subset(self, indices: Sequence[int]) -> PhotoSet:
        """Some of the photos, in the order given."""
        return self.replaced([self.photos[i] for i in indices])

    def replaced(self, photos: Sequence[Photo]) -> PhotoSet:
        """A set of other photos, such as the same with other words on them, read in the same way."""
        return PhotoSet(photos, self.side, self.source, self.unreadable)

    def check_classes(self) -> None:
        """Refuse photos of one class only, or without labels: nothing can be learnt or examined."""
        damaged = sum(photo.damaged is True for photo in self.photos)
        intact = sum(photo.damaged is False for photo in self.photos)
        if not damaged or not intact:
            raise Refused(
                f"Photos with damage and without are needed; {self.source} has {damaged} with, "
                f"{intact} without, and {len(self) - damaged - intact} of which nobody said. Put "
                f"them into folders damage/ and no_damage/, or change --data."
            )

    def _where(self, wanted: Iterable[bool]) -> PhotoSet:
        return self.subset([i for i, yes in enumerate(wanted) if yes])
