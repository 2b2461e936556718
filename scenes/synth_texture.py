"""Periodic textures that every synthetic scene samples: noise, woodland, rubble.

Each is a square tile that repeats without a seam, made once per process from a fixed seed. A pixel
looks its value up by its place in the world, so a texture is the same in every window.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy import ndimage

TILE = 1024
"""Cells per side of a texture."""

NODE = 8.0
"""Metres between the nodes on which slow fields are evaluated before they are interpolated."""


@cache
def cloudy(slope: float) -> np.ndarray:
    """Fractal noise with amplitude ~ frequency**-slope: (TILE, TILE) float32, mean 0, std 1."""
    rng = np.random.default_rng(round(slope * 100))
    spectrum = np.fft.rfft2(rng.standard_normal((TILE, TILE)))
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None, :])
    frequency[0, 0] = np.inf
    # Waves longer than a sixteenth of the tile are cut, or one scene would be all crest or trough.
    field = np.fft.irfft2(spectrum * np.maximum(frequency, 16 / TILE) ** -slope, (TILE, TILE))
    field -= field.mean()
    return (field / field.std()).astype(np.float32)


@cache
def smooth() -> np.ndarray:
    """Noise whose shortest wave is about eight cells, for fields that are interpolated."""
    field = ndimage.gaussian_filter(
        np.random.default_rng(5).standard_normal((TILE, TILE)), 2.5, mode="wrap"
    )
    return ((field - field.mean()) / field.std()).astype(np.float32)


@cache
def grain() -> np.ndarray:
    """White noise, standard normal: (TILE, TILE) float32."""
    return np.random.default_rng(11).standard_normal((TILE, TILE)).astype(np.float32)


@cache
def woodland() -> tuple[np.ndarray, np.ndarray]:
    """A closed canopy at 0.5 m: crown height 0-1 and each tree's own shade, both (TILE, TILE)."""
    rng = np.random.default_rng(3)
    height = np.zeros((TILE, TILE), np.float32)
    shade = np.zeros((TILE, TILE), np.float32)
    for _ in range(9000):
        radius = rng.uniform(3.5, 11.0)
        reach = int(radius) + 2
        y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
        dome = 1 - (x * x + y * y) / radius**2
        crown = np.sqrt(np.maximum(dome, 0)) * (0.35 + 0.06 * radius)
        row, col = rng.integers(0, TILE, 2)
        rows = (row + y[:, 0]) % TILE
        cols = (col + x[0]) % TILE
        at = np.ix_(rows, cols)
        above = crown > height[at]
        shade[at] = np.where(above, rng.normal(), shade[at])
        height[at] = np.where(above, crown, height[at])
    return height, shade


