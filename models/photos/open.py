"""The door to photos: a folder of any layout that is known, every photo of it decoded once."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from ...scenes.errors import Refused, UsageError
from ..chips.open import READERS, open_chips
from .decode import is_photo
from .lists import SUFFIXES, Listed, read_lists
from .names import told_by
from .photoset import Photo, PhotoSet, Unreadable

SIDE = 299
"""Of the images that Inception takes, px."""

_THREADS = 4
"""That decode at the same time: more would hold more large photos in memory."""

_NUMBER = re.compile(r"_\d+$")
"""At the end of chips' names, behind the name of an event or a sheet."""


def open_photos(root: str | os.PathLike[str], side: int = SIDE) -> PhotoSet:
    """The photos of a folder, sorted by path, as squares of `side` px.

    Folders within may be classes (damage/ and no_damage/, or "0.nodamage" and "1.damage", damaged/ and
    undamaged/, …), parts (train/, val/, test/) and towns or events, one in another in any order; see
    `names.told_by`. Files named as in DAD say themselves what they show, and its lists
    (`<event>.train`, `.dev`, `.test`) which part they belong to. Of chips (see `open_chips`) the image
    after the event is taken, and what their places or masks say. Photos that cannot be read are left
    out, and told in `unreadable`.

    Raises UsageError for a side below 1. Raises Refused where there is no folder, or no photo in it
    that can be read; for folders and lists that contradict each other; and for unsound chips.
    """
    folder = Path(root)
    if side < 1:
        raise UsageError(f"Photos cannot have a side of {side} px; give 1 or more.")
    if not folder.is_dir():
        raise Refused(f"There is no folder {folder}. Change --data.")
    photos = _of_chips(folder)
    missing: list[Unreadable] = []
    if photos is None:
        photos, missing = _of_files(folder)
    found = PhotoSet(photos, side, str(folder))
    reasons = _examined(found)
    kept = [photo for photo, reason in zip(photos, reasons, strict=True) if not reason]
    broken = [Unreadable(p.path, r) for p, r in zip(photos, reasons, strict=True) if r]
    if not kept:
        told = f" Of {len(broken)} files none can be: {broken[0].reason}" if broken else ""
        raise Refused(
            f"{folder} holds no photo (JPEG, PNG, TIFF or WebP) that can be read.{told} Change --data."
        )
    return PhotoSet(kept, side, str(folder), broken + missing)


def _of_chips(folder: Path) -> list[Photo] | None:
    """The images after the event of a folder of chips, or None if it is none."""
    if all(read(folder) is None for read, _ in READERS):
        return None
    chips = open_chips(folder, classes=1)
    photos = []
    for index, record in enumerate(chips.records):
        name = record.place.name
        town = _NUMBER.sub("", name.rpartition("/")[2])
        photos.append(
            Photo(
                folder / name,
                chips.damaged(index),
                town if town != name else "",
                record.place.split,
                record.posts[0].image,
            )
        )
    return photos


def _of_files(folder: Path) -> tuple[list[Photo], list[Unreadable]]:
    """The photos in and below a folder, and what its lists name but is not there."""
    paths = sorted(_walked(folder), key=lambda path: path.relative_to(folder).parts)
    listed = read_lists(path for path in paths if path.suffix in SUFFIXES)
    photos = [_photo(folder, path, listed) for path in paths if is_photo(path)]
    there = {photo.path.name for photo in photos}
    missing = [
        Unreadable(folder / name, f"{entry.where}, names it, but there is no such file")
        for name, entry in listed.items()
        if name not in there
    ]
    return photos, missing


def _walked(folder: Path) -> Iterator[Path]:
    for outer, inner, files in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".")]
        yield from (Path(outer) / name for name in files)


def _photo(folder: Path, path: Path, listed: dict[str, Listed]) -> Photo:
    told = told_by(path.relative_to(folder))
    entry = listed.get(path.name)
    photo = Photo(path, told.damaged, told.town, told.split)
    if entry is None:
        return photo
    if told.damaged not in (None, entry.damaged):
        raise Refused(
            f"{path} is {'' if told.damaged else 'un'}damaged by its name or folder, but not by "
            f"{entry.where}. Mend the list, or change --data."
        )
    return replace(photo, damaged=entry.damaged, split=told.split or entry.split)


def _examined(photos: PhotoSet) -> Sequence[str]:
    """Why each photo cannot be read; empty where it can."""

    def reason(index: int) -> str:
        try:
            photos.image(index)
        except Refused as error:
            return str(error)
        return ""

    # Chips are read one by one: each silences warnings, and where threads do so, it is for all of them.
    count = _THREADS if all(photo.chip is None for photo in photos.photos) else 1
    with warnings.catch_warnings(), ThreadPoolExecutor(count) as threads:
        warnings.simplefilter("ignore")
        return list(threads.map(reason, range(len(photos))))
