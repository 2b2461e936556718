"""Right angles where there are walls, and nothing lost where there are none."""

import numpy as np
import pytest
import shapely
from aftermap.kernels.outline import outlines
from aftermap.kernels.regularise import LEAST_IOU, iou, regularise
from aftermap.kernels.stitch import label
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from scipy import ndimage


def seen(shape: shapely.Geometry, blur: float = 0.0, seed: int = 0) -> shapely.Geometry:
    """A building as pixels see it, with a frayed outline."""
    mask = rasterize([shape], (120, 120)).astype(float)
    if blur:
        noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=mask.shape), 2)
        mask = ndimage.gaussian_filter(mask, 1.5) + blur * noise
    labels = label(mask > 0.5)
    found = outlines(labels, int(labels.max()))
    return found[np.argmax(shapely.area(found))]


def turns(ring: shapely.LinearRing, stretch: float = 1.0) -> np.ndarray:
    """The cosines of the angles at a ring's corners."""
    xy = shapely.get_coordinates(ring)[:-1] * (stretch, 1)
    one, other = np.roll(xy, 1, axis=0) - xy, np.roll(xy, -1, axis=0) - xy
    scale = np.hypot(*one.T) * np.hypot(*other.T)
    return (one * other).sum(axis=1) / scale


@pytest.mark.parametrize("angle", [0, 7, 30, 45, 61, 89])
@pytest.mark.parametrize("blur", [0.0, 0.8])
def test_a_turned_rectangle_gets_its_four_corners_back(angle: float, blur: float) -> None:
    truth = shapely.affinity.rotate(shapely.box(40, 45, 80, 70), angle)
    raw = seen(truth, blur, angle)
    (found,) = regularise(np.array([raw]))
    (part,) = found.geoms
    assert len(part.exterior.coords) == 5
    assert np.abs(turns(part.exterior)).max() < 1e-9
    assert iou(found, truth) > max(0.93, iou(raw, truth) - 0.01)
    assert found.area == pytest.approx(raw.area, rel=0.02)


@pytest.mark.parametrize("angle", [0, 20, 45, 70])
def test_wings_and_courtyards_stay(angle: float) -> None:
    wing = shapely.box(20, 20, 90, 90) - shapely.box(60, 60, 90, 90)
    court = shapely.box(30, 30, 50, 45)
    truth = shapely.affinity.rotate(wing - court, angle, origin=(55, 55))
    (found,) = regularise(np.array([seen(truth, 0.6, 3)]))
    (part,) = found.geoms
    assert [len(ring.coords) for ring in (part.exterior, *part.interiors)] == [7, 5]
    assert max(np.abs(turns(ring)).max() for ring in (part.exterior, *part.interiors)) < 1e-9
    assert iou(found, truth) > 0.94


def test_angles_are_right_on_the_ground_where_pixels_are_not_square() -> None:
    truth = shapely.affinity.rotate(shapely.box(30, 40, 80, 70), 25)
    raw = seen(shapely.affinity.scale(truth, 2 / 3, 1))
    (found,) = regularise(np.array([raw]), 1.5)
    assert np.abs(turns(found.geoms[0].exterior, 1.5)).max() < 1e-9
    assert np.abs(turns(found.geoms[0].exterior)).max() > 0.1


def test_what_has_no_walls_is_left_alone() -> None:
    single = seen(shapely.box(10, 10, 11, 11))
    star = shapely.union_all(
        [shapely.affinity.rotate(shapely.box(58, 10, 62, 110), a) for a in (0, 60, 120)]
    )
    diagonal = shapely.multipolygons([shapely.box(0, 0, 3, 3), shapely.box(3, 3, 6, 6)])
    given_ = np.array([single, seen(star), diagonal])
    found = regularise(given_)
    assert found[0].equals(single)
    assert found[1].wkb == shapely.normalize(given_[1]).wkb
    assert len(found[2].geoms) == 2
    assert found[2].is_valid


@st.composite
def towns(draw: st.DrawFn) -> np.ndarray:
    """Outlines of frayed blobs, with holes and with parts that meet in a corner."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rough = draw(st.floats(0.5, 3.5))
    field = ndimage.gaussian_filter(rng.normal(size=(70, 70)), rough)
    mask = field > np.quantile(field, draw(st.floats(0.4, 0.9)))
    labels = label(mask)
    return outlines(labels, int(labels.max()))


@settings(max_examples=40, deadline=None)
@given(towns())
def test_nothing_is_lost_and_nothing_depends_on_the_neighbours(town: np.ndarray) -> None:
    found = regularise(town)
    assert len(found) == len(town)
    assert shapely.is_valid(found).all()
    assert (shapely.get_type_id(found) == shapely.GeometryType.MULTIPOLYGON).all()
    for old, new in zip(town, found, strict=True):
        assert len(new.geoms) == len(old.geoms)
        holes = [sum(len(part.interiors) for part in shape.geoms) for shape in (old, new)]
        assert holes[0] == holes[1]
        assert iou(new, old) >= LEAST_IOU
    alone = [regularise(town[k : k + 1])[0].wkb for k in range(len(town))]
    assert [shape.wkb for shape in found] == alone
