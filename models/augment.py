"""Random crops and changes of training chips, each a function of (seed, epoch, index)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from PIL import Image
from scipy import ndimage

from ..scenes.layer import NOT_ANALYSED
from .chips.chip import Chip, without_nodata
from .photometric import relight


class Augmenter(Protocol):
    """A way of changing chips."""

    def draw(self, chip: Chip, size: int, key: Sequence[int]) -> Chip:
        """Crop and change a chip: (size, size) px, uint8; the same for the same key.

        Labels are taken from the nearest pixel, images bilinearly; both follow one affine map, up
        to the misregistration of the before image. What lies outside of the chip is 0, label 255.
        """
        ...


@dataclass(frozen=True)
class Augment:
    """How strongly chips are changed. The defaults suit synthetic scenes, whose look must not be
    learnt; `PLAIN` changes nothing."""

    scale: float = 0.25
    """Largest change of the pixel size, as a share."""
    rotate: float = 20.0
    """Largest turn in degrees, on top of flips and quarter turns."""
    shear: float = 0.06
    """Largest shear."""
    shift: float = 2.0
    """Largest misregistration of before against after, px."""
    light: float = 0.7
    """Strength of the changes of light, colour, sharpness and noise; 0 turns them off."""
    apart: bool = True
    """Draw those changes separately for before and after; paper 001 draws them together."""
    blank: float = 0.1
    """Probability that a strip along a side is blank, as at the edge of a scene."""
    seek: int = 2
    """Number of crops drawn, of which the one with most damage is taken."""

    def draw(self, chip: Chip, size: int, key: Sequence[int]) -> Chip:
        """See Augmenter."""
        rng = _generator(key)
        centre = _centre(chip.codes, size, self.seek, rng)
        matrix = _matrix(self, rng)
        slip = rng.uniform(-self.shift, self.shift, 2)
        crop = _cut(chip, matrix, centre, slip, size)
        pre, post = recolour(crop.pre, crop.post, self, rng)
        crop = replace(crop, pre=pre, post=post)
        if rng.random() < self.blank:
            _blank(crop.pre if rng.random() < 0.5 else crop.post, crop.codes, rng)
        return crop


@dataclass(frozen=True)
class PaperAugment:
    """Paper 001, section III.E: flips, shifts, scales, turns; light, sharpness and noise.

    Each flip has probability one half; so has a shift by up to 5 % of the crop together with a
    scale of 0.95 to 1.05 and a turn by up to 90 degrees. See `photometric` for the rest.
    """

    apart: bool = False
    """Draw the changes of light separately for before and after; the paper draws them together."""
    jitter: int = 0
    """Largest misregistration of before against after, px; the paper has none. Whole pixels, so
    that interpolation never blurs one of the images alone."""
    seek: int = 1
    """Number of crops drawn, of which the one with most damage is taken."""

    def draw(self, chip: Chip, size: int, key: Sequence[int]) -> Chip:
        """See Augmenter; pixels that are black in either image are left out of the labels."""
        rng = _generator(key)
        centre = _centre(chip.codes, size, self.seek, rng)
        matrix = np.diag(rng.choice([-1.0, 1.0], 2))
        moved, offset = rng.random() < 0.5, rng.uniform(-0.05, 0.05, 2) * size
        scale, turn = rng.uniform(0.95, 1.05), np.deg2rad(rng.uniform(-90, 90))
        if moved:
            cos, sin = np.cos(turn), np.sin(turn)
            matrix = matrix @ np.array([[cos, -sin], [sin, cos]]) / scale
            centre = centre - matrix @ offset
        slip = rng.integers(-self.jitter, self.jitter, 2, endpoint=True)
        crop = _cut(chip, matrix, centre, slip, size)
        codes = without_nodata(crop.pre, crop.post, crop.codes)
        first, second = rng.integers(2**63, size=2)
        pre, post = (
            relight(image, np.random.default_rng(seed))
            for image, seed in ((crop.pre, first), (crop.post, second if self.apart else first))
        )
        return replace(crop, pre=pre, post=post, codes=codes)


@dataclass(frozen=True)
class XView2Augment:
    """Paper 002, section 3: each flip with probability one half, a turn, and a scale of 0.8 to 1.2.

    Paper 004 does the same, but says nothing of how much it scales.
    """

    quarters: bool = False
    """A quarter turn with probability one half, as in the published code; the papers turn freely."""
    seek: int = 1
    """Number of crops drawn, of which the one with most buildings is taken."""

    def draw(self, chip: Chip, size: int, key: Sequence[int]) -> Chip:
        """See Augmenter; pixels that are black in either image are left out of the labels."""
        rng = _generator(key)
        centre = _centre(chip.codes, size, self.seek, rng, least=1)
        flips = np.diag(rng.choice([-1.0, 1.0], 2))
        scale = np.exp(rng.uniform(np.log(0.8), np.log(1.2)))
        quarter, turn = rng.integers(2), rng.uniform(-np.pi, np.pi)
        angle = quarter * np.pi / 2 if self.quarters else turn
        cos, sin = np.cos(angle), np.sin(angle)
        matrix = flips @ np.array([[cos, -sin], [sin, cos]]) / scale
        crop = _cut(chip, matrix, centre, np.zeros(2), size)
        return replace(crop, codes=without_nodata(crop.pre, crop.post, crop.codes))


PLAIN = Augment(0, 0, 0, 0, 0, blank=0, seek=1)

FOLDER = Augment(scale=0.1, rotate=20, shear=0.02, shift=1.0, light=0.6, apart=False, blank=0.05)
"""For chips of real imagery, which already differ in light between the dates."""

PAPER = PaperAugment()

PAPER_APART = PaperAugment(apart=True, jitter=2)
"""As the paper, with a light of its own for each date, and some misregistration."""

AUGMENTERS: dict[str, Augmenter] = {
    "paper": PAPER,
    "paper-apart": PAPER_APART,
    "xview2": XView2Augment(),
    "xview2-code": XView2Augment(quarters=True),
    "amatrice": XView2Augment(seek=2),
    "none": PLAIN,
}
"""By the names that a training knows; "auto" depends on the source of the chips."""


def recolour(
    pre: np.ndarray, post: np.ndarray, augment: Augment, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Change light, colour, sharpness and noise of two square images, uint8 (3, h, h); black stays."""
    if augment.light <= 0:
        return pre, post
    first, second = rng.spawn(2)
    if not augment.apart:
        state = first.bit_generator.state
        second.bit_generator.state = state
    return _develop(pre, augment.light, first), _develop(post, augment.light, second)


