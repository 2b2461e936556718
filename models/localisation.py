"""Where in an image the damage is: maps of how its pixels move the errors of a network (paper 000, III.D)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from .deep_disaster import DeepDisaster
from .distillation import direction_error, squared_error

BLUR = 4.0
"""Deviation of the Gaussian that smooths a map, px; the code of paper 000."""

SAMPLES = 50
"""Noisy images of SmoothGrad; the code of paper 000."""

NOISE = 0.05
"""Deviation of their noise, as a share of the image's range; 0.1 for one of -1 to 1."""

PERCENTILE = 99
"""Of the values of a map, that which becomes 1."""


def objective(network: DeepDisaster, images: Tensor) -> Tensor:
    """What maps differentiate, per image (n,), as the network's form has it.

    "paper": the whole objective of training, eq. 8. "code": the errors of the score, but squared, the
    image and its latent vector held fixed, and the teacher compared with at x̂ alone.
    """
    judged, terms = network.judged, network.distillation
    made, lesson = judged(images), network.lesson(images)
    if terms.form == "paper":
        return terms.objective(images, judged.discriminator(images), made, lesson)
    still = images.detach()
    with torch.no_grad():
        _, own = judged.discriminator(still)
    first, second, third = network.omega
    found = first * squared_error(still, made.image) + second * squared_error(own, made.latent)
    if lesson is not None:
        found = found + third * (
            direction_error(made.image, lesson.image)
            + terms.alpha * squared_error(made.image, lesson.image)
        )
    return found


def gradient(network: DeepDisaster, images: Tensor) -> Tensor:
    """The slope of the objective at every value of images, eq. 10; their shape."""
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        (slope,) = torch.autograd.grad(objective(network, images).sum(), images)
    return slope


def vanilla_gradient(network: DeepDisaster, images: Tensor) -> np.ndarray:
    """Maps of images (n, 3, h, w): fp32 (n, h, w), 0-1, the higher the more the pixel matters."""
    return _blurred(_grey_maps(gradient(network, images)))


def smooth_gradient(
    network: DeepDisaster, images: Tensor, samples: int = SAMPLES, seed: int = 0
) -> np.ndarray:
    """As `vanilla_gradient`, of the mean over noisy copies of each image; eq. 11.

    In the form "code" the noise has the square of a twentieth over the range for its deviation, and
    grey maps are averaged instead of gradients.
    """
    code = network.distillation.form == "code"
    random = torch.Generator().manual_seed(seed)
    maps = []
    for image in images:
        noise = torch.randn(samples, *image.shape, generator=random).to(image)
        slopes = gradient(network, image + noise * noise_deviation(image, code))
        if code:
            maps.append(_stretched(_grey_maps(slopes).mean(axis=0)))
        else:
            maps.append(grey_map(_array(slopes.mean(dim=0))))
    return _blurred(np.stack(maps))


def guided_backpropagation(network: DeepDisaster, images: Tensor) -> np.ndarray:
    """As `vanilla_gradient`, of what passes the generator's ReLUs with a positive slope only."""
    slopes = _array(guided_gradient(network, images))
    return _blurred(np.stack([_stretched(np.abs(slope).sum(axis=0)) for slope in slopes]))


def guided_gradient(network: DeepDisaster, images: Tensor) -> Tensor:
    """As `gradient`, with negative slopes stopped at the ReLUs of the judged network's generator."""
    with _only_positive(network.judged.generator):
        return gradient(network, images)


METHODS: dict[str, Callable[[DeepDisaster, Tensor], np.ndarray]] = {
    "gradient": vanilla_gradient,
    "smooth-gradient": smooth_gradient,
    "guided-backpropagation": guided_backpropagation,
}
"""By name: images (n, 3, h, w) to maps (n, h, w)."""


def grey_map(slope: np.ndarray) -> np.ndarray:
    """The sum of the sizes of a gradient (c, h, w) over its channels, 0 to the 99th percentile as 0-1.

    fp32 (h, w); what is above is 1. The least value becomes 0.
    """
    size = np.abs(slope).sum(axis=0, dtype=np.float64)
    return _stretched(size, float(np.percentile(size, PERCENTILE)))


def noise_deviation(image: Tensor, code: bool) -> float:
    """Of the noise that SmoothGrad adds to an image, in the image's own unit."""
    extent = float(image.max() - image.min())
    if not code:
        return NOISE * extent
    return (NOISE / max(extent, 1e-6)) ** 2


def _grey_maps(slopes: Tensor) -> np.ndarray:
    return np.stack([grey_map(slope) for slope in _array(slopes)])


def _stretched(values: np.ndarray, high: float | None = None) -> np.ndarray:
    """Values (h, w) from the least to `high`, or to the greatest, as 0-1; 0 where all are the same."""
    low, high = float(values.min()), float(values.max()) if high is None else high
    if not high > low:
        return np.zeros(values.shape, np.float32)
    return np.clip((values - low) / (high - low), 0, 1).astype(np.float32)


def _blurred(maps: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(maps, (0, BLUR, BLUR))


def _array(slope: Tensor) -> np.ndarray:
    return slope.detach().float().cpu().numpy()


@contextmanager
def _only_positive(generator: nn.Module) -> Iterator[None]:
    """Stop negative slopes at the ReLUs of a generator, for the length of a block."""

    def stop(
        _: nn.Module, slopes: tuple[Tensor, ...], __: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        return tuple(slope.clamp(min=0) for slope in slopes)

    hooks = [
        module.register_full_backward_hook(stop)
        for module in generator.modules()
        if isinstance(module, nn.ReLU)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
