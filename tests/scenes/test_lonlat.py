"""Degrees: right-handed rings, the antimeridian, points that lie inside."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
from aftermap.scenes.lonlat import points_inside, split_antimeridian, to_lonlat


def test_a_shape_across_180_degrees_becomes_two_that_add_up() -> None:
    crossing = shapely.Polygon([(179.5, 10), (-179.5, 10), (-179.5, 11), (179.5, 11)])
    calm = shapely.box(10, 10, 11, 11)
    cut, same = split_antimeridian(np.array([crossing, calm], object))
    assert same is calm
    west, east = sorted(cut.geoms, key=lambda part: part.bounds[0])
    assert west.bounds == (-180, 10, -179.5, 11)
    assert east.bounds == (179.5, 10, 180, 11)
    assert cut.is_valid


def test_parts_on_both_sides_are_left_alone() -> None:
    both = shapely.MultiPolygon([shapely.box(179, 0, 180, 1), shapely.box(-180, 0, -179, 1)])
    (kept,) = split_antimeridian(np.array([both], object))
    assert kept.equals(both)


def test_rings_turn_as_rfc_7946_asks_and_x_is_longitude() -> None:
    hollow = shapely.box(500_000, 4_000_000, 500_100, 4_000_100) - shapely.box(
        500_040, 4_000_040, 500_060, 4_000_060
    )
    frame = gpd.GeoDataFrame({"k": [1]}, geometry=[shapely.reverse(hollow)], crs="EPSG:32637")
    placed = to_lonlat(frame)
    shape = placed.geometry.iloc[0]
    assert shape.exterior.is_ccw
    assert not shape.interiors[0].is_ccw
    assert shape.centroid.x == pytest.approx(39.0, abs=0.01)
    assert shape.centroid.y == pytest.approx(36.1, abs=0.1)
    assert placed["k"].tolist() == [1]


def test_points_lie_inside_the_largest_part() -> None:
    ring = shapely.Point(0, 0).buffer(10) - shapely.Point(0, 0).buffer(9)
    two = shapely.MultiPolygon([shapely.box(20, 0, 21, 1), shapely.box(30, 0, 35, 5)])
    u = shapely.Polygon([(0, 0), (9, 0), (9, 9), (8, 9), (8, 1), (1, 1), (1, 9), (0, 9)])
    shapes = np.array([ring, two, u], object)
    points = points_inside(shapes)
    assert shapely.contains(shapes, points).all()
    assert shapely.contains(shapely.box(30, 0, 35, 5), points[1])
    assert len(points_inside(np.array([], object))) == 0
