"""Small scenes that the tests share; made here, never downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from rasters import texture, write_raster

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture
def pair_files(tmp_path: Path) -> tuple[Path, Path]:
    """A before and an after image on one grid, 700 x 900 px, a changed square in the middle."""
    pre = texture(700, 900)
    post = pre.copy()
    post[:, 300:360, 400:480] = 255 - post[:, 300:360, 400:480]
    return write_raster(tmp_path / "pre.tif", pre), write_raster(tmp_path / "post.tif", post)


@pytest.fixture
def real() -> Path:
    """The folder of real imagery; the test is skipped where it is absent."""
    if not (REAL / "imagery").is_dir():
        pytest.skip(f"real imagery is not at {REAL}")
    return REAL / "imagery"