@cache
def rubble() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Broken pieces lying on each other, at 0.3 m: wood, concrete, rank.

    Wood and concrete are (3, TILE, TILE) float32 colours of the same pieces, 0-255; rank is each
    piece's own number in 0-1, so that `rank < density` keeps that share of the pieces.
    """
    rng = np.random.default_rng(8)
    wood_tones = np.array(
        [
            (168, 140, 112), (142, 104, 84), (196, 178, 155), (112, 84, 70), (214, 206, 194),
            (150, 118, 100), (92, 78, 70), (176, 122, 100), (238, 234, 228), (122, 118, 114),
            (84, 98, 122), (58, 52, 48),
        ],
        np.float32,
    )  # fmt: skip
    concrete_tones = np.array(
        [
            (176, 170, 160), (150, 145, 137), (196, 190, 180), (122, 117, 110), (210, 206, 198),
            (160, 146, 130), (100, 96, 92), (168, 136, 118), (226, 223, 217), (136, 131, 126),
            (140, 150, 160), (70, 66, 62),
        ],
        np.float32,
    )  # fmt: skip
    kind_weight = np.array([15, 15, 9, 13, 6, 14, 6, 9, 2, 8, 1, 3], float)
    wood = np.empty((3, TILE, TILE), np.float32)
    concrete = np.empty((3, TILE, TILE), np.float32)
    wood[:] = np.array((128, 110, 96), np.float32)[:, None, None]
    concrete[:] = np.array((126, 120, 112), np.float32)[:, None, None]
    rank = rng.random((TILE, TILE)).astype(np.float32)
    count = 40000
    kinds = rng.choice(len(kind_weight), count, p=kind_weight / kind_weight.sum())
    half = np.stack([rng.gamma(1.3, 1.15, count) + 0.6, rng.gamma(1.3, 0.55, count) + 0.5], 1)
    half[rng.random(count) < 0.02] += (3.0, 2.0)  # a wall or a piece of roof
    angles = rng.uniform(0, np.pi, count)
    places = rng.integers(0, TILE, (count, 2))
    tones = rng.normal(1.0, 0.13, count)
    ranks = rng.random(count)
    for n in range(count):
        long, short = half[n]
        reach = int(np.hypot(long, short)) + 1
        x = np.arange(-reach, reach + 1)
        y = x[:, None]
        cos, sin = np.cos(angles[n]), np.sin(angles[n])
        inside = (abs(cos * x + sin * y) <= long) & (abs(cos * y - sin * x) <= short)
        rows, cols = np.nonzero(inside)
        rows = (rows + places[n, 0]) % TILE
        cols = (cols + places[n, 1]) % TILE
        wood[:, rows, cols] = (wood_tones[kinds[n]] * tones[n])[:, None]
        concrete[:, rows, cols] = (concrete_tones[kinds[n]] * tones[n])[:, None]
        rank[rows, cols] = ranks[n]
    # Light and dark edges give each piece a little height.
    relief = 1 + 0.003 * np.clip(np.roll(wood[1], (1, 1), (0, 1)) - wood[1], -30, 30)
    return wood * relief, concrete * relief, rank


def nearest(
    tile: np.ndarray, x: np.ndarray, y: np.ndarray, cell: float, key: int = 0
) -> np.ndarray:
    """Look a tile of `cell` metres up at columns `x` (w,) and rows `y` (h,): (..., h, w).

    `key` moves the tile, so that one texture can serve several unrelated purposes.
    """
    cols = (np.floor(x / cell).astype(np.int64) + key * 397) % TILE
    rows = (np.floor(y / cell).astype(np.int64) + key * 571) % TILE
    return tile[..., rows, :].take(cols, axis=-1)


def at_points(tile: np.ndarray, x: np.ndarray, y: np.ndarray, cell: float, key: int) -> np.ndarray:
    """Interpolate a tile of `cell` metres at points; `x` and `y` broadcast against each other."""
    fx, fy = np.asarray(x) / cell, np.asarray(y) / cell
    ix, iy = np.floor(fx).astype(np.int64), np.floor(fy).astype(np.int64)
    tx, ty = fx - ix, fy - iy
    c0, c1 = (ix + key * 397) % TILE, (ix + 1 + key * 397) % TILE
    r0, r1 = (iy + key * 571) % TILE, (iy + 1 + key * 571) % TILE
    upper = tile[r0, c0] * (1 - tx) + tile[r0, c1] * tx
    lower = tile[r1, c0] * (1 - tx) + tile[r1, c1] * tx
    return upper * (1 - ty) + lower * ty


def slow(
    field: Callable[[np.ndarray, np.ndarray], np.ndarray], x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Evaluate a slow field on nodes NODE metres apart and interpolate: (h, w) float32.

    The nodes are fixed in the world, so the answer does not depend on the window.
    """
    first_col, first_row = int(np.floor(x[0] / NODE)), int(np.floor(y[0] / NODE))
    node_x = np.arange(first_col, int(np.floor(x[-1] / NODE)) + 2) * NODE
    node_y = np.arange(first_row, int(np.floor(y[-1] / NODE)) + 2) * NODE
    # Rounded, since a sine may differ in its last bit with the length of the array it is taken of.
    values = np.rint(field(node_x[None, :], node_y[:, None]) * 65536).astype(np.float32) / 65536
    cols, rows = np.floor(x / NODE).astype(np.int64), np.floor(y / NODE).astype(np.int64)
    tx = (x / NODE - cols).astype(np.float32)
    ty = (y / NODE - rows).astype(np.float32)[:, None]
    cols, rows = cols - first_col, rows - first_row
    across = values[:, cols] * (1 - tx) + values[:, cols + 1] * tx
    return across[rows] * (1 - ty) + across[rows + 1] * ty
