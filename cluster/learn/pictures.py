"""Squares as a backbone takes them: kept chips, and squares of scenes that nobody tagged."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...models.photos.decode import squared
from ...scenes.errors import Refused
from ..catalog.files import Files
from ..catalog.pixels import PhotoPixels, RasterPixels, open_pixels
from ..catalog.tables import Scene


@dataclass(eq=False)
class ChipPictures:
    """Kept chips by the names of their files; the scene itself is not read. See `Pictures`."""

    files: Files
    names: tuple[str, ...]
    side: int

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> np.ndarray:
        """A chip, resampled where it has another side; uint8 (3, side, side). Refused if it is gone."""
        content = self.files.read(self.names[index])
        try:
            with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
                return squared(image.convert("RGB"), self.side)
        except (OSError, ValueError, SyntaxError) as error:
            raise Refused(
                f"The chip {self.files.path(self.names[index])} cannot be read ({error}). "
                "`aftermap catalog verify` tells what else is wrong."
            ) from error

    def digest(self, index: int) -> str:
        """The SHA-256 of its file."""
        return self.names[index][:64]


@dataclass(frozen=True)
class Square:
    """A square of a scene, px of the scene."""

    scene: int
    row: int
    col: int
    side: int


@dataclass(eq=False)
class SquarePictures:
    """Squares of scenes, read where these lie. See `Pictures`."""

    files: Files
    scenes: Mapping[int, Scene]
    rasters: Mapping[int, RasterPixels]
    """Of the scenes that are rasters, opened; photos are decoded when they are looked at."""
    squares: Sequence[Square]
    side: int

    def __len__(self) -> int:
        return len(self.squares)

    def image(self, index: int) -> np.ndarray:
        """A square, resampled where it has another side; uint8 (3, side, side)."""
        square = self.squares[index]
        pixels = self.rasters.get(square.scene) or open_pixels(
            self.files, self.scenes[square.scene]
        )
        return pixels_of(pixels, square, self.side)

    def digest(self, index: int) -> str:
        """Of the scene and the place in it: the same only for the same pixels."""
        square = self.squares[index]
        place = (self.scenes[square.scene].digest, square.row, square.col, square.side)
        return hashlib.sha256(repr(place).encode()).hexdigest()


def pixels_of(pixels: RasterPixels | PhotoPixels, square: Square, side: int) -> np.ndarray:
    """The pixels of a square, resampled as those of chips are: uint8 (3, side, side)."""
    post, _ = pixels.square(square.row, square.col, square.side)
    return squared(Image.fromarray(np.ascontiguousarray(post.transpose(1, 2, 0))), side)
