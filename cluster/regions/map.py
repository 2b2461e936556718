"""The map of a region's report: cores and districts as outlines on a plane, a few bytes each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely

WIDTH = 1000.0
"""Width of the map in its own units; its height follows the region's shape."""

_HIGHEST = 1.2
"""Height of the map, at most, in widths; a region that is taller becomes narrower."""

_FINE = 0.4
"""Detail that is left out, map units."""

_LETTER = 8.5
"""Width of a letter, map units."""


@dataclass(frozen=True)
class Outline:
    """One polygon as SVG draws it."""

    path: str
    """The `d` of a path; empty for what is too small to draw."""
    x: float
    y: float
    """Where a label stands."""
    room: int = 0
    """Letters that fit into its width."""


@dataclass(frozen=True)
class Frame:
    """How degrees become map units: equirectangular, true to scale in the region's middle."""

    west: float
    north: float
    across: float
    """Map units per degree of longitude."""
    down: float
    """Map units per degree of latitude."""
    width: float
    height: float
    metres: float
    """Metres per map unit."""

    @classmethod
    def around(cls, shapes: Sequence[shapely.Geometry]) -> Frame:
        """The frame that shows some polygons in degrees, one at least, with a rim."""
        bounds = np.array([_east(shape).bounds for shape in shapes])
        low, high = bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0)
        size = np.maximum(high - low, 1e-6)
        low, size = low - 0.03 * size.max(), size + 0.06 * size.max()
        squeeze = math.cos(math.radians(min(85.0, abs(low[1] + size[1] / 2))))
        scale = min(WIDTH / (size[0] * squeeze), _HIGHEST * WIDTH / size[1])
        return cls(
            west=float(low[0]),
            north=float(low[1] + size[1]),
            across=scale * squeeze,
            down=scale,
            width=round(float(size[0] * squeeze * scale), 1),
            height=round(float(size[1] * scale), 1),
            metres=111_320 / scale,
        )

    def outline(self, shape: shapely.Geometry) -> Outline:
        """A polygon in degrees on the map, without detail that nobody would see."""
        placed = shapely.transform(
            _east(shape),
            lambda xy: np.column_stack(
                [(xy[:, 0] - self.west) * self.across, (self.north - xy[:, 1]) * self.down]
            ),
        )
        simple = shapely.simplify(placed, _FINE)
        rings = [
            ring
            for part in shapely.get_parts(simple)
            for ring in (part.exterior, *part.interiors)
            if part.geom_type == "Polygon"
        ]
        inside = shapely.point_on_surface(placed)
        west, _, east, _ = placed.bounds
        return Outline(
            "".join(map(_path, rings)),
            round(inside.x, 1),
            round(inside.y, 1),
            int((east - west) / _LETTER),
        )

    def dots(self, lon: np.ndarray, lat: np.ndarray) -> list[tuple[float, float]]:
        """Points in degrees on the map; those that it would show as one are one."""
        x = np.where(lon < self.west, lon + 360, lon)
        placed = [(x - self.west) * self.across, (self.north - lat) * self.down]
        return [tuple(dot) for dot in np.unique(np.round(placed, 0).T, axis=0).tolist()]

    def scale_bar(self) -> tuple[float, str]:
        """A round length that is about a sixth of the map: its map units, and what it is called."""
        longest = self.width * self.metres / 6
        power = 10 ** math.floor(math.log10(longest))
        metres = max(step * power for step in (1, 2, 5) if step * power <= longest)
        name = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
        return round(metres / self.metres, 1), name


def _path(ring: shapely.LinearRing) -> str:
    xy = np.round(shapely.get_coordinates(ring)[:-1], 1).tolist()
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in xy) + "Z"


def _east(shape: shapely.Geometry) -> shapely.Geometry:
    """A polygon that has parts on both sides of the antimeridian, in one piece east of it."""
    west, _, east, _ = shape.bounds
    if east - west < 180:
        return shape
    return shapely.transform(
        shape,
        lambda xy: np.column_stack([np.where(xy[:, 0] < 0, xy[:, 0] + 360, xy[:, 0]), xy[:, 1]]),
    )
