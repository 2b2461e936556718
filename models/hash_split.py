"""A division of photos by the digests of their names: the same everywhere, and as photos are added."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from ..scenes.errors import UsageError
from .photos.photoset import PhotoSet

_LAST = 2**27 - 1
"""Highest number that a name can have; TensorFlow's retraining script allows so many images a class."""

VALIDATION, TEST = 20.0, 1.0
"""Percent; of the final model of paper 003, by its published code."""


def percent(name: str) -> float:
    """Where a file's name lies among all names, 0-100, by its SHA-1."""
    digest = int.from_bytes(hashlib.sha1(name.encode(), usedforsecurity=False).digest(), "big")
    return digest % (_LAST + 1) * (100 / _LAST)


def hash_part(name: str, validation: float = VALIDATION, test: float = TEST) -> str:
    """The part that a file of a name belongs to: train, validation or test; shares in percent.

    Raises UsageError for shares that leave nothing.
    """
    if min(validation, test) < 0 or validation + test >= 100:
        raise UsageError(
            f"Shares of {validation} % for validation and {test} % for testing leave nothing to "
            f"train on."
        )
    place = percent(name)
    if place < validation:
        return "validation"
    return "test" if place < validation + test else "train"


def hash_split(photos: PhotoSet, validation: float = VALIDATION, test: float = TEST) -> PhotoSet:
    """The photos with a part each, by the names of their files alone; see `hash_part`.

    As in TensorFlow's retraining script, which paper 003 uses for its final model. Photos of one
    building may lie in different parts: see `town_split` and `near_duplicates`.
    """
    return photos.replaced(
        [replace(p, split=hash_part(p.path.name, validation, test)) for p in photos.photos]
    )
