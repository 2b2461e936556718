"""One tile of xBD, looked at: whether it can be used, and what is wrong with it all the same."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from ...scenes.errors import Refused
from ...scenes.xbd import Problem, XbdLabel, outside, read_xbd, unmatched
from .picture import DRIVERS, FilePicture
from .polygons import MOST_PIXELS
from .xbd_layout import When, XbdTile, labelled_by

CODES = frozenset({0, 1, 2, 3, 4, 255})
"""What a target may hold: damage codes, and 255 for what is not to count."""

_WORDS: dict[When, str] = {"pre": "before", "post": "after"}
_ENDINGS = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}
_TAIL = 1024
"""Bytes at the end of a whole file in which its format's last mark is."""


class Unusable(Exception):
    """A tile that is left out, by a reason in the same words for all of a kind."""

    def __init__(self, reason: str, file: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.reason, self.file = reason, file


@dataclass(frozen=True)
class Examined:
    """A tile that can be used."""

    tile: XbdTile
    size: tuple[int, int]
    """Height and width of its images, px."""
    after: XbdLabel | None = None
    """The label after the event, of the image's size."""
    before: XbdLabel | None = None
    """That before the event; only where it was asked for."""
    target: Path | None = None
    """The target after the event, where there is no label."""
    problems: tuple[tuple[Path, Problem], ...] = ()
    """What is wrong with its labels, by file."""


def examine(tile: XbdTile, thoroughly: bool = False) -> Examined:
    """Look at a tile's files; raises Unusable where it has to be left out.

    Images are looked at from outside: whether they open, are of one size and are not cut short.
    Thoroughly, they are decoded, and the label before the event is compared.
    """
    size = _images_of(tile, thoroughly)
    label, target = tile.label("post"), tile.target("post")
    if label.is_file():
        after = _label(label, size)
        before, problems = _before(tile, after) if thoroughly else (None, [])
        found = [(label, problem) for problem in (*after.problems, *outside(after, size))]
        return Examined(tile, size, after, before, problems=(*found, *problems))
    if target.is_file():
        _check_target(target, size)
        return Examined(tile, size, target=target)
    if held := labelled_by(tile.outer):
        folders = " or ".join(f"{name}/" for name in held)
        raise Unusable(f"has no file after the event in {folders}", tile.images["post"].name)
    return Examined(tile, size)


def read_target(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read a target, uint8 (h, w); raises Unusable for one of another size or with other values."""
    _check_target(path, size)
    try:
        codes = FilePicture(path).read(1)[0]
    except Refused:
        raise Unusable("has a target that cannot be read", path.name) from None
    if not CODES.issuperset(np.unique(codes).tolist()):
        raise Unusable("has a target with other values than 0-4 and 255", path.name)
    return codes


def _check_target(path: Path, size: tuple[int, int]) -> None:
    header = _header(path)
    if header is None:
        raise Unusable("has a target that cannot be read", path.name)
    if header[0] != size:
        raise Unusable("has a target of another size than its images", path.name)


def _images_of(tile: XbdTile, thoroughly: bool) -> tuple[int, int]:
    """Height and width of a tile's two images, which are the same."""
    for when, word in _WORDS.items():
        if when not in tile.images:
            (other,) = tile.images.values()
            raise Unusable(f"has no image {word} the event", other.name)
    before, after = (_size(tile.images[when], word, thoroughly) for when, word in _WORDS.items())
    if before != after:
        raise Unusable("has images of different sizes before and after", tile.images["post"].name)
    return after


def _size(path: Path, word: str, thoroughly: bool) -> tuple[int, int]:
    """Height and width of an image with three bands of uint8, px."""
    header = _header(path)
    if header is None:
        raise Unusable(f"has an image {word} the event that cannot be read", path.name)
    size, bands, kind = header
    if bands < 3 or kind != "uint8":
        raise Unusable(f"has an image {word} the event that is not RGB of 8 bits", path.name)
    if size[0] * size[1] > MOST_PIXELS:
        raise Unusable(f"has an image of more than {MOST_PIXELS >> 20} Mpx", path.name)
    if not (_ends(path) and (not thoroughly or _decodes(path))):
        raise Unusable(f"has an image {word} the event that is cut short or damaged", path.name)
    return size


def _header(path: Path) -> tuple[tuple[int, int], int, str] | None:
    """Height and width, bands and type of an image; None where it cannot be opened."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver=DRIVERS[path.suffix.lower()]) as source:
                return (source.height, source.width), source.count, source.dtypes[0]
    except (RasterioIOError, OSError):
        return None


def _ends(path: Path) -> bool:
    """Whether a file has the mark that its format ends with; of TIFFs nothing is known."""
    with path.open("rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - _TAIL, 0))
        return _ENDINGS.get(DRIVERS[path.suffix.lower()], b"") in file.read()


def _decodes(path: Path) -> bool:
    try:
        FilePicture(path).read(3)
    except Refused:
        return False
    return True


def _label(path: Path, size: tuple[int, int]) -> XbdLabel:
    """The label after the event."""
    try:
        label = read_xbd(path)
    except Refused:
        raise Unusable("has a label after the event that cannot be read", path.name) from None
    if label.said_size not in (None, size):
        raise Unusable("has a label of an image of another size", path.name)
    return label.sized(size)


def _before(tile: XbdTile, after: XbdLabel) -> tuple[XbdLabel | None, list[tuple[Path, Problem]]]:
    """The label before the event, and what is wrong with it and between the two."""
    path = tile.label("pre")
    instead = "; outlines are those of the label after"
    if not path.is_file():
        return None, [(path, Problem("file", f"is not there{instead}"))]
    try:
        label = read_xbd(path).sized(after.size)
    except Refused:
        return None, [(path, Problem("file", f"cannot be read{instead}"))]
    problems = [*label.problems, *outside(label, after.size), *unmatched(label, after)]
    return label, [(path, problem) for problem in problems]
