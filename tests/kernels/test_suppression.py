"""Suppression against a plain reading of its rules, and the vector of paper 003's program."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
import shapely.affinity
from aftermap.kernels.suppression import drops, rivals, suppressed
from aftermap.scenes.errors import UsageError
from hypothesis import given
from hypothesis import strategies as st

PUBLISHED = np.array(
    [
        [0, 0, 299, 299], [209, 0, 508, 299], [0, 209, 299, 508], [600, 600, 899, 899],
        [650, 650, 949, 949], [209, 209, 508, 508],
    ]
)  # fmt: skip


@pytest.mark.parametrize(("overlap", "kept"), [(0.1, [4, 5, 0]), (0.5, [4, 5, 2, 1, 0])])
def test_the_programs_rule(overlap: float, kept: list[int]) -> None:
    found = suppressed(PUBLISHED, np.zeros(6), overlap, "malisiewicz")
    assert found.tolist() == kept


def plain(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> list[int]:
    """Greedy, box by box, by shapely's areas."""
    shapes = [shapely.box(*box) for box in boxes]
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        shares = [
            shapes[i].intersection(shapes[j]).area / shapes[i].union(shapes[j]).area for j in kept
        ]
        if all(share <= overlap + 1e-12 for share in shares):
            kept.append(i)
    return kept


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 4)), max_size=40),
    st.sampled_from([0.0, 0.1, 0.3, 1.0]),
)
def test_the_best_of_those_that_overlap(found: list[tuple[int, int, int]], overlap: float) -> None:
    boxes = np.array([[x, y, x + 20, y + 20] for x, y, _ in found]).reshape(-1, 4)
    scores = np.array([score / 4 for *_, score in found])
    assert suppressed(boxes, scores, overlap).tolist() == plain(boxes, scores, overlap)


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=20, unique=True),
    st.sampled_from([0.0, 0.12, 0.3, 1.0]),
    st.sampled_from(["iou", "malisiewicz"]),
)
def test_what_two_boxes_do_to_each_other(
    found: list[tuple[int, int]], overlap: float, rule: str
) -> None:
    """Pairs of boxes and of polygons by the one rule that chooses between two of them."""
    boxes = np.array([[x, y, x + 20, y + 20] for x, y in found], float).reshape(-1, 4)
    every = [(i, j) for i in range(len(boxes)) for j in range(i + 1, len(boxes))]
    apart = [
        (i, j) for i, j in every if len(suppressed(boxes[[i, j]], np.zeros(2), overlap, rule)) < 2
    ]
    first, second = rivals(boxes, overlap, rule)
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [
        (i, j) for i, j in apart if shapely.box(*boxes[i]).intersects(shapely.box(*boxes[j]))
    ]
    assert (np.diff(first) >= 0).all()
    shapes = shapely.box(*boxes.T)
    one, other = (np.array([pair[k] for pair in every], int) for k in (0, 1))
    assert [every[k] for k in np.flatnonzero(drops(shapes[one], shapes[other], overlap, rule))] == (
        apart
    )


def test_a_turned_square_is_measured_as_it_lies() -> None:
    square = shapely.box(0, 0, 20, 20)
    turned = shapely.affinity.rotate(square, 45)  # an octagon of 0.8284 of it in common
    common = 0.8284 / (2 - 0.8284)
    pair = np.array([square]), np.array([turned])
    assert drops(*pair, common - 1e-3).tolist() == [True]
    assert drops(*pair, common + 1e-3).tolist() == [False]


def test_neighbours_of_a_scan_are_suppressed_at_a_tenth() -> None:
    """Squares of 299 px, 90 px of them in common: 90 / 508 of their union."""
    boxes = np.array([[0, 0, 299, 299], [209, 0, 508, 299], [209, 209, 508, 508]])
    assert suppressed(boxes, np.array([0.7, 0.9, 0.8]), 0.1).tolist() == [1]
    assert suppressed(boxes, np.array([0.7, 0.9, 0.8]), 0.2).tolist() == [1, 2, 0]


@pytest.mark.parametrize("wrong", [{"overlap": 1.5}, {"rule": "best"}])
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="--nms"):
        suppressed(PUBLISHED, np.zeros(6), **wrong)  # type: ignore[arg-type]
