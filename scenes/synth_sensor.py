"""Between the town and the file: the date's light, clouds, residual shifts, optics and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .synth_texture import at_points, cloudy, grain, nearest, slow, smooth

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Look:
    """One date and sensor: what light, season and optics make of the same town."""

    after: bool
    key: int
    """Tells the dates apart where chance decides: cars, noise, clouds."""
    sun: tuple[float, float]
    """Metres that a shadow reaches in x and y per metre of height."""
    ambient: float
    """Light in the shade as a share of full light."""
    lush: Colour
    dry: Colour
    dryness: float
    leaves: float
    """0 bare trees, 1 in full leaf."""
    leaf: Colour
    gain: Colour
    haze: Colour
    blur: float
    """Sigma of the point spread, px."""
    noise: float
    """Standard deviation of the sensor's noise, grey levels."""
    warp: float
    """Largest residual shift, px."""
    cloud: float | None
    """Threshold of the cloud field, in its standard deviations; None: a clear sky."""
    busy: bool
    """Whether cars, stalls and new buildings appear."""


def veil(
    image: np.ndarray, look: Look, at_x: np.ndarray, at_y: np.ndarray, rough: np.ndarray
) -> None:
    """Clouds and, offset along the sun, their shadows."""
    if look.cloud is None:
        return
    drop = 260.0
    under = _cloud(look, at_x - drop * look.sun[0], at_y - drop * look.sun[1])
    over = _cloud(look, at_x, at_y)
    if under.max() > 0:
        image *= 1 - np.clip(under * 1.4, 0, 1) * np.float32(0.5 * (1 - look.ambient))
    if over.max() > 0:
        alpha = np.clip(over * 1.2, 0, 0.93)
        image += alpha * (np.float32(238) + 5 * rough - image)


def clouded(look: Look, x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """Where clouds hide more than half of the ground's light, bool (h, w); None: a clear sky."""
    if look.cloud is None:
        return None
    return _cloud(look, x, y) * 1.2 > 0.5


def _cloud(look: Look, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Thickness of the clouds, positive where there are any."""

    cut = look.cloud or 0.0

    def thickness(px: np.ndarray, py: np.ndarray) -> np.ndarray:
        broad = at_points(smooth(), px, py, 46.0, look.key)
        return broad + 0.33 * at_points(cloudy(1.3), px, py, 10.0, look.key + 5) - cut

    return slow(thickness, x, y)


def shift(image: np.ndarray, look: Look, x: np.ndarray, y: np.ndarray, gsd: float) -> np.ndarray:
    """Move an image smoothly by up to `look.warp` px: what co-registration left over."""
    if look.warp <= 0:
        return image
    height, width = image.shape[1:]
    amount = np.float32(look.warp / 2.4)

    def wave(key: int) -> np.ndarray:
        field = slow(lambda px, py: at_points(smooth(), px, py, 48.0, look.key + key), x, y)
        return np.clip(field * amount, -look.warp, look.warp)

    moved = image.reshape(3, -1)
    rows = np.arange(height, dtype=np.int32)[:, None]
    cols = np.arange(width, dtype=np.int32)[None, :]
    for key, along in ((61, 1), (67, 0)):
        by = wave(key)
        whole = np.floor(by)
        part = by - whole
        step = whole.astype(np.int32)
        if along:
            first = rows * width + np.clip(cols + step, 0, width - 2)
            second = first + 1
        else:
            first = np.clip(rows + step, 0, height - 2) * width + cols
            second = first + width
        low = moved.take(first.ravel(), axis=1)
        high = moved.take(second.ravel(), axis=1)
        high -= low
        high *= part.ravel()
        high += low
        moved = high
    return moved.reshape(image.shape)


def sense(image: np.ndarray, look: Look, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Optics and electronics: blur, colour cast, haze, noise; (3, h, w) uint8, at least 1.

    `rows` and `cols` are the pixels' numbers in their raster: noise belongs to the sensor.
    """
    radius = 2
    at = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (at / max(look.blur, 0.2)) ** 2)
    weights /= weights.sum()
    static = nearest(grain(), cols.astype(float), rows.astype(float), 1.0, look.key + 77)
    out = np.empty(image.shape, np.uint8)
    for channel in range(3):
        plane = ndimage.correlate1d(image[channel], weights, axis=0, mode="nearest")
        plane = ndimage.correlate1d(plane, weights, axis=1, mode="nearest")
        plane *= np.float32(look.gain[channel])
        plane += np.float32(look.haze[channel] + 0.5)
        plane += static * np.float32(look.noise)
        out[channel] = np.clip(plane, 1, 255)
    return out
