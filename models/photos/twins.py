"""Photos that are nearly the same, so that none is both learnt from and tested on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .photoset import PhotoSet

NEAR = 4
"""Of 64 bits, how many may differ between photos that count as nearly the same."""

_ROWS = 1024
"""Photos that are compared with all others at once."""


@dataclass(frozen=True)
class Twins:
    """Two photos of a set that are nearly the same, by number."""

    first: int
    second: int
    distance: int
    """Bits in which their hashes differ, of 64."""
    leak: bool
    """Whether they belong to different parts of the data set."""


def near_duplicates(photos: PhotoSet, distance: int = NEAR) -> list[Twins]:
    """The pairs of photos whose difference hashes differ in at most `distance` of 64 bits.

    The same photo scaled, compressed or brightened is found, a turned or otherwise cropped one is
    not. Photos without any contrast are like none. All are compared with all: seconds for ten
    thousand photos, besides reading them.
    """
    hashes, known = _hashes(photos)
    splits = [photo.split for photo in photos.photos]
    found = []
    for start in range(0, len(photos), _ROWS):
        differing = np.bitwise_count(hashes[start : start + _ROWS, None] ^ hashes[None])
        near = (differing <= distance) & known[start : start + _ROWS, None] & known[None]
        for row, second in np.argwhere(near).tolist():
            first = start + row
            if first < second:
                leak = splits[first] != splits[second]
                found.append(Twins(first, second, int(differing[row, second]), leak))
    return found


def _hashes(photos: PhotoSet) -> tuple[np.ndarray, np.ndarray]:
    """Hashes, uint64 (n,), and which photos have any contrast, bool (n,)."""
    small = [_thumbnail(photos.image(i)) for i in range(len(photos))]
    thumbnails = np.array(small, np.uint8).reshape(-1, 8, 9)
    bits = (thumbnails[:, :, 1:] > thumbnails[:, :, :-1]).reshape(-1, 8, 8)
    hashes = np.packbits(bits, axis=2).reshape(-1, 8).copy().view(np.uint64)[:, 0]
    return hashes, thumbnails.max((1, 2)) > thumbnails.min((1, 2))


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """A grey image of 8 × 9 pixels, uint8."""
    grey = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).convert("L")
    return np.asarray(grey.resize((9, 8), Image.Resampling.BILINEAR))
