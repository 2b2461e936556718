"""Pixels of a catalogued scene, read where it lies when somebody looks at them."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from ...models.photos.decode import open_photo
from ...scenes.errors import Refused
from ...scenes.handles import stamp_of
from ...scenes.pair import Pair, make_pair
from ..fingerprint import fingerprint_file
from .files import Files
from .scene_grid import pixels_lonlat
from .tables import Scene
from .turns import Turns

_DECODING = Turns()
"""Of photos: decoding one takes many times its size in memory."""


@dataclass(frozen=True, eq=False)
class RasterPixels:
    """A raster, and the image before on the same grid where there is one."""

    pair: Pair

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        height, width = self.pair.grid.shape
        return height, width

    def square(self, row: int, col: int, side: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Pixels after and before, uint8 (3, side, side); nodata and what lies outside is black."""
        height, width = self.shape
        top, left = max(row, 0), max(col, 0)
        bottom, right = min(row + side, height), min(col + side, width)
        post = np.zeros((3, side, side), np.uint8)
        pre = None if self.pair.pre is None else post.copy()
        if top < bottom and left < right:
            found = self.pair.read(top, left, bottom, right)
            place = np.s_[:, top - row : bottom - row, left - col : right - col]
            post[place] = coloured(found.post)
            if pre is not None:
                pre[place] = coloured(found.pre)
        return post, pre

    def lonlat(self, row: float, col: float) -> tuple[float, float] | None:
        """Where a pixel lies, degrees."""
        lon, lat = pixels_lonlat(np.array([[col, row]], float), self.pair.grid)[0]
        return float(lon), float(lat)


@dataclass(frozen=True, eq=False)
class PhotoPixels:
    """A photo, upright."""

    image: np.ndarray
    """uint8 (3, h, w)."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.image.shape[1], self.image.shape[2]

    def square(self, row: int, col: int, side: int) -> tuple[np.ndarray, np.ndarray | None]:
        """As of a raster; a photo has nothing before."""
        height, width = self.shape
        out = np.zeros((3, side, side), np.uint8)
        top, left = max(row, 0), max(col, 0)
        bottom, right = min(row + side, height), min(col + side, width)
        if top < bottom and left < right:
            place = np.s_[:, top - row : bottom - row, left - col : right - col]
            out[place] = self.image[:, top:bottom, left:right]
        return out, None

    def lonlat(self, row: float, col: float) -> tuple[float, float] | None:
        """Nobody knows where a photo's pixels lie."""
        return None


def open_pixels(
    files: Files, scene: Scene, before: Scene | None = None
) -> RasterPixels | PhotoPixels:
    """The pixels of a scene, and of a raster before it on the same grid.

    Raises Refused where a file is gone, is another image now or cannot be read, and for an image that
    was not fetched yet; one before that was not is left out.
    """
    if scene.kind == "photo":
        assert scene.content is not None
        path = str(files.path(scene.content))
        try:
            return PhotoPixels(_photo(path))
        except Refused as error:  # its file's name says nothing to anybody
            raise Refused(str(error).replace(path, scene.name)) from error.__cause__
    if scene.kind == "service":
        raise Refused(f"{scene.name} was not fetched yet. Look at it in the app once.")
    earlier = None if before is None or before.kind != "raster" else _Source.of(files, before)
    pair = _pair(earlier, _Source.of(files, scene), json.dumps(scene.options, sort_keys=True))
    if pair.post.dtype != np.uint8:
        raise Refused(
            f"{scene.name} holds {pair.post.dtype} values, of which nobody said which are black and white. "
            "Add it again with --scale LOW HIGH."
        )
    return RasterPixels(pair)


def place_of(files: Files, scene: Scene) -> Path:
    """The file of a raster or photo."""
    return files.path(scene.content) if scene.content else Path(str(scene.path))


def as_png(pixels: np.ndarray) -> bytes:
    """Pixels (3, h, w) as PNG; the same pixels are the same bytes."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(out, "PNG")
    return out.getvalue()


@dataclass(frozen=True)
class _Source:
    """A raster's file that is the one that was catalogued: what lies there now may be anything."""

    path: Path
    stamp: tuple[int, ...]
    """Another one once the file has changed."""

    @classmethod
    def of(cls, files: Files, scene: Scene) -> _Source:
        path = place_of(files, scene).resolve()
        if not path.is_file():
            raise Refused(
                f"{scene.name} is not where it was. Add it again with `aftermap catalog add`."
            )
        stamp = stamp_of(path)
        if scene.content is None and _digest(path, stamp) != scene.digest:
            raise Refused(
                f"{scene.name} is another image now. Add it again with `aftermap catalog add`."
            )
        return cls(path, stamp)


@lru_cache(maxsize=1024)
def _digest(path: Path, stamp: tuple[int, ...]) -> object:
    return fingerprint_file(path)["sampled_sha256"]


@lru_cache(maxsize=32)
def _pair(before: _Source | None, after: _Source, options: str) -> Pair:
    """A pair; to open it takes longer than to read a square."""
    return make_pair(None if before is None else before.path, after.path, **json.loads(options))


def _photo(path: str) -> np.ndarray:
    with _DECODING.of(path):
        return _decoded(path)


def forget_photos() -> None:
    """Free the photos that are kept decoded."""
    _decoded.cache_clear()


@lru_cache(maxsize=2)
def _decoded(path: str) -> np.ndarray:
    # A file of the catalog never changes, so that its path stands for its content.
    return np.ascontiguousarray(np.asarray(open_photo(Path(path))).transpose(2, 0, 1))


def coloured(bands: np.ndarray) -> np.ndarray:
    """The first three bands; of fewer the first, three times."""
    return bands[:3] if len(bands) >= 3 else np.repeat(bands[:1], 3, axis=0)
