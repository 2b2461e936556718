"""The pictures of a gallery's page: small, as many as fit, with maps of where the damage seems to be."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np
from PIL import Image

from ...models.deep_disaster import DeepDisaster
from ...models.localisation import METHODS
from ...models.photos.photoset import PhotoSet
from ..progress import RunProgress
from .request import Asked
from .rows import Row
from .scores import BATCH, decoding, ready

SIDE = 160
"""Of the pictures, px."""

BUDGET = 18_000_000
"""Bytes of all of them with what is written under them: a page has 20 MB at most."""

MOST_MAPS = 200
"""Maps that are made: one takes as long as two scores, with noise a hundred times as long."""

_QUALITY = 72
_MARKUP = 600
"""Bytes of a picture's place in the page, besides the picture and its name."""
_STRENGTH = 0.7
"""How much of the photo the strongest colour hides."""


@dataclass(frozen=True)
class Picture:
    """A photo as it lies in the page."""

    row: Row
    photo: str
    """A data URI."""
    overlay: str | None
    """The photo under its map, likewise; None: no map was made."""

    @property
    def size(self) -> int:
        """Bytes that it takes in the page, at the most."""
        return len(self.photo) + len(self.overlay or "") + 2 * len(escape(self.row.name)) + _MARKUP


@dataclass(frozen=True)
class Pictures:
    """The pictures of a page."""

    wrong: tuple[Picture, ...]
    """Photos whose score contradicts their label, by falling score."""
    others: tuple[Picture, ...]
    """All others, by falling score."""
    notes: tuple[str, ...]
    """What is left out, in words."""

    def __len__(self) -> int:
        return len(self.wrong) + len(self.others)

    @property
    def mapped(self) -> int:
        """How many have a map."""
        return sum(picture.overlay is not None for picture in (*self.wrong, *self.others))


def pictures_of(asked: Asked, rows: Sequence[Row], quiet: bool) -> Pictures:
    """Make the pictures that fit.

    Half of the room is for what is misclassified, the clearest errors first; all others come by
    falling score. Maps are made of the photos that reach the threshold, `MOST_MAPS` of them at most,
    the highest scores first.
    """
    falling = sorted(rows, key=_by_score)
    found = [row for row in falling if row.found]
    mapped = {row.number for row in found[: MOST_MAPS if asked.drawing else 0]}
    threshold = asked.card.threshold
    clear = sorted((r for r in rows if r.wrong), key=lambda r: (-abs(r.score - threshold), r.name))
    others = [row for row in falling if not row.wrong]
    share = BUDGET // 2 if others else BUDGET
    with RunProgress(len(mapped), quiet=quiet or not mapped, noun="maps") as bar:
        first, left = _fitting(asked, clear, mapped, share, bar)
        then, _ = _fitting(asked, others, mapped, BUDGET - share + left, bar)
    first.sort(key=lambda picture: _by_score(picture.row))
    made = Pictures(tuple(first), tuple(then), ())
    notes = _left_out(made, len(clear), len(others))
    if asked.drawing and made.mapped < len(found):
        notes.append(
            f"maps were made of {made.mapped:,} of the {len(found):,} photos that reach the threshold"
        )
    return replace(made, notes=tuple(notes))


def _by_score(row: Row) -> tuple[float, str]:
    return -float(row.score), row.name


def _left_out(made: Pictures, wrong: int, others: int) -> list[str]:
    """What does not fit, in words."""
    missing = [
        f"{count:,} {which}"
        for count, which in (
            (wrong - len(made.wrong), "misclassified ones closest to the threshold"),
            (others - len(made.others), "others with the lowest scores"),
        )
        if count
    ]
    if not missing:
        return []
    return [
        f"the page shows {len(made):,} of {wrong + others:,} photos; {' and '.join(missing)} did not fit "
        f"into {BUDGET / 1e6:.0f} MB"
    ]


def coloured(grey: np.ndarray) -> np.ndarray:
    """Values 0-1 (h, w) as colours from blue over green and yellow to red: fp32 (h, w, 3), 0-255."""
    centres = np.array([0.75, 0.5, 0.25], np.float32)
    return np.clip(1.5 - np.abs(4 * (grey[..., None] - centres)), 0, 1) * np.float32(255)


def overlaid(photo: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """A photo, uint8 (3, h, w), under its map, 0-1 of any size; uint8 (3, h, w).

    The more a place matters, the more of the colour and the less of the photo is seen.
    """
    small = Image.fromarray(np.rint(drawn * 255).astype(np.uint8))
    laid = small.resize((photo.shape[2], photo.shape[1]), Image.Resampling.BILINEAR)
    grey = np.asarray(laid, np.float32) / 255
    hidden = _STRENGTH * grey[..., None]
    mixed = photo.transpose(1, 2, 0) * (1 - hidden) + coloured(grey) * hidden
    return np.rint(mixed).astype(np.uint8).transpose(2, 0, 1)


def _fitting(
    asked: Asked, rows: Sequence[Row], mapped: set[int], budget: int, bar: RunProgress
) -> tuple[list[Picture], int]:
    """The pictures of as many rows as fit, and the bytes that are left."""
    kept: list[Picture] = []
    for row, photo in _photos(asked.photos, rows):
        overlay = None
        if row.number in mapped:
            overlay = _uri(overlaid(photo, _map(asked, row.number)))
            bar.advance(0)
        picture = Picture(row, _uri(photo), overlay)
        if picture.size > budget:
            break
        budget -= picture.size
        kept.append(picture)
    return kept, budget


def _photos(photos: PhotoSet, rows: Sequence[Row]) -> Iterator[tuple[Row, np.ndarray]]:
    """Rows with their photos, larger than the network sees them; a few are read ahead."""
    large = PhotoSet(photos.photos, SIDE, photos.source)
    with decoding(photos) as threads:
        for first in range(0, len(rows), BATCH):
            some = rows[first : first + BATCH]
            yield from zip(some, threads.map(large.image, [r.number for r in some]), strict=True)


def _map(asked: Asked, number: int) -> np.ndarray:
    """The map of a photo: alone, or with its batch where that decides its score."""
    network = asked.network
    assert isinstance(network, DeepDisaster)
    assert asked.drawing is not None
    first = number - number % BATCH if network.batch_statistics else number
    last = min(first + BATCH, len(asked.photos)) if network.batch_statistics else number + 1
    squares = np.stack([asked.photos.image(other) for other in range(first, last)])
    return METHODS[asked.drawing](network, ready(squares, asked.card, asked.device))[number - first]


def _uri(pixels: np.ndarray) -> str:
    """uint8 (3, h, w) as a JPEG in a data URI."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.save(buffer, "jpeg", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
