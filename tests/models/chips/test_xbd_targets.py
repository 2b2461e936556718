"""Targets by the published rules: small cases counted by hand, and properties of all rules."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from aftermap.models.chips.xbd_targets import EXACT, RULES, TargetRules, drawn, drawn_before
from aftermap.scenes.errors import Refused
from aftermap.scenes.xbd import XbdBuilding, XbdLabel

SIDE = 48
DUAL, BASELINE = RULES["dual-hrnet"], RULES["baseline"]
EVERY = [
    TargetRules(*values, border)
    for values in itertools.product(
        ("exact", "round", "truncate"),
        ("later", "background"),
        ("ignore", "no-damage"),
        ("hole", "filled"),
    )
    for border in (0, 2)
]


def label(*buildings: tuple[str | None, shapely.Geometry]) -> XbdLabel:
    listed = [XbdBuilding(f"u{k}", level, shape) for k, (level, shape) in enumerate(buildings)]
    return XbdLabel(Path("a.json"), tuple(listed), {"width": SIDE, "height": SIDE})


def test_the_rules_that_were_published() -> None:
    assert TargetRules("round", "later", "ignore", "filled", 0) == DUAL
    assert TargetRules("truncate", "background", "no-damage", "filled", 2) == BASELINE
    assert TargetRules("exact", "later", "ignore", "hole", 0) == EXACT


def test_a_rectangle_of_four_by_three() -> None:
    house = label(("destroyed", shapely.box(10, 20, 14, 23)))
    for rules, count in ((EXACT, 12), (DUAL, 20), (replace(BASELINE, border=0), 20)):
        mask = drawn(house, rules)
        assert (np.count_nonzero(mask == 4), np.count_nonzero(mask)) == (count, count)
    assert drawn(house, DUAL)[20:24, 10:15].all()


def test_rounding_and_truncation_differ() -> None:
    house = label(("destroyed", shapely.box(10.6, 20.6, 14.6, 23.6)))
    assert drawn(house, DUAL)[21:25, 11:16].all()
    assert np.count_nonzero(drawn(house, DUAL)) == 20
    assert drawn(house, replace(BASELINE, border=0))[20:24, 10:15].all()
    # The centre of pixel 10 is 10.5, outside.
    assert drawn(house, EXACT)[21:24, 11:15].all()
    assert np.count_nonzero(drawn(house, EXACT)) == 12


def test_the_border_of_the_baseline() -> None:
    house = label(("destroyed", shapely.box(10, 20, 20, 32)))
    mask = drawn(house, BASELINE)
    assert mask[22:31, 12:19].all()
    assert np.count_nonzero(mask) == 9 * 7
    # A shed of one pixel turns inside out, two pixels past its middle on every side.
    shed = drawn(label(("destroyed", shapely.box(10, 20, 11, 21))), BASELINE)
    assert shed[19:23, 9:13].all()
    assert np.count_nonzero(shed) == 16


@pytest.mark.parametrize("rules", EVERY, ids=str)
def test_overlaps_holes_and_levels(rules: TargetRules) -> None:
    ring = shapely.box(2, 2, 22, 22).difference(shapely.box(8, 8, 16, 16))
    buildings = label(
        ("un-classified", shapely.box(15, 30, 30, 45)),
        ("destroyed", shapely.box(4, 26, 20, 40)),
        ("minor-damage", ring),
        (None, shapely.box(36, 4, 46, 14)),
    )
    mask = drawn(buildings, rules)
    unknown = 255 if rules.unclassified == "ignore" else 1
    assert set(np.unique(mask).tolist()) == {0, 2, 4, unknown}
    assert mask[42, 24] == mask[9, 40] == unknown
    assert mask[30, 8] == 4
    assert mask[35, 17] == (0 if rules.overlap == "background" else unknown)
    assert mask[5, 12] == 2
    assert mask[12, 12] == (0 if rules.interiors == "hole" else 2)
    before = drawn_before(buildings, rules)
    assert np.array_equal(before, (mask > 0).astype(np.uint8))


def test_a_hole_shows_what_lies_under_it() -> None:
    ring = shapely.box(2, 2, 22, 22).difference(shapely.box(8, 8, 16, 16))
    both = label(("no-damage", shapely.box(4, 4, 20, 20)), ("destroyed", ring))
    for rules in (EXACT, replace(DUAL, interiors="hole")):
        assert drawn(both, rules)[12, 12] == 1
        assert drawn(both, rules)[5, 5] == 4


@pytest.mark.parametrize("rules", EVERY, ids=str)
def test_parts_edges_and_the_outside(rules: TargetRules) -> None:
    parts = shapely.MultiPolygon([shapely.box(2, 2, 9, 9), shapely.box(30, 30, 39, 39)])
    rim = shapely.box(40, -20, 80, 12)
    mask = drawn(label(("major-damage", parts), ("destroyed", rim)), rules)
    assert mask[5, 5] == mask[34, 34] == 3
    assert mask[0:9, 44:48].all()
    assert mask[20, 20] == 0
    far = label(("destroyed", shapely.box(500, 500, 600, 600)), ("destroyed", rim.buffer(-15)))
    assert not drawn(far, rules)[:, :30].any()


def test_exact_rules_agree_however_they_are_drawn() -> None:
    """One by one, as overlaps need it, and all at once."""
    rng = np.random.default_rng(0)
    hulls = [
        shapely.MultiPoint(rng.uniform(-5, 53, 2) + rng.uniform(-6, 6, (5, 2))).convex_hull
        for _ in range(12)
    ]
    houses = [("destroyed", hull) for hull in hulls]
    counts = sum(drawn(label(house), EXACT) > 0 for house in houses)
    found = drawn(label(*houses), replace(EXACT, overlap="background"))
    assert np.array_equal(found > 0, counts == 1)
    assert np.array_equal(drawn(label(*houses), EXACT) > 0, counts >= 1)


def test_absurd_sizes_are_refused() -> None:
    with pytest.raises(Refused, match="says that its image is 1000000 × 1000000 px"):
        drawn(label().sized((1_000_000, 1_000_000)), DUAL)
