"""Filling as OpenCV does: its own pictures, and an exact criterion that owes nothing to either."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import shapely
from aftermap.models.chips.xbd_fill import fill, shrunk, vertices
from hypothesis import given, settings
from hypothesis import strategies as st

SIDE = 40
Points = list[tuple[int, int]]


def filled(points: Points, side: int = SIDE) -> np.ndarray:
    mask = np.zeros((side, side), bool)
    fill(mask, np.array([*points, points[0]], np.int64))
    return mask


def on_lines(points: Points) -> set[tuple[int, int]]:
    """Columns and rows of the edges' lines by exact arithmetic, halves toward the left end."""
    found = set()
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        if x1 < x0:
            x0, y0, x1, y1 = x1, y1, x0, y0
        steps = max(abs(x1 - x0), abs(y1 - y0))
        for k in range(steps + 1):
            pair = []
            for start, end in ((x0, x1), (y0, y1)):
                exact = Fraction((end - start) * k, max(steps, 1))
                whole = -((Fraction(1, 2) - abs(exact)) // 1)  # halves go down
                pair.append(start + int(whole) * (1 if exact >= 0 else -1))
            found.add((pair[0], pair[1]))
    return found


# Drawn by cv2.fillPoly, OpenCV 5.0.0.
PICTURES: dict[str, tuple[Points, str]] = {
    "triangle": (
        [(1, 1), (10, 4), (3, 10)],
        """
        ............
        .##.........
        .#####......
        .########...
        ..#########.
        ..########..
        ..#######...
        ..######....
        ...###......
        ...##.......
        ...#........
        ............
        """,
    ),
    "thin": (
        [(0, 0), (11, 5), (11, 6)],
        """
        ##..........
        .###........
        ...###......
        .....###....
        .......###..
        .........###
        ...........#
        ............
        ............
        ............
        ............
        ............
        """,
    ),
    "bow tie": (
        [(1, 1), (10, 9), (10, 2), (1, 8)],
        """
        ............
        .#..........
        .##.......#.
        .###....###.
        .####..####.
        .##########.
        .####..####.
        .###....###.
        .#.......##.
        ..........#.
        ............
        ............
        """,
    ),
    "arrow": (
        [(1, 2), (10, 1), (6, 5), (9, 10), (2, 9)],
        """
        ............
        ......#####.
        .#########..
        .########...
        .#######....
        .######.....
        ..######....
        ..######....
        ..#######...
        ..#######...
        ......####..
        ............
        """,
    ),
    "a line": (
        [(2, 9), (9, 3), (2, 9)],
        """
        ............
        ............
        ............
        .........#..
        ........#...
        .......#....
        .....##.....
        ....#.......
        ...#........
        ..#.........
        ............
        ............
        """,
    ),
    "turned house": (
        [(4, 0), (11, 3), (8, 10), (1, 7)],
        """
        ....##......
        ....####....
        ...#######..
        ...#########
        ..##########
        ..#########.
        .##########.
        .#########..
        ...#######..
        .....####...
        .......##...
        ............
        """,
    ),
}


def test_a_rectangle_has_its_boundary() -> None:
    mask = filled([(2, 3), (6, 3), (6, 6), (2, 6)])
    assert mask.sum() == 20
    assert mask[3:7, 2:7].all()


@pytest.mark.parametrize("name", PICTURES)
def test_opencv_draws_the_same(name: str) -> None:
    points, picture = PICTURES[name]
    expected = np.array([[c == "#" for c in row] for row in picture.split()])
    assert np.array_equal(filled(points, len(expected)), expected)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(-8, 47), st.integers(-8, 47)), min_size=3, max_size=7))
def test_pixels_whose_centre_lies_inside_or_on_a_line(points: Points) -> None:
    """Exact for every simple polygon, also of those that leave the mask."""
    x, y = np.mean(points, axis=0)
    points = sorted(set(points), key=lambda at: (np.arctan2(at[1] - y, at[0] - x), at))
    if len(points) < 3:
        return
    shape = shapely.Polygon(points)
    if not shape.is_valid or shape.area == 0:
        return
    rows, cols = np.mgrid[:SIDE, :SIDE]
    expected = shapely.covers(shape, shapely.points(cols, rows))
    for x, y in on_lines(points):
        if 0 <= x < SIDE and 0 <= y < SIDE:
            expected[y, x] = True
    assert np.array_equal(filled(points), expected)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), min_size=3, max_size=8))
def test_opencv_itself_where_it_is_there(points: Points) -> None:
    """Crossing outlines too."""
    cv2 = pytest.importorskip("cv2")
    expected = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(expected, [np.array(points, np.int32)], 1)
    assert np.array_equal(filled(points), expected > 0)


def test_far_vertices_cost_nothing() -> None:
    """A million pixels away, and the line is still the right one."""
    mask = filled([(-1_000_000, -1_000_000), (1_000_000, 1_000_000), (-1_000_000, 1_000_000)])
    rows, cols = np.mgrid[:SIDE, :SIDE]
    assert np.array_equal(mask, rows >= cols)


def test_windows_are_parts_of_the_whole() -> None:
    points = [(3, 5), (30, 11), (25, 33), (9, 28)]
    part = np.zeros((20, 12), bool)
    fill(part, np.array([*points, points[0]], np.int64), left=10, top=7)
    assert np.array_equal(part, filled(points)[7:27, 10:22])


def test_rounding_and_truncation() -> None:
    ring = shapely.LinearRing([(0.5, 1.5), (2.5, -0.7), (7.9, 3.2)])
    assert vertices(ring, toward_zero=False)[:3].tolist() == [[0, 2], [2, -1], [8, 3]]
    assert vertices(ring, toward_zero=True)[:3].tolist() == [[0, 1], [2, 0], [7, 3]]


def test_vertices_move_toward_the_centroid_on_both_axes() -> None:
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]])
    assert shrunk(square, 2).tolist() == [[2, 2], [8, 2], [8, 8], [2, 8], [2, 2]]
    assert shrunk(square, 0) is square
    diamond = np.array([[5, 0], [10, 5], [5, 10], [0, 5], [5, 0]])
    assert shrunk(diamond, 2).tolist() == [[5, 2], [8, 5], [5, 8], [2, 5], [5, 2]]
