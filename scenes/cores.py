"""Dividing the ground among scenes: each place belongs to one of them, so that none is counted twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

from .grid import polygonal

_NOTHING = shapely.MultiPolygon()


def disjoint_cores(
    grounds: Sequence[shapely.Geometry],
    seen: Sequence[shapely.Geometry],
    least: Sequence[float],
) -> list[shapely.Geometry]:
    """The part of each ground that its scene answers for; together they cover the union of the kept.

    Where grounds overlap, the first scene whose images show a place gets it, and what none of them
    shows goes to the first scene. `seen` is what a scene's images show of its ground. A scene that
    would get no more than the share `least` of what it shows gets nothing, and an empty core.
    Grounds that meet no other one stay as they are, to the last bit.
    """
    shapes = np.array(grounds, dtype=object)
    tree = shapely.STRtree(shapes)
    shown: list[shapely.Geometry] = []
    kept = np.zeros(len(shapes), bool)
    rivals: list[list[int]] = [[] for _ in grounds]
    for i, ground in enumerate(grounds):
        near = np.sort(tree.query(ground, predicate="intersects"))
        near = near[kept[near]]
        # A common edge is no common ground.
        near = near[shapely.area(shapely.intersection(shapes[near], ground)) > 0].tolist()
        rest = _minus(seen[i], [shown[j] for j in near])
        kept[i] = rest.area > least[i] * seen[i].area
        shown.append(rest)
        if kept[i]:
            rivals[i] = near
            for j in near:
                rivals[j].append(i)
    cores: list[shapely.Geometry] = []
    for i, ground in enumerate(grounds):
        if not kept[i]:
            cores.append(_NOTHING)
        elif not rivals[i]:
            cores.append(ground)
        else:
            others = [cores[j] if j < i else shown[j] for j in rivals[i]]
            unseen = _minus(ground, [shown[i], *others])
            cores.append(polygonal(shapely.union_all([shown[i], unseen])))
    return cores


def _minus(shape: shapely.Geometry, others: Sequence[shapely.Geometry]) -> shapely.Geometry:
    if not others:
        return shape
    return polygonal(shapely.difference(shape, shapely.union_all(others)))
