"""The report's pictures: reduced until they fit, one image in memory at a time."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from itertools import product

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image

from ..scenes.grid import overview_grid
from ..scenes.legend import LEGEND
from ..scenes.pair import Pair
from ..scenes.remote import Unreachable
from ..scenes.scene import ReadError, Scene
from .heap import trim

SIDE = 2048
"""Longest side of the map's photographs, px."""

BUDGET = 9 << 19
"""Largest size of one photograph, bytes before base64."""

_PRINTED = 1000
_SMALLER = (SIDE, 1536, 1024, 640, 320)
_QUALITIES = (82, 72)
_STRIPE = 6
_BLOCK = 256


@dataclass(frozen=True)
class Picture:
    """One picture as it lies in the page."""

    name: str
    """before, after or damage."""
    caption: str
    """What is written under it."""
    uri: str
    """The file itself as a data URI."""
    width: int
    """px."""
    height: int
    """px."""


def take_pictures(
    pair: Pair, region: tuple[int, int, int, int], codes: np.ndarray, side: int = SIDE
) -> list[Picture]:
    """The before and after images of a region and its damage map, at most `side` px long.

    `codes` are the damage codes over the region, uint8 of any shape. Without a before image there
    are two pictures.
    """
    found = []
    if pair.pre is not None:
        before = _seen(pair.pre, _before_grid(pair), region, side, pair.colour)
        found.append(photograph("before", "Before", before))
        del before
        trim()
    after = _seen(pair.post, pair.grid, region, side)
    found.append(photograph("after", "After", after))
    small = np.asarray(_reduced(after, _PRINTED))
    del after
    trim()
    # Without chroma subsampling, or the classes' colours would run into each other.
    drawn = Image.fromarray(damage_picture(small, codes))
    found.append(_embedded("damage", "Damage map", drawn, _jpeg(drawn, 85, subsampling=0)))
    return found


def photograph(name: str, caption: str, image: Image.Image, budget: int = BUDGET) -> Picture:
    """An RGB image as JPEG of at most `budget` bytes: first the quality is lowered, then the size.

    Should nothing fit, the smallest is taken.
    """
    for side in _SMALLER:
        image = _reduced(image, side)
        for quality in _QUALITIES:
            content = _jpeg(image, quality)
            if len(content) <= budget:
                return _embedded(name, caption, image, content)
    return _embedded(name, caption, image, content)


def damage_picture(after: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The damage codes in the legend's colours over a grey and pale after image.

    `after` is uint8 RGB (h, w, 3); `codes` is uint8 of any shape, laid over the whole picture, the
    nearest code per pixel. What was not analysed is striped. Returns uint8 RGB (h, w, 3).
    """
    height, width = after.shape[:2]
    rows = np.arange(height) * codes.shape[0] // height
    cols = np.arange(width) * codes.shape[1] // width
    laid = codes[rows[:, None], cols]
    grey = after.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    picture = np.repeat((110 + grey * 0.5)[:, :, None], 3, axis=2)
    for row in LEGEND:
        if not row.code:
            continue
        here = laid == row.code
        if row.hatched:
            stripe = np.add.outer(np.arange(height), np.arange(width)) // _STRIPE % 2 == 0
            picture[here] = 225
            here = here & stripe
        picture[here] = row.rgb
    return np.clip(picture, 0, 255).astype(np.uint8)


def code_picture(codes: np.ndarray) -> str:
    """Damage codes as a PNG in the legend's colours, clear where there is none; a data URI.

    What was not analysed is clear too: the map hatches its outlines.
    """
    image = Image.fromarray(codes, "P")
    colours = np.zeros((256, 3), np.uint8)
    clear = bytearray(256)
    for row in LEGEND:
        colours[row.code] = row.rgb
        clear[row.code] = 0 if row.hatched else row.opacity
    image.putpalette(colours.ravel().tolist())
    buffer = io.BytesIO()
    image.save(buffer, "png", optimize=True, transparency=bytes(clear))
    return _uri("png", buffer.getvalue())


def _before_grid(pair: Pair) -> GeoBox:
    """The analysis grid, moved by the shift, on which the before image lies on the after image."""
    rows, cols = pair.shift
    grid = pair.grid
    return GeoBox(grid.shape, grid.affine * Affine.translation(-cols, -rows), grid.crs)


def _seen(
    scene: Scene,
    grid: GeoBox,
    region: tuple[int, int, int, int],
    side: int,
    colour: tuple[tuple[float, float], ...] = (),
) -> Image.Image:
    """A region of a scene at most `side` px long, its colours matched band by band.

    Read block by block, so that the picture is the only thing of its size in memory (an overview
    would read ten times as much at once). What cannot be read stays black.
    """
    row0, col0, row1, col1 = region
    coarse = overview_grid(grid[row0:row1, col0:col1], side)
    height, width = coarse.shape
    picture = Image.new("RGB", (width, height))
    for top, left in product(range(0, height, _BLOCK), range(0, width, _BLOCK)):
        bottom, right = min(top + _BLOCK, height), min(left + _BLOCK, width)
        try:
            values, valid = scene.read(coarse, top, left, bottom, right)
        except (ReadError, Unreachable):
            continue
        bands = values[:3] if len(values) >= 3 else values[[0, 0, 0]]
        block = bands.transpose(1, 2, 0).astype(np.uint8)
        for band, (gain, offset) in enumerate(colour[:3]):
            levels = np.clip(np.rint(np.arange(256) * gain + offset), 0, 255).astype(np.uint8)
            block[..., band] = np.where(valid, levels[block[..., band]], np.uint8(0))
        picture.paste(Image.fromarray(np.ascontiguousarray(block)), (left, top))
    return picture


def _reduced(image: Image.Image, side: int) -> Image.Image:
    if max(image.size) <= side:
        return image
    factor = side / max(image.size)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, Image.Resampling.LANCZOS)


def _jpeg(image: Image.Image, quality: int, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=quality, **options)
    return buffer.getvalue()


def _embedded(name: str, caption: str, image: Image.Image, content: bytes) -> Picture:
    return Picture(name, caption, _uri("jpeg", content), image.width, image.height)


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
