"""Small folders of chips, made here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

REAL = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "train"
DRIVERS = {".png": "PNG", ".tif": "GTiff", ".jpg": "JPEG"}


@pytest.fixture
def write_image() -> Callable[[Path, np.ndarray], None]:
    """Write an array (h, w) or (bands, h, w) as the format that the suffix names."""
    return _write_image


@pytest.fixture
def make_folder() -> Callable[..., Path]:
    """Fill folders before, after and masks with random chips; masks hold the values given."""
    return _make_folder


@pytest.fixture
def write_label() -> Callable[..., None]:
    """Write an xBD label of (subtype, polygon in pixels) with degrees by an affine map."""
    return _write_label


@pytest.fixture
def train_data() -> Path:
    """The folder of real chips; the test is skipped where it is absent."""
    if not REAL.is_dir():
        pytest.skip(f"real chips are not at {REAL}")
    return REAL


def _write_image(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = array if array.ndim == 3 else array[None]
    count, height, width = bands.shape
    profile = {"driver": DRIVERS[path.suffix], "count": count, "height": height, "width": width}
    with rasterio.open(path, "w", dtype=bands.dtype, **profile) as target:
        target.write(bands)


def _make_folder(
    root: Path,
    values: Sequence[int],
    names: Sequence[str] = ("chip0", "chip1", "chip2", "chip3"),
    folders: tuple[str, str, str] = ("pre", "post", "mask"),
    suffix: str = ".png",
    side: int = 32,
) -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        for folder in folders[:2]:
            image = rng.integers(1, 255, (3, side, side), np.uint8)
            _write_image(root / folder / f"{name}{suffix}", image)
        mask = rng.choice(np.array(values, np.uint8), (side, side))
        _write_image(root / folders[2] / f"{name}{suffix}", mask)
    return root


def _write_label(
    path: Path,
    buildings: Sequence[tuple[str | None, Any]],
    size: int = 64,
    affine: tuple[float, ...] | None = None,
) -> None:
    def features(turned: bool) -> list[dict[str, Any]]:
        return [
            {
                "properties": {"feature_type": "building", "uid": f"b{i}"}
                | ({} if subtype is None else {"subtype": subtype}),
                "wkt": (_turned(shape, affine) if turned and affine else shape).wkt,
            }
            for i, (subtype, shape) in enumerate(buildings)
        ]

    label = {
        "features": {"xy": features(False), "lng_lat": features(True) if affine else []},
        "metadata": {"width": size, "height": size},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(label))


def _turned(shape: Any, affine: tuple[float, ...]) -> Any:
    from shapely.affinity import affine_transform

    return affine_transform(shape, affine)
