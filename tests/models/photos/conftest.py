"""Small folders of photos, made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def write_photo() -> Callable[..., Path]:
    """Write a photo of smooth random colours, told by a seed, at a path."""
    return _write_photo


def _write_photo(
    path: Path, seed: int = 0, width: int = 40, height: int = 32, mode: str = "RGB"
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    image.convert(mode).save(path)
    return path
