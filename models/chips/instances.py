"""The annotated instances of one image in the COCO format: polygons and run lengths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from .polygons import blank, burn


@dataclass(frozen=True, eq=False)
class Instances:
    """What is annotated of one image."""

    size: tuple[int, int]
    """Height and width, px."""
    polygons: Mapping[int, list[shapely.Geometry]]
    """Outlines by damage code; x right and y down from the image's corner, px."""
    runs: Mapping[int, list[np.ndarray]]
    """Run lengths by damage code: pixels outside and inside in turn, column after column."""

    @property
    def codes(self) -> frozenset[int]:
        """The damage codes of the annotations."""
        return frozenset(self.polygons) | frozenset(self.runs)


@dataclass(frozen=True, eq=False)
class CocoMask:
    """The damage codes of an image's instances, drawn when they are read."""

    source: str
    """File and image, for messages."""
    instances: Instances

    def read(self, bands: int) -> np.ndarray:
        """See Picture: one band; background is 0, and where instances overlap the higher code wins."""
        mask = blank(self.instances.size, self.source)
        for code in sorted(self.instances.codes):
            burn(mask, self.instances.polygons.get(code, ()), code)
            for run in self.instances.runs.get(code, ()):
                mask[_unrolled(run, mask.shape)] = code
        return mask[None]

    def __str__(self) -> str:
        return self.source


def read_instances(
    annotations: Iterable[Mapping[str, Any]], codes: Mapping[Any, int], size: tuple[int, int]
) -> Instances:
    """The annotations of an image of `size` (h, w); `codes` are the damage codes of categories.

    Raises ValueError, TypeError or KeyError for what is no segmentation.
    """
    polygons: dict[int, list[shapely.Geometry]] = defaultdict(list)
    runs: dict[int, list[np.ndarray]] = defaultdict(list)
    for annotation in annotations:
        shape, code = annotation["segmentation"], codes[annotation["category_id"]]
        if isinstance(shape, Mapping):
            runs[code].append(_run_lengths(shape, size))
        elif isinstance(shape, list):
            # Fewer than three corners hold no pixel.
            polygons[code] += [_polygon(ring) for ring in shape if len(ring) >= 6]
        else:
            raise TypeError(f"{str(shape)[:40]!r} is no segmentation")
    return Instances(size, dict(polygons), dict(runs))


def _polygon(ring: list[float]) -> shapely.Polygon:
    corners = np.array(ring, float).reshape(-1, 2)
    if not np.isfinite(corners).all():
        raise ValueError("a polygon has corners that are no numbers")
    return shapely.Polygon(corners)


def _run_lengths(shape: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    """The run lengths of a segmentation, which COCO writes as numbers or packed into a text."""
    counts = shape["counts"]
    runs = np.array(_unpacked(counts) if isinstance(counts, str) else counts, np.int64)
    pixels = size[0] * size[1]
    if tuple(shape["size"]) != size or runs.ndim != 1 or ((runs < 0) | (runs > pixels)).any():
        raise ValueError(f"run lengths of {shape['size']} px do not fit an image of {size} px")
    if runs.sum() != pixels:
        raise ValueError(f"run lengths count {runs.sum()} px of an image of {size} px")
    return runs


def _unpacked(text: str) -> list[int]:
    """Run lengths from COCO's text: six bits a character, of which five count, the lowest first.

    The sixth says that the number goes on; the highest bit that counts is its sign. From the fourth
    number on each is the difference to the last but one.
    """
    numbers: list[int] = []
    number = bits = 0
    for character in text:
        six = ord(character) - 48
        if not 0 <= six < 64:
            raise ValueError(f"{character!r} does not belong into packed run lengths")
        number |= (six & 31) << bits
        bits += 5
        if not six & 32:
            number -= (six & 16) << (bits - 4)
            numbers.append(number + (numbers[-2] if len(numbers) > 2 else 0))
            number = bits = 0
    return numbers


def _unrolled(runs: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Run lengths as pixels, bool (h, w)."""
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(shape[::-1]).T