def _generator(key: Sequence[int]) -> np.random.Generator:
    return np.random.default_rng([word & 0xFFFFFFFF for word in key])


def _cut(chip: Chip, matrix: np.ndarray, centre: np.ndarray, slip: np.ndarray, size: int) -> Chip:
    """A crop around a centre, the before image `slip` px beside the after image."""
    pre = _sample(chip.pre, matrix, centre + slip, size, order=1)
    post = _sample(chip.post, matrix, centre, size, order=1)
    codes = _sample(chip.codes[None], matrix, centre, size, order=0, fill=NOT_ANALYSED)[0]
    return replace(chip, pre=pre, post=post, codes=codes)


def _centre(
    codes: np.ndarray, size: int, seek: int, rng: np.random.Generator, least: int = 2
) -> np.ndarray:
    """Row and column of a crop's centre, px; where the chip allows, the crop lies inside.

    Of `seek` places that with most pixels of a code of `least` or more.
    """
    half = (size - 1) / 2
    low = np.minimum(half, (np.array(codes.shape) - 1) / 2)
    high = np.maximum(np.array(codes.shape) - 1 - half, (np.array(codes.shape) - 1) / 2)
    best, most = (low + high) / 2, -1
    for _ in range(seek):
        # Whole pixels of offset keep a plain crop a plain copy.
        centre = low + rng.integers(0, (high - low).astype(int) + 1).astype(float)
        top, left = (max(0, int(place - half)) for place in centre)
        part = codes[top : top + size : 4, left : left + size : 4]
        sought = int(np.count_nonzero((part >= least) & (part != NOT_ANALYSED)))
        if sought > most:
            best, most = centre, sought
    return best


def _matrix(augment: Augment, rng: np.random.Generator) -> np.ndarray:
    """A map of crop offsets to chip offsets, 2 × 2: flips, quarter turns, scale, turn, shear."""
    turn = np.deg2rad(rng.uniform(-augment.rotate, augment.rotate))
    scale = np.exp(rng.uniform(-1, 1) * np.log1p(augment.scale))
    shear = rng.uniform(-augment.shear, augment.shear)
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = scale * np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, shear], [0, 1]])
    if augment == PLAIN:
        return matrix
    quarter = np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), int(rng.integers(4)))
    return matrix @ quarter @ np.diag([1, rng.choice([-1, 1])])


def _sample(
    image: np.ndarray, matrix: np.ndarray, centre: np.ndarray, size: int, order: int, fill: int = 0
) -> np.ndarray:
    """A square cut of an image (bands, h, w) around a centre, `fill` where there is no image."""
    half = (size - 1) / 2
    offset = centre - matrix @ np.array([half, half])
    if np.array_equal(abs(matrix), np.eye(2)) and np.array_equal(offset, np.rint(offset)):
        return _taken(image, np.diag(matrix).astype(int), offset.astype(int), size, fill)
    out = np.empty((len(image), size, size), np.uint8)
    for band, target in zip(image, out, strict=True):
        ndimage.affine_transform(
            band, matrix, offset, output=target, output_shape=(size, size), order=order, cval=fill
        )
    return out


