"""Detected outlines made right-angled, one building at a time.

An outline along pixel edges is a staircase wherever a wall does not follow the grid. Turned to the
direction that most walls keep to, it is cut into walls that run along and across; each wall then
stands where it leaves as much of the old outline on one side as on the other, which keeps the
area, and walls meet at right angles. The result stands only if it still covers what was found.
"""

from __future__ import annotations

import numpy as np
import shapely

LEAST_IOU = 0.8
"""Least overlap (intersection over union) of a regularised outline with the one found."""

TOLERANCE_PX = 1.5
"""Deviations from a straight wall up to this are taken for the pixel grid's, px."""

SHORTEST_PX = 4.0
"""Shorter walls are left out, px, as long as four remain."""

_DIRECTIONS = 180
"""Directions tried between 0 and 90 degrees."""


def regularise(geometry: np.ndarray, stretch: float = 1.0) -> np.ndarray:
    """Right-angled outlines of buildings, each on its own; canonical MultiPolygons.

    `geometry` holds polygons or multipolygons in pixel coordinates; `stretch` is the width of a
    pixel over its height on the ground, where angles are right. A part whose walls are not clear,
    or that would overlap less than `LEAST_IOU` with what it was, stays as it was, and so does a
    building whose parts would touch: nothing is lost or merged, and every result is valid.
    """
    ground = shapely.transform(geometry, lambda xy: xy * (stretch, 1.0))
    found = np.array([_building(shape) for shape in ground], object)
    squared = found != None  # noqa: E711  (element by element)
    placed = shapely.transform(found[squared], lambda xy: xy / (stretch, 1.0))
    result = np.array(geometry, object)
    result[squared] = placed
    parts, owner = shapely.get_parts(result, return_index=True)
    return shapely.normalize(shapely.multipolygons(parts, indices=owner))


def iou(one: shapely.Geometry, other: shapely.Geometry) -> float:
    """Intersection over union of two shapes with an area; 0 where one is not valid."""
    if not (one.is_valid and other.is_valid):
        return 0.0
    both = one.intersection(other).area
    return both / (one.area + other.area - both)


def _building(shape: shapely.Geometry) -> shapely.Geometry | None:
    """One building, part by part; None where it stays as it was."""
    parts = shapely.get_parts(shape)
    squared = [_part(part) for part in parts]
    if all(part is None for part in squared):
        return None
    either = [old if new is None else new for old, new in zip(parts, squared, strict=True)]
    found = shapely.multipolygons(either)
    return found if found.is_valid else None


def _part(part: shapely.Polygon) -> shapely.Polygon | None:
    """One polygon, its holes in the direction of its outline; None where it stays as it was."""
    turn = _direction(part.exterior)
    outline = _ring(part.exterior, turn)
    if outline is None:
        return None
    holes = []
    for hole in part.interiors:
        ring = _ring(hole, turn)
        known = shapely.Polygon(hole)
        fits = ring is not None and iou(shapely.Polygon(ring), known) >= LEAST_IOU
        holes.append(ring if fits else shapely.get_coordinates(hole))
    found = shapely.Polygon(outline, holes)
    return found if iou(found, part) >= LEAST_IOU else None


def _direction(ring: shapely.LinearRing) -> float:
    """The angle, radians from 0 to a right angle, that most walls keep to.

    Each wall of the simplified ring votes, with the square of its length, for the direction of the
    line that fits the ring best along it; the best of 180 directions is refined by the mean of the
    walls that are near it.
    """
    points, kept = _points(ring)
    walls = np.diff(points[np.append(kept, kept[0])], axis=0)
    weight, angle = (walls**2).sum(axis=1), _leanings(points, kept)
    tried = np.arange(_DIRECTIONS) * (np.pi / 2 / _DIRECTIONS)
    # 1 along and across a direction and 0 halfway between; the power leaves what is near it.
    near = weight[:, None] * (0.5 + 0.5 * np.cos(4 * (angle[:, None] - tried))) ** 4
    best = int(np.argmax(near.sum(axis=0)))
    apart = 4 * (angle - tried[best])
    sines, cosines = (near[:, best] * np.sin(apart)).sum(), (near[:, best] * np.cos(apart)).sum()
    return float(tried[best] + np.arctan2(sines, cosines) / 4)


