"""Small photos; made here, never downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def rubble(side: int, seed: int) -> np.ndarray:
    """Hard noise, uint8 (3, side, side)."""
    return np.random.default_rng(seed).integers(0, 256, (3, side, side)).astype(np.uint8)


def put(path: Path, pixels: np.ndarray) -> Path:
    """Write a photo, uint8 (3, h, w), in folders that need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(path)
    return path
