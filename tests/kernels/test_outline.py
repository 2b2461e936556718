"""Traced outlines equal those of GDAL, and are valid without repair."""

import numpy as np
import shapely
from aftermap.kernels.outline import outlines
from aftermap.kernels.stitch import label
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import shapes


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 24), st.integers(1, 24), st.floats(0.1, 0.95), st.integers(0, 2**32 - 1)
)  # fmt: skip
def test_outlines_equal_gdal_s(height: int, width: int, share: float, seed: int) -> None:
    labels = label(np.random.default_rng(seed).random((height, width)) < share)
    total = int(labels.max(initial=0))
    traced = outlines(labels, total)
    assert shapely.is_valid(traced).all()
    assert (
        shapely.area(traced).tolist()
        == np.bincount(labels.ravel(), minlength=total + 1)[1:].tolist()
    )
    parts: list[list[shapely.Geometry]] = [[] for _ in range(total)]
    for geometry, value in shapes(labels, mask=labels > 0, connectivity=4):
        parts[int(value) - 1].append(shapely.geometry.shape(geometry))
    oracle = shapely.normalize(np.array([shapely.MultiPolygon(part) for part in parts], object))
    assert shapely.to_wkb(traced).tolist() == shapely.to_wkb(oracle).tolist()


def test_nothing_has_no_outline() -> None:
    assert len(outlines(np.zeros((5, 5), np.int32), 0)) == 0
