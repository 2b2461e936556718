"""The affine map from a tile's pixels to degrees, found again from corners with noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine
from aftermap.scenes.xbd import XbdBuilding, XbdLabel
from aftermap.scenes.xbd_ground import fitted_transform, ground, located

TRUE = Affine.translation(-99.2, 19.4) * Affine.rotation(3) * Affine.scale(4.7e-6, -4.5e-6)


def label(noise: float = 0.0, count: int = 20, spread: float = 1000.0) -> XbdLabel:
    """Quadrilaterals within `spread` px; `noise` is px, standard deviation of each coordinate."""
    rng = np.random.default_rng(7)
    buildings = []
    for k in range(count):
        corners = rng.uniform(0, spread, 2) + np.array([(0, 0), (17, 2), (15, 22), (-3, 19)])
        moved = corners + rng.normal(0, noise, corners.shape) if noise else corners
        degrees = np.column_stack(TRUE * moved.T)
        buildings.append(
            XbdBuilding(f"u{k}", None, shapely.Polygon(corners), shapely.Polygon(degrees))
        )
    return XbdLabel(Path("a.json"), tuple(buildings), {"width": 1024, "height": 1024})


def test_the_map_is_found_again() -> None:
    found = fitted_transform(label())
    assert found is not None
    transform, residual = found
    assert residual < 1e-6
    for corner in ((0, 0), (1024, 0), (0, 1024), (1024, 1024)):
        assert ~TRUE * (transform * corner) == pytest.approx(corner, abs=1e-4)


@pytest.mark.parametrize("noise", [0.2, 1.0, 3.0])
def test_noise_shows_in_the_residual_and_averages_out_of_the_map(noise: float) -> None:
    found = fitted_transform(label(noise, count=200))
    assert found is not None
    transform, residual = found
    # Two coordinates of that standard deviation: the distance has √2 of it.
    assert residual == pytest.approx(np.sqrt(2) * noise, rel=0.08)
    for corner in ((0, 0), (1024, 1024)):
        off = np.subtract(~TRUE * (transform * corner), corner)
        assert np.hypot(*off) < 0.4 * noise


def test_buildings_close_together_do_not_tell_the_far_corner() -> None:
    assert located(label(0.2, count=10)) is not None
    near = label(0.2, count=10, spread=30)
    assert fitted_transform(near) is not None
    assert located(near) is None
    assert ground(near) is None


def test_too_few_corners_or_a_line_tell_nothing() -> None:
    whole = label()
    assert fitted_transform(XbdLabel(whole.path, ())) is None
    bare = XbdBuilding("u", None, whole.buildings[0].xy)
    assert fitted_transform(XbdLabel(whole.path, (bare,))) is None
    thin = shapely.box(5, 5, 5.4, 600)
    degrees = shapely.transform(thin, lambda xy: np.column_stack(TRUE * xy.T))
    assert fitted_transform(XbdLabel(whole.path, (XbdBuilding("u", None, thin, degrees),))) is None
    flat = shapely.transform(
        whole.buildings[0].xy, lambda xy: np.column_stack([xy[:, 0], xy[:, 0]])
    )
    level = XbdBuilding("u", None, whole.buildings[0].xy, flat)
    assert fitted_transform(XbdLabel(whole.path, (level,))) is None, "degrees on a line"


def test_outlines_with_other_numbers_of_corners_are_not_compared() -> None:
    whole = label(count=3)
    odd = XbdBuilding("odd", None, shapely.box(0, 0, 9, 9), shapely.Point(0, 0).buffer(1))
    found = fitted_transform(XbdLabel(whole.path, (*whole.buildings, odd), whole.metadata))
    assert found is not None
    assert found[1] < 1e-6
