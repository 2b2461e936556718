"""Features of images that nobody trained: the baselines of paper 003 beside Inception's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from skimage.color import rgb2gray
from skimage.feature import hog

from .bottlenecks import Pictures

Describe = Callable[[np.ndarray], np.ndarray]
"""From an image, uint8 (3, h, w), to features (d,)."""


def oriented_gradients(image: np.ndarray) -> np.ndarray:
    """A histogram of 8 orientations of the gradient in each cell of 16 × 16 px, normalised alone."""
    grey = rgb2gray(image.transpose(1, 2, 0))
    return hog(grey, orientations=8, pixels_per_cell=(16, 16), cells_per_block=(1, 1))


def channel_means(image: np.ndarray) -> np.ndarray:
    """The mean of each band, 0-1: (3,)."""
    return image.mean(axis=(1, 2)) / 255


def channel_moments(image: np.ndarray) -> np.ndarray:
    """The mean and the standard deviation of each band, 0-1: (6,).

    What paper 003 embeds in a plane (section 4.1.1), too.
    """
    return np.concatenate([channel_means(image), image.std(axis=(1, 2)) / 255])


FEATURES: dict[str, Describe] = {
    "hog": oriented_gradients,
    "means": channel_means,
    "moments": channel_moments,
}
"""By name; those of the published code of paper 003, which gives them to a random forest."""


def described(pictures: Pictures, describe: Describe) -> np.ndarray:
    """The features of all images, fp32 (n, d)."""
    return np.stack([describe(pictures.image(i)) for i in range(len(pictures))]).astype(np.float32)