def _taken(
    image: np.ndarray, steps: np.ndarray, first: np.ndarray, size: int, fill: int
) -> np.ndarray:
    """As `_sample` on the pixel grid, where whole rows and columns are taken, forwards or backwards."""
    (down, rows), (right, cols) = (
        _run(int(start), int(step), size, length)
        for start, step, length in zip(first, steps, image.shape[1:], strict=True)
    )
    out = np.full((len(image), size, size), fill, np.uint8)
    out[:, down, right] = image[:, rows, cols][:, :: steps[0], :: steps[1]]
    return out


def _run(start: int, step: int, size: int, length: int) -> tuple[slice, slice]:
    """Which of `size` places a run along an axis fills, and from which places in ascending order."""
    if step > 0:
        low, high = max(start, 0), min(start + size, length)
        filled = slice(low - start, high - start)
    else:
        low, high = max(start - size + 1, 0), min(start + 1, length)
        filled = slice(start + 1 - high, start + 1 - low)
    return (filled, slice(low, high)) if low < high else (slice(0, 0), slice(0, 0))


def _blank(image: np.ndarray, codes: np.ndarray, rng: np.random.Generator) -> None:
    """Black out a strip along one side, in place, and leave it out of the labels."""
    depth = int(rng.integers(1, max(2, image.shape[-1] // 3)))
    strip = (slice(None), slice(0, depth)) if rng.random() < 0.5 else (slice(0, depth), slice(None))
    if rng.random() < 0.5:
        image, codes = image[:, ::-1, ::-1], codes[::-1, ::-1]
    image[:, *strip] = 0
    codes[strip] = NOT_ANALYSED


def _develop(image: np.ndarray, light: float, rng: np.random.Generator) -> np.ndarray:
    """Another sensor, another day: sharpness, light, colour, haze, noise, compression."""
    black = ~image.any(axis=0)
    x = _sharpness(image, light, rng).astype(np.float32) / 255
    gains = np.exp(rng.normal(0, 0.07 * light, (3, 1, 1)) + rng.normal(0, 0.15 * light))
    x = x * gains.astype(np.float32)
    mean = x.mean()
    x = mean + (x - mean) * np.float32(np.exp(rng.normal(0, 0.18 * light)))
    grey = x.mean(axis=0, keepdims=True)
    x = grey + (x - grey) * np.float32(np.exp(rng.normal(-0.05, 0.25 * light)))
    x = x + (rng.normal(0, 0.04 * light) + rng.normal(0, 0.015 * light, (3, 1, 1))).astype(
        np.float32
    )
    x = np.clip(x, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.2 * light)))
    if rng.random() < 0.3 * light:
        veil = _smooth_field(x.shape[-1], rng) * np.float32(rng.uniform(0.05, 0.4))
        colour = rng.uniform(0.75, 0.95) + rng.normal(0, 0.02, (3, 1, 1))
        x = x + (colour.astype(np.float32) - x) * veil
    if rng.random() < 0.3 * light:
        x = x * (1 + np.float32(rng.uniform(-0.3, 0.3)) * _smooth_field(x.shape[-1], rng))
    if rng.random() < 0.6 * light:
        level = rng.uniform(0, 0.025) * light
        x = x + rng.standard_normal(x.shape, dtype=np.float32) * np.float32(level)
    out = np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.4 * light:
        out = _compressed(out, int(rng.integers(40, 95)))
    out[:, black] = 0
    return out


def _sharpness(image: np.ndarray, light: float, rng: np.random.Generator) -> np.ndarray:
    """Blurred, sharpened, resampled through a coarser grid, or as it was."""
    choice = rng.random()
    amount = rng.random()
    if choice < 0.3 * light:
        return ndimage.gaussian_filter(image, (0, *2 * (0.3 + 0.9 * amount,)))
    if choice < 0.45 * light:
        x = image.astype(np.float32)
        halo = x - ndimage.gaussian_filter(x, (0, 1, 1))
        return np.clip(x + (0.3 + amount) * halo, 0, 255).astype(np.uint8)
    if choice < 0.65 * light:
        side = image.shape[-1]
        coarse = max(8, round(side / (1.2 + amount)))
        picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
        picture = picture.resize((coarse, coarse), Image.Resampling.BOX)
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)
        return np.asarray(picture).transpose(2, 0, 1)
    return image


def _smooth_field(side: int, rng: np.random.Generator) -> np.ndarray:
    """A field in 0-1 that varies over about half an image, fp32 (side, side)."""
    knots = Image.fromarray(rng.random((4, 4), dtype=np.float32))
    return np.clip(np.asarray(knots.resize((side, side), Image.Resampling.BICUBIC)), 0, 1)


def _compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """Through JPEG and back; uint8 (3, h, w)."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(
        buffer, "JPEG", quality=quality
    )
    return np.asarray(Image.open(buffer)).transpose(2, 0, 1).copy()
