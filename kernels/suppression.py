"""Non-maximum suppression: of squares that lie on each other, the one with the highest score."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import shapely

from ..scenes.errors import UsageError


def suppressed(
    boxes: np.ndarray, scores: np.ndarray, overlap: float = 0.1, rule: str = "iou"
) -> np.ndarray:
    """Which boxes are kept, by number, in the order in which they were chosen; int64.

    `boxes` are (n, 4): left, top, right, bottom. "iou" takes boxes by falling score, the first of
    equals first, and drops those that have more than `overlap` of their union in common with one
    that is kept. "malisiewicz" is the rule of paper 003's program, which knows no scores: it takes
    boxes from the lowest edge up, the last of equals first, and drops those of whose own area more
    than `overlap` is covered; right and bottom count as pixels that belong to the box. Raises
    UsageError for an overlap outside 0-1 and for another rule.
    """
    if not 0 <= overlap <= 1:
        raise UsageError(f"Boxes overlap by 0 to 1, not by {overlap}. Change --nms.")
    if rule == "iou":
        return _by_score(np.asarray(boxes, float), np.asarray(scores, float), overlap)
    if rule == "malisiewicz":
        return _by_lower_edge(np.asarray(boxes, float), overlap)
    raise UsageError(
        f"Unknown rule {rule!r} of suppression: give iou or malisiewicz with --nms-rule."
    )


def rivals(
    boxes: np.ndarray, overlap: float = 0.1, rule: str = "iou"
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of boxes (n, 4) that are not both kept, first and second, sorted by the first; int64.

    The second is the later one, and what is dropped once the first is kept. See `suppressed`; boxes
    of one size drop each other.
    """
    shapes = shapely.box(*boxes.T)
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    later = second > first
    first, second = first[later], second[later]
    if rule == "malisiewicz":  # right and bottom count as pixels that belong to the box
        boxes = boxes + np.array([0, 0, 1, 1])
    lows = np.maximum(boxes[first, :2], boxes[second, :2])
    highs = np.minimum(boxes[first, 2:], boxes[second, 2:])
    common = np.clip(highs - lows, 0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    whole = areas[second]
    if rule == "iou":
        whole = whole + areas[first] - common
    too_much = np.flatnonzero(common > overlap * whole)
    by_first = too_much[np.argsort(first[too_much], kind="stable")]
    return first[by_first], second[by_first]


def drops(
    kept: np.ndarray, other: np.ndarray, overlap: float = 0.1, rule: str = "iou"
) -> np.ndarray:
    """Of pairs of polygons, whether the other is dropped once the first is kept; bool.

    Polygons, px, instead of boxes are for squares of images that do not lie parallel. The shares
    are those of `suppressed`.
    """
    if rule == "malisiewicz":  # right and bottom count as pixels that belong to the box
        kept, other = (shapely.buffer(s, 0.5, join_style="mitre") for s in (kept, other))
    common, whole = shapely.area(shapely.intersection(kept, other)), shapely.area(other)
    if rule == "iou":
        whole = whole + shapely.area(kept) - common
    return common > overlap * whole


def _by_score(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    order = np.argsort(-scores, kind="stable")
    first, second = rivals(boxes[order], overlap)
    ends = np.cumsum(np.bincount(first, minlength=len(order)))
    kept = np.ones(len(order), bool)
    for place, (begin, end) in enumerate(pairwise([0, *ends.tolist()])):
        if kept[place]:
            kept[second[begin:end]] = False
    return order[kept]


def _by_lower_edge(boxes: np.ndarray, overlap: float) -> np.ndarray:
    left, top, right, bottom = boxes.T
    areas = (right - left + 1) * (bottom - top + 1)
    waiting = np.argsort(bottom, kind="stable")
    kept = []
    while len(waiting):
        last, waiting = waiting[-1], waiting[:-1]
        kept.append(last)
        width = np.minimum(right[waiting], right[last]) - np.maximum(left[waiting], left[last]) + 1
        height = np.minimum(bottom[waiting], bottom[last]) - np.maximum(top[waiting], top[last]) + 1
        common = np.clip(width, 0, None) * np.clip(height, 0, None)
        waiting = waiting[common <= overlap * areas[waiting]]
    return np.array(kept, np.int64)
