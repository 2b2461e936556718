"""Totals and their intervals: how often they hold the truth, over simulated disasters."""

from __future__ import annotations

import numpy as np
import pytest
from aftermap.kernels.totals import Expected, Stratum, audited

CALLED = np.array(
    [
        [0.00, 0.90, 0.08, 0.02, 0.00],
        [0.05, 0.40, 0.45, 0.10, 0.00],
        [0.05, 0.10, 0.15, 0.60, 0.10],
        [0.05, 0.00, 0.00, 0.10, 0.85],
    ]
)
"""Per class that a run calls: the shares of what is true (0 no building, 1-4)."""

GROUPS = {"none": (0,), "intact": (1,), "damaged": (2, 3, 4), "destroyed": (4,)}


def test_expected_numbers_are_those_of_a_simulation() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.4] * 4, 500)
    expected = Expected(4)
    expected.add(p[:200])
    expected.add(np.vstack([p[200:], [np.nan] * 4]))
    draws = np.array(
        [np.bincount((p.cumsum(1) < rng.random((500, 1))).sum(1), minlength=4) for _ in range(4000)]
    )
    *levels, damaged = expected.totals()
    assert expected.buildings == 500
    for k, total in enumerate(levels):
        low, high = np.quantile(draws[:, k], [0.025, 0.975])
        assert total.count == pytest.approx(draws[:, k].mean(), rel=0.02)
        assert (total.low, total.high) == pytest.approx((low, high), rel=0.05)
    assert damaged.count == pytest.approx(sum(t.count for t in levels[1:]))


@pytest.mark.parametrize(
    ("sizes", "looked_at"),
    [((3000, 150, 150, 400), (13, 12, 12, 13)), ((300, 20, 30, 60), (20, 10, 10, 10))],
)
def test_audit_intervals_hold_the_truth_as_often_as_they_say(
    sizes: tuple[int, ...], looked_at: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(1)
    held = dict.fromkeys(GROUPS, 0)
    for trial in range(150):
        truth = [rng.choice(5, size, p=p) for size, p in zip(sizes, CALLED, strict=True)]
        strata = [
            Stratum(
                len(t), tuple(np.bincount(rng.choice(t, n, replace=False), minlength=5).tolist())
            )
            for t, n in zip(truth, looked_at, strict=True)
        ]
        found = audited(strata, GROUPS, seed=trial)
        everything = np.concatenate(truth)
        for name, classes in GROUPS.items():
            real = np.isin(everything, classes).sum()
            held[name] += found[name].low <= real <= found[name].high
    assert all(count / 150 >= 0.90 for count in held.values()), held


def test_a_stratum_seen_whole_leaves_no_doubt() -> None:
    found = audited([Stratum(10, (0, 7, 3)), Stratum(4, (1, 0, 3))], {"x": (1,), "y": (2,)})
    assert [(t.count, t.low, t.high) for t in found.values()] == [(7, 7, 7), (6, 6, 6)]


def test_more_answers_than_buildings_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="11 answers for a stratum of 10"):
        Stratum(10, (11, 0))
