"""What is chosen, against plain statements of the same."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from aftermap.cluster.learn.choice import SHARES, Pool, choose
from scipy.spatial.distance import cdist


def _pool(count: int = 300, seed: int = 0, known: int = 20, scored: bool = True) -> Pool:
    rng = np.random.default_rng(seed)
    return Pool(
        rng.normal(size=(count, 6)).astype(np.float32),
        rng.normal(size=(known, 6)).astype(np.float32),
        rng.random(count) if scored else None,
        0.3,
        (rng.random(count), np.where(rng.random(count) < 0.2, rng.random(count), np.nan)),
    )


def test_uncertain_squares_are_the_nearest_to_the_threshold() -> None:
    pool = _pool()
    chosen = [number for number, _ in choose(pool, "uncertain", 40)]
    assert pool.scores is not None
    distance = np.abs(pool.scores - 0.3)
    others = np.setdiff1d(np.arange(300), chosen)
    assert distance[chosen].max() <= distance[others].min()
    assert list(distance[chosen]) == sorted(distance[chosen])


def test_squares_in_dispute_are_those_where_anybody_differs_most() -> None:
    pool = _pool()
    assert pool.scores is not None
    apart = [
        max(abs(score - value) for value in said if not np.isnan(value))
        for score, *said in zip(pool.scores, *pool.others, strict=True)
    ]
    chosen = [number for number, _ in choose(pool, "disagreement", 25)]
    assert chosen == sorted(range(300), key=lambda n: -apart[n])[:25]


def test_diverse_squares_are_each_the_furthest_from_all_before() -> None:
    pool = _pool()
    chosen = [number for number, _ in choose(pool, "diverse", 30)]
    scale = pool.features.std(axis=0)
    for place, number in enumerate(chosen):
        seen = np.concatenate([pool.known, pool.features[chosen[:place]]])
        nearest = cdist(pool.features / scale, seen / scale).min(axis=1)
        assert nearest[number] == pytest.approx(nearest.max(), rel=1e-5)


def test_diverse_squares_cover_all_within_twice_the_least_radius() -> None:
    rng = np.random.default_rng(5)
    features = rng.normal(size=(12, 2)).astype(np.float32)
    pool = Pool(features, np.empty((0, 2), np.float32))
    chosen = [number for number, _ in choose(pool, "diverse", 3)]
    scaled = features / features.std(axis=0)
    apart = cdist(scaled, scaled)
    best = min(apart[:, list(some)].min(axis=1).max() for some in combinations(range(12), 3))
    assert apart[:, chosen].min(axis=1).max() <= 2 * best + 1e-6


def test_mixed_squares_are_of_every_kind_by_their_shares_from_the_beginning() -> None:
    chosen = choose(_pool(), "mixed", 100)
    assert len({number for number, _ in chosen}) == 100
    assert Counter(reason for _, reason in chosen) == {n: round(100 * s) for n, s in SHARES.items()}
    assert {reason for _, reason in chosen[:10]} == set(SHARES)


@pytest.mark.parametrize("how", ["mixed", "uncertain", "diverse", "disagreement", "audit"])
@pytest.mark.parametrize("scored", [True, False])
def test_as_many_as_there_are_and_each_once(how: str, scored: bool) -> None:
    pool = _pool(count=17, scored=scored)
    chosen = choose(pool, how, 200)
    assert sorted(number for number, _ in chosen) == list(range(17))
    if not scored:
        assert {reason for _, reason in chosen} <= {"diverse", "audit"}
    assert choose(pool, how, 200) == chosen


def test_squares_for_the_audit_are_by_chance() -> None:
    pool = _pool(count=50)
    times = Counter(n for seed in range(400) for n, _ in choose(pool, "audit", 10, seed))
    assert set(times) == set(range(50))
    assert max(times.values()) < 80 + 5 * 8
    assert min(times.values()) > 80 - 5 * 8
