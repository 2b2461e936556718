"""Squares that nobody tagged, from which those are chosen that people should look at next."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from ...kernels.scan import LEAST_SEEN
from ...scenes.errors import AftermapError
from ..catalog.catalog import Catalog
from ..catalog.pixels import RasterPixels, open_pixels
from ..catalog.tables import Chip, Scene
from ..catalog.tagging import LEAST_SIDE, MOST_SIDE
from .config import MOST, LearnConfig
from .pictures import Square, SquarePictures

MOST_PHOTOS = MOST // 2
"""Of them are looked at; rasters share the rest."""

_OVERVIEW = 1024
"""Side of the picture in which it is seen where a raster has data, px."""

_COMMON = 0.5
"""A square of which more than this share lies in a tagged one has been looked at."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Squares with what is needed to see them, and the scenes that have none."""

    pictures: SquarePictures
    left_out: tuple[str, ...]

    @property
    def squares(self) -> Sequence[Square]:
        """Of photos, then of rasters, small ones first."""
        return self.pictures.squares


def candidates_of(
    catalog: Catalog,
    config: LearnConfig,
    sides: tuple[int, int],
    tagged: Sequence[Chip],
    gsd: tuple[float, float] | None = None,
) -> Candidates:
    """Squares of every raster, and every photo, of which nobody has tagged much.

    `sides` are theirs in a raster, px, and the network's, to which they are resampled.
    Of a raster at most `config.candidates` of a grid, the same each time as long as nobody tags them;
    of a photo its middle. There are at most `MOST` in all and `MOST_PHOTOS` of photos; rasters share
    what is left evenly. Images before an event, services that are not fetched, rasters whose pixels
    are outside `gsd`, m, and what cannot be read or is too much are passed over, all but the first in
    words.
    """
    with catalog.reading() as session:
        scenes = _scenes(session)
    chips: dict[int, list[Chip]] = defaultdict(list)
    for chip in tagged:
        chips[chip.scene_id].append(chip)
    by_number = {scene.id: scene for scene in scenes}
    photos = [scene for scene in scenes if scene.kind == "photo" and scene.id not in chips]
    squares, passed = _of_photos(photos)
    rasters, unusable = _opened(catalog, scenes, gsd)
    ground = {by_number[number]: pixels for number, pixels in rasters.items()}
    shared, left_out = _of_rasters(ground, config.candidates, MOST - len(squares), sides[0], chips)
    pictures = SquarePictures(catalog.files, by_number, rasters, squares + shared, sides[1])
    return Candidates(pictures, (*passed, *unusable, *left_out))


def _scenes(session: Session) -> list[Scene]:
    """All but those that show how it was before."""
    before = select(Scene.before_id).where(Scene.before_id.is_not(None))
    return list(session.scalars(select(Scene).where(Scene.id.not_in(before)).order_by(Scene.id)))


def _of_photos(photos: Sequence[Scene]) -> tuple[list[Square], list[str]]:
    """The middle of each of some photos, and in words that there are more."""
    # By digest is by chance, and each time the same: those tagged make room for others.
    by_chance = sorted(photos, key=lambda scene: scene.digest)
    found = [square for scene in by_chance for square in _middle(scene)]
    return found[:MOST_PHOTOS], _passed("photos", len(found), MOST_PHOTOS)


def _of_rasters(
    rasters: Mapping[Scene, RasterPixels],
    each: int,
    most: int,
    side: int,
    chips: Mapping[int, Sequence[Chip]],
) -> tuple[list[Square], list[str]]:
    """At most `each` squares of a raster and `most` of all, and which rasters have none, in words.

    What a small raster does not need of its share is the others'.
    """
    by_size = sorted(rasters, key=lambda scene: (math.prod(rasters[scene].shape), scene.digest))
    squares: list[Square] = []
    left_out = _passed("rasters", len(by_size), most)
    turn = by_size[-most:]
    for number, scene in enumerate(turn):
        share = min(each, (most - len(squares)) // (len(turn) - number))
        try:
            found = _of_raster(rasters[scene], scene, side, chips.get(scene.id, ()))
            squares += islice(found, share)
        except AftermapError as error:
            left_out.append(str(error))
    return squares, left_out


def _passed(what: str, count: int, most: int) -> list[str]:
    if count <= most:
        return []
    return [f"{count - most} of {count} {what}: a learning looks at {most} of them at most"]


def _opened(
    catalog: Catalog, scenes: Sequence[Scene], gsd: tuple[float, float] | None
) -> tuple[dict[int, RasterPixels], list[str]]:
    """Rasters by number, and which cannot be used, in words."""
    rasters, left_out = {}, []
    for scene in scenes:
        if scene.kind == "photo":
            continue
        try:
            rasters[scene.id] = _usable(catalog, scene, gsd)
        except AftermapError as error:
            left_out.append(str(error))
    return rasters, left_out


def _usable(catalog: Catalog, scene: Scene, gsd: tuple[float, float] | None) -> RasterPixels:
    if scene.kind == "service":
        raise AftermapError(f"{scene.name} has not been fetched: nobody has looked at it yet")
    if gsd is not None and scene.gsd_m is not None and not gsd[0] <= scene.gsd_m <= gsd[1]:
        raise AftermapError(
            f"{scene.name} has pixels of {scene.gsd_m:.3g} m; what was tagged has {gsd[0]:.3g} to "
            f"{gsd[1]:.3g} m"
        )
    pixels = open_pixels(catalog.files, scene)
    assert isinstance(pixels, RasterPixels)
    return pixels


def _middle(scene: Scene) -> list[Square]:
    """The middle square of a photo, if it is large enough to be tagged."""
    assert scene.height is not None
    assert scene.width is not None
    side = min(scene.height, scene.width, MOST_SIDE)
    if side < LEAST_SIDE:
        return []
    return [Square(scene.id, (scene.height - side) // 2, (scene.width - side) // 2, side)]


def _of_raster(
    pixels: RasterPixels, scene: Scene, side: int, chips: Sequence[Chip]
) -> Iterator[Square]:
    """Squares of a grid in an order by chance that is the scene's own: those tagged make room for others."""
    height, width = pixels.shape
    down, across = height // side, width // side
    if not down or not across:
        return
    rng = np.random.default_rng(int(hashlib.sha256(scene.digest.encode()).hexdigest()[:16], 16))
    seen = pixels.pair.overview(_OVERVIEW).valid
    boxes = np.array([(c.row, c.col, c.row + c.side, c.col + c.side) for c in chips]).reshape(-1, 4)
    for number in rng.permutation(down * across):
        row, col = (int(n) * side for n in divmod(number, across))
        scaled = [
            slice(int(first * n / length), max(-(-(first + side) * n // length), 1))
            for first, n, length in ((row, seen.shape[0], height), (col, seen.shape[1], width))
        ]
        if seen[tuple(scaled)].mean() >= LEAST_SEEN and not _known(boxes, row, col, side):
            yield Square(scene.id, row, col, side)


def _known(boxes: np.ndarray, row: int, col: int, side: int) -> bool:
    """Whether much of a square lies in one of some boxes (row, col, row, col)."""
    tall = np.minimum(boxes[:, 2], row + side) - np.maximum(boxes[:, 0], row)
    wide = np.minimum(boxes[:, 3], col + side) - np.maximum(boxes[:, 1], col)
    return bool((np.clip(tall, 0, None) * np.clip(wide, 0, None) > _COMMON * side**2).any())
