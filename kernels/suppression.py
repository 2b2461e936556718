"""Non-maximum suppression: of squares that lie on each other, the one with the highest score."""

from __future__ import annotations

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


def _by_score(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    order = np.argsort(-scores, kind="stable")
    rivals = _rivals(boxes[order], overlap)
    kept = np.ones(len(order), bool)
    for place in range(len(order)):
        if kept[place]:
            kept[rivals[place]] = False
    return order[kept]


def _rivals(boxes: np.ndarray, overlap: float) -> list[np.ndarray]:
    """Of each box the later ones that have too much in common with it."""
    shapes = shapely.box(*boxes.T)
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    later = second > first
    first, second = first[later], second[later]
    lows = np.maximum(boxes[first, :2], boxes[second, :2])
    highs = np.minimum(boxes[first, 2:], boxes[second, 2:])
    common = np.clip(highs - lows, 0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    too_much = common > overlap * (areas[first] + areas[second] - common)
    first, second = first[too_much], second[too_much]
    by_first = np.argsort(first, kind="stable")
    ends = np.cumsum(np.bincount(first, minlength=len(boxes)))[:-1]
    return np.split(second[by_first], ends) if len(boxes) else []


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