def _leanings(points: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The angle, radians, of the principal axis of the ring between neighbouring kept vertices."""
    twice = np.vstack([points, points, points[:1]])
    step, middle = np.diff(twice, axis=0), (twice[1:] + twice[:-1]) / 2
    length = np.hypot(*step.T)[:, None]
    # Second moments of each edge: of its middle, and of what lies around that.
    products = (
        middle[:, [0, 0, 1]] * middle[:, [0, 1, 1]] + step[:, [0, 0, 1]] * step[:, [0, 1, 1]] / 12
    )
    sums = np.cumsum(np.hstack([length, length * middle, length * products]), axis=0)
    sums = np.vstack([np.zeros((1, sums.shape[1])), sums])
    last = np.append(kept[1:], kept[0])
    part = sums[np.where(last > kept, last, last + len(points))] - sums[kept]
    x, y, xx, xy, yy = (part[:, 1:] / part[:, :1]).T
    return np.arctan2(2 * (xy - x * y), (xx - x * x) - (yy - y * y)) / 2


def _ring(ring: shapely.LinearRing, turn: float) -> np.ndarray | None:
    """The corners of a ring made right-angled along a direction, closed; None without four walls."""
    basis = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    points, kept = _points(ring)
    turned = (points[:, None, :] * basis[None]).sum(axis=2)
    corners = _Walls(turned, kept).corners()
    if corners is None:
        return None
    placed = corners[:, :1] * basis[0] + corners[:, 1:] * basis[1] + ring.coords[0]
    return np.vstack([placed, placed[:1]])


def _points(ring: shapely.LinearRing) -> tuple[np.ndarray, np.ndarray]:
    """A ring's vertices as seen from its first, and which of them the simplified ring keeps."""
    points = shapely.get_coordinates(ring)[:-1]
    fewer = shapely.get_coordinates(shapely.simplify(ring, TOLERANCE_PX))[:-1]
    at, kept = 0, []
    for vertex in fewer.tolist():
        # The simplified ring may begin elsewhere, as its first vertex may have gone.
        while points[at % len(points)].tolist() != vertex:
            at += 1
        kept.append(at % len(points))
        at += 1
    return points - points[0], np.array(kept)


class _Walls:
    """The walls of one ring, as runs of its vertices that go along or across in turn."""

    def __init__(self, points: np.ndarray, kept: np.ndarray) -> None:
        self.size = len(points)
        twice = np.vstack([points, points, points[:1]])
        step, middle = np.diff(twice, axis=0), (twice[1:] + twice[:-1]) / 2
        zero = np.zeros((1, 2))
        # Running sums of x dy and y dx, and of dy and dx: a wall's place is their ratio.
        self.moment = np.vstack([zero, np.cumsum(middle * step[:, ::-1], axis=0)])
        self.length = np.vstack([zero, np.cumsum(step[:, ::-1], axis=0)])
        walls = np.diff(np.vstack([points[kept], points[kept[:1]]]), axis=0)
        across = (np.abs(walls[:, 1]) > np.abs(walls[:, 0])).astype(int)
        begins = np.flatnonzero(across != np.roll(across, 1))
        self.starts = [int(kept[k]) for k in begins]
        self.across = [int(across[k]) for k in begins]

    def corners(self) -> np.ndarray | None:
        """Where walls that stand at their places meet; None where there are fewer than four."""
        while len(self.starts) > 4 and min(lengths := self._lengths()) < SHORTEST_PX:
            self._leave_out(int(np.argmin(lengths)))
        if len(self.starts) < 4 or min(self._lengths()) == 0:
            return None
        places = np.array([self._place(k) for k in range(len(self.starts))])
        before = np.roll(places, 1)
        # Across means standing at an x: the corner takes that from whichever wall has one.
        across = np.array(self.across, bool)
        return np.column_stack([np.where(across, places, before), np.where(across, before, places)])

    def _span(self, k: int) -> tuple[int, int]:
        """The first and last vertex of a wall; the last may be past the end of the ring."""
        first, last = self.starts[k], self.starts[(k + 1) % len(self.starts)]
        return first, last if last > first else last + self.size

    def _lengths(self) -> list[float]:
        return [self._sum(self.length, k) for k in range(len(self.starts))]

    def _sum(self, running: np.ndarray, k: int) -> float:
        first, last = self._span(k)
        column = 0 if self.across[k] else 1
        return abs(float(running[last, column] - running[first, column]))

    def _place(self, k: int) -> float:
        """The x (or y) at which a wall has as much of the ring on one side as on the other."""
        first, last = self._span(k)
        column = 0 if self.across[k] else 1
        moment, length = (
            each[last, column] - each[first, column] for each in (self.moment, self.length)
        )
        return float(moment / length)

    def _leave_out(self, k: int) -> None:
        """Take out a wall; its neighbours become one, with what lay between."""
        after = (k + 1) % len(self.starts)
        for position in sorted((k, after), reverse=True):
            del self.starts[position], self.across[position]
