"""Random changes of photos for training, each a function of (seed, epoch, place); paper 000's code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

TURN = 30.0
"""Largest turn, degrees."""

PAD = 4
"""Black pixels around a photo, of which a crop of its size is taken."""

BRIGHTNESS, CONTRAST = 0.1, 0.2
"""Largest change of a photo's brightness and of its contrast, as shares."""

_GREY = np.array([0.299, 0.587, 0.114], np.float32)


def changed(image: np.ndarray, key: Sequence[int]) -> np.ndarray:
    """Flip, turn, shift and relight a photo, uint8 (3, h, w); the same for the same key.

    Each flip has probability one half: the published code flips always, by a slip of "50" for 0.5.
    What a turn or shift brings in is black.
    """
    rng = np.random.default_rng(list(key))
    across, down = rng.random(2) < 0.5
    turned = _turned(image[:, :: -1 if down else 1, :: -1 if across else 1], rng)
    row, col = rng.integers(0, 2 * PAD, 2, endpoint=True)
    wide = np.pad(turned, ((0, 0), (PAD, PAD), (PAD, PAD)))
    height, width = image.shape[1:]
    return _relit(wide[:, row : row + height, col : col + width], rng)


def _turned(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turned around its middle, bilinearly."""
    angle = np.deg2rad(rng.uniform(-TURN, TURN))
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos, -sin], [sin, cos]])
    middle = (np.array(image.shape[1:]) - 1) / 2
    offset = middle - matrix @ middle
    return np.stack([ndimage.affine_transform(band, matrix, offset, order=1) for band in image])


def _relit(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brighter or darker and with more or less contrast, one after the other in either order."""
    brightness = rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS)
    contrast = rng.uniform(1 - CONTRAST, 1 + CONTRAST)
    x = image.astype(np.float32)
    for step in rng.permutation(2):
        if step == 0:
            x = x * np.float32(brightness)
        else:
            mean = np.tensordot(_GREY, x, 1).mean()
            x = mean + (x - mean) * np.float32(contrast)
        x = np.clip(x, 0, 255)
    return np.rint(x).astype(np.uint8)
