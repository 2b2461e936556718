"""Masks from xBD labels, by the rules of those who have published theirs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import shapely
from shapely.affinity import translate

from ...scenes.layer import NOT_ANALYSED
from ...scenes.legend import LEVELS
from ...scenes.xbd import XbdLabel, read_xbd
from .polygons import blank, burn
from .xbd_fill import fill, shrunk, vertices

Window = tuple[slice, slice]


@dataclass(frozen=True)
class TargetRules:
    """How outlines become pixels."""

    vertices: Literal["exact", "round", "truncate"] = "exact"
    """Exact: a pixel belongs to an outline if its centre, half a pixel from its corner, lies inside.
    Round, truncate: vertices become whole numbers that are pixel centres, and the boundary belongs
    to the outline, as with cv2.fillPoly."""
    overlap: Literal["later", "background"] = "later"
    """Where outlines overlap: the one drawn later counts, or it is background."""
    unclassified: Literal["ignore", "no-damage"] = "ignore"
    """Buildings that are un-classified or without a level: 255, or 1."""
    interiors: Literal["hole", "filled"] = "hole"
    """Whether holes of an outline stay what they were."""
    border: int = 0
    """Px by which each vertex is moved toward the outline's centroid, on both axes."""


EXACT = TargetRules()

RULES: dict[str, TargetRules] = {
    "dual-hrnet": TargetRules(vertices="round", interiors="filled"),
    "baseline": TargetRules("truncate", "background", "no-damage", "filled", border=2),
    "exact": EXACT,
}
"""Rules by name: those of the released code of paper 002, of the challenge's baseline, and ours."""


def drawn(label: XbdLabel, rules: TargetRules = EXACT) -> np.ndarray:
    """A label's mask of damage codes, uint8 (h, w): 0 background, 1-4, and 255 where rules ignore.

    Drawn in the order no damage, minor, major, destroyed, un-classified (paper 002, released code).
    Raises Refused for an absurd size.
    """
    shapes: dict[int, list[shapely.Geometry]] = {code: [] for code in (*LEVELS, NOT_ANALYSED)}
    for building in label.buildings:
        code = building.damage_class
        if building.xy is not None:
            shapes[NOT_ANALYSED if code is None else code].append(building.xy)
    mask = blank(label.size, str(label.path))
    # Un-classified ones that count as undamaged are still drawn last, over the others.
    last = 1 if rules.unclassified == "no-damage" else NOT_ANALYSED
    _draw(mask, [*LEVELS, last], list(shapes.values()), rules)
    return mask


def drawn_before(label: XbdLabel, rules: TargetRules = EXACT) -> np.ndarray:
    """A label's mask of buildings, uint8 (h, w): 1 where one stands whatever its level, else 0."""
    mask = blank(label.size, str(label.path))
    _draw(mask, [1], [[b.xy for b in label.buildings if b.xy is not None]], rules)
    return mask


@dataclass(frozen=True)
class XbdMask:
    """The damage codes of a label after the event, drawn when they are read."""

    path: Path
    size: tuple[int, int] | None = None
    """Height and width of the image, px; None: what the label says."""
    rules: TargetRules = EXACT
    outlines_on: ClassVar[str] = XbdLabel.outlines_on
    """The image that the outlines follow."""

    def read(self, bands: int) -> np.ndarray:
        """See Picture: one band of damage codes (see `drawn`)."""
        label = read_xbd(self.path)
        return drawn(label.sized(self.size) if self.size else label, self.rules)[None]

    def __str__(self) -> str:
        return str(self.path)


def _draw(
    mask: np.ndarray, codes: list[int], shapes: list[list[shapely.Geometry]], rules: TargetRules
) -> None:
    """Write codes where their shapes are, one code after the other, in place."""
    if rules.vertices == "exact" and rules.overlap == "later" and not rules.border:
        for code, each in zip(codes, shapes, strict=True):
            burn(mask, (_whole(shape, rules) for shape in each), code)
        return
    covered = np.zeros(mask.shape, np.uint8)
    for code, each in zip(codes, shapes, strict=True):
        for window, inside in _pixels(each, rules, mask.shape):
            mask[window][inside] = code
            covered[window] = np.minimum(covered[window] + inside, 2)
    if rules.overlap == "background":
        mask[covered > 1] = 0


def _pixels(
    shapes: Iterable[shapely.Geometry], rules: TargetRules, size: tuple[int, ...]
) -> Iterable[tuple[Window, np.ndarray]]:
    """The part of a mask that each shape reaches, and which of its pixels are the shape's, bool."""
    for shape in shapes:
        # Rounded vertices lie outside the outline's own bounds, and may be moved past the centroid.
        left, top, right, bottom = shape.bounds
        more = 2 + rules.border
        x0, y0 = max(int(left) - more, 0), max(int(top) - more, 0)
        x1, y1 = min(int(right) + more, size[1]), min(int(bottom) + more, size[0])
        if x0 < x1 and y0 < y1:
            inside = np.zeros((y1 - y0, x1 - x0), bool)
            for part in shapely.get_parts(_whole(shape, rules)):
                inside |= _part(part, rules, inside.shape, x0, y0)
            yield (slice(y0, y1), slice(x0, x1)), inside


def _part(
    part: shapely.Polygon, rules: TargetRules, shape: tuple[int, ...], left: int, top: int
) -> np.ndarray:
    """The pixels of one polygon in a window whose first pixel is at (`left`, `top`), bool."""
    inside = np.zeros(shape, bool)
    if rules.vertices == "exact":
        burnt = inside.astype(np.uint8)
        outer = shrunk(shapely.get_coordinates(part.exterior), rules.border)
        burn(burnt, [translate(shapely.Polygon(outer, part.interiors), -left, -top)], 1)
        return burnt > 0
    rings = [
        vertices(ring, rules.vertices == "truncate") for ring in (part.exterior, *part.interiors)
    ]
    fill(inside, shrunk(rings[0], rules.border), left, top)
    for ring in rings[1:]:
        hole = np.zeros(shape, bool)
        fill(hole, ring, left, top)
        inside &= ~hole
    return inside


def _whole(shape: shapely.Geometry, rules: TargetRules) -> shapely.Geometry:
    """A shape with its holes filled, where rules say so."""
    if rules.interiors == "hole":
        return shape
    parts = [shapely.Polygon(part.exterior) for part in shapely.get_parts(shape)]
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
