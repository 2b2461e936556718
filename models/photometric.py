"""Changes of light, sharpness and noise as in paper 001, section III.E, on uint8 images (3, h, w).

Each change draws from the generator it is given, so that equal generators change before and after
alike. Strengths are those that the study's program was set to.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from skimage import exposure

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]

TILES = 8
"""Tiles a side, each of which CLAHE equalises by itself."""


def brightness_contrast(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Contrast by a factor of 0.8 to 1.2, brightness by up to a fifth of the full range."""
    contrast, brightness = 1 + rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2)
    return _bytes(image * np.float32(contrast) + np.float32(255 * brightness))


def gamma(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A power of 0.8 to 1.2 of the values as shares of the full range."""
    return exposure.adjust_gamma(image, rng.uniform(0.8, 1.2))


def gaussian_blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian kernel of 3, 5 or 7 px, of the width that goes with its size."""
    side = int(rng.choice([3, 5, 7]))
    sigma = 0.3 * ((side - 1) / 2 - 1) + 0.8
    radius = (0, side // 2, side // 2)
    x = image.astype(np.float32)  # bytes would be cut off after each axis
    return _bytes(ndimage.gaussian_filter(x, (0, sigma, sigma), radius=radius, mode="mirror"))


def clahe(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Contrast-limited adaptive equalisation of the brightness, with a limit of 1 to 4.

    Brightness is the largest of a pixel's three values; hue and saturation stay.
    """
    value = image.max(axis=0)
    gain = equalised(value, rng.uniform(1, 4)) / np.maximum(value, 1)
    return _bytes(image * gain)


def gaussian_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Independent noise of variance 10 to 50 on every value."""
    sigma = np.float32(np.sqrt(rng.uniform(10, 50)))
    return _bytes(image + sigma * rng.standard_normal(image.shape, dtype=np.float32))


def iso_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A sensor's noise: hues vary by 0.01 to 0.05 of a turn, lightness by Poisson counts.

    Both are weakened by an intensity of 0.1 to 0.5. The mean count follows how much the lightness
    of the image varies. Counts are added, so that dark pixels become lighter.
    """
    colour, intensity = rng.uniform(0.01, 0.05), rng.uniform(0.1, 0.5)
    hue, lightness, saturation = hls(image)
    shape = hue.shape
    counts = rng.poisson(float(lightness.std()) * intensity * 255, shape).astype(np.float32)
    turn = np.float32(colour * intensity) * rng.standard_normal(shape, dtype=np.float32)
    return rgb(hue + turn, lightness + counts / 255 * (1 - lightness), saturation)


GROUPS: tuple[tuple[Change, Change], ...] = (
    (brightness_contrast, gamma),
    (gaussian_blur, clahe),
    (gaussian_noise, iso_noise),
)
"""Of each group one change is made, with probability one half."""


def relight(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make one change of each group, or none; black pixels, which are nodata, stay black."""
    black = ~image.any(axis=0)
    changed = image.copy()
    for group in GROUPS:
        # All is drawn whether it is used or not, so that groups do not depend on each other.
        happens, which, seed = rng.random() < 0.5, rng.integers(len(group)), rng.integers(2**63)
        if happens:
            changed = group[which](changed, np.random.default_rng(seed))
    changed[:, black] = 0
    return changed


def equalised(value: np.ndarray, limit: float) -> np.ndarray:
    """Brightness (h, w), uint8, after CLAHE on `TILES` × `TILES` tiles; fp32, 0-255.

    No bin of a tile's histogram counts more than `limit` times the mean bin; what is above is
    spread over all bins. Between the centres of tiles their curves are mixed bilinearly. (That of
    scikit-image also stretches the whole image to the full range.)
    """
    height, width = value.shape
    tall, wide = (-(-side // TILES) for side in value.shape)
    padding = ((0, tall * TILES - height), (0, wide * TILES - width))
    padded = np.pad(value, padding, mode="symmetric")
    tile = np.add.outer(np.arange(TILES * tall) // tall * TILES, np.arange(TILES * wide) // wide)
    counts = np.bincount((tile * 256 + padded).ravel(), minlength=TILES**2 * 256)
    counts = counts.reshape(TILES**2, 256)
    area = tall * wide
    kept = np.minimum(counts, max(1.0, limit * area / 256))
    kept += (area - kept.sum(axis=1, keepdims=True)) / 256
    curves = (kept.cumsum(axis=1) * (255 / area)).astype(np.float32).ravel()
    found = np.zeros(value.shape, np.float32)
    for row, down in _between(height, tall):
        for col, right in _between(width, wide):
            of_tile = np.add.outer(row * TILES, col) * 256
            found += np.outer(down, right) * curves[of_tile + value]
    return np.minimum(found, 255)


def hls(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hue (turns), lightness and saturation (0-1) of an image, each fp32 (h, w)."""
    x = image.astype(np.float32) / 255
    high, low = x.max(axis=0), x.min(axis=0)
    lightness, chroma = (high + low) / 2, high - low
    some = np.where(chroma > 0, chroma, 1)
    red, green, blue = x
    sixths = np.where(
        high == red,
        (green - blue) / some,
        np.where(high == green, 2 + (blue - red) / some, 4 + (red - green) / some),
    )
    most = 1 - np.abs(2 * lightness - 1)
    return sixths / 6, lightness, chroma / np.where(most > 0, most, 1)


def rgb(hue: np.ndarray, lightness: np.ndarray, saturation: np.ndarray) -> np.ndarray:
    """The image, uint8 (3, h, w), of hue (turns), lightness and saturation (0-1)."""
    reach = saturation * np.minimum(lightness, 1 - lightness)
    out = np.empty((3, *hue.shape), np.uint8)
    for band, start in enumerate((0, 8, 4)):
        place = (start + 12 * hue) % 12
        wave = np.clip(np.minimum(place - 3, 9 - place), -1, 1)
        out[band] = _bytes(255 * (lightness - reach * wave))
    return out


def _between(length: int, side: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each pixel of an axis the tiles before and after it, with their weights, fp32."""
    place = (np.arange(length) + 0.5) / side - 0.5
    first = np.floor(place).astype(int)
    share = (place - first).astype(np.float32)
    return [
        (np.clip(first, 0, TILES - 1), 1 - share),
        (np.clip(first + 1, 0, TILES - 1), share),
    ]


def _bytes(values: np.ndarray) -> np.ndarray:
    """Floats rounded to bytes; works in place, for it is given results only."""
    np.clip(values, 0, 255, out=values)
    return np.rint(values, out=values).astype(np.uint8)
