"""Small photos of plain waves, undamaged, or broken by blocks of noise; and of clouds, of anything."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


class Textures:
    """Photos in memory, as `aftermap.models.adversarial_recipe.Images` wants them."""

    def __init__(self, pictures: np.ndarray, labels: list[bool | None]) -> None:
        self.pictures, self.labels = pictures, labels

    def __len__(self) -> int:
        return len(self.pictures)

    def image(self, index: int) -> np.ndarray:
        """uint8 (3, side, side)."""
        return self.pictures[index]

    def label(self, index: int) -> bool | None:
        """Whether it is broken."""
        return self.labels[index]


def waves(n: int, broken: int = 0, seed: int = 0, side: int = 16) -> Textures:
    """Waves, of which the first few are broken by three blocks of noise."""
    rng = np.random.default_rng(seed)
    across = np.arange(side)[None, :].repeat(side, axis=0)
    pictures = []
    for number in range(n):
        wave = 128 + 60 * np.sin(rng.uniform(0.3, 0.5) * across + rng.uniform(0, 2 * np.pi))
        picture = np.stack([wave, 0.9 * wave, 0.7 * wave]) + rng.normal(0, 4, (3, side, side))
        for row, col in rng.integers(0, side - 6, (3, 2)) if number < broken else ():
            picture[:, row : row + 6, col : col + 6] = rng.uniform(0, 255, (3, 6, 6))
        pictures.append(picture)
    return Textures(_bytes(pictures), [number < broken for number in range(n)])


def clouds(n: int, seed: int = 0, side: int = 16) -> Textures:
    """Noise of any smoothness, of which nobody knows what it shows."""
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(n):
        smooth = rng.uniform(0, 3)
        cloud = ndimage.gaussian_filter(rng.normal(size=(3, side, side)), (0, smooth, smooth))
        pictures.append(128 + 50 * cloud / cloud.std())
    return Textures(_bytes(pictures), [None] * n)


def _bytes(pictures: list[np.ndarray]) -> np.ndarray:
    return np.clip(np.stack(pictures), 0, 255).astype(np.uint8)
