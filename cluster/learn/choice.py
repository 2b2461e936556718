"""Which squares to look at next: those that a model can tell least, those like none, those in dispute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

SHARES: Mapping[str, float] = {
    "uncertain": 0.4,
    "diverse": 0.25,
    "disagreement": 0.25,
    "audit": 0.1,
}
"""Of "mixed". What is chosen by chance tells how right a model is, as no other choice does."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Squares, and what is known of them."""

    features: np.ndarray
    """fp32 (n, d)."""
    known: np.ndarray
    """Of the squares that were learnt from, fp32 (m, d); m may be 0."""
    scores: np.ndarray | None = None
    """What the model says, 0-1, (n,); None without a model."""
    threshold: float = 0.5
    others: tuple[np.ndarray, ...] = ()
    """What others say, 0-1, (n,) each: a second classifier, a run; NaN: nothing."""


def choose(pool: Pool, how: str, count: int, seed: int = 0) -> list[tuple[int, str]]:
    """Numbers of at most `count` squares, each once, and why: a name of `SHARES`.

    `how` is such a name, or "mixed": all in turn, by their shares, each passing over what others have
    taken. Without a model's scores nothing is uncertain or in dispute, and those shares are of
    diverse squares.
    """
    shares = dict(SHARES) if how == "mixed" else {how: 1.0}
    if pool.scores is None:
        moved = sum(shares.pop(name, 0.0) for name in ("uncertain", "disagreement"))
        shares["diverse"] = shares.get("diverse", 0.0) + moved
    count = min(count, len(pool.features))
    wanted = {name: round(share * count) for name, share in shares.items()}
    wanted[next(iter(wanted))] += count - sum(wanted.values())
    free = np.ones(len(pool.features), bool)
    chosen: dict[str, list[int]] = {}
    for name, number in wanted.items():
        chosen[name] = _CHOICES[name](pool, free, number, seed)
        free[chosen[name]] = False
    return _in_turn(chosen)


def uncertain(pool: Pool, free: np.ndarray, count: int, seed: int = 0) -> list[int]:
    """The squares whose scores lie nearest the threshold."""
    assert pool.scores is not None
    return _smallest(np.abs(pool.scores - pool.threshold), free, count)


def disagreement(pool: Pool, free: np.ndarray, count: int, seed: int = 0) -> list[int]:
    """The squares of which somebody else says what is furthest from the model's score."""
    assert pool.scores is not None
    apart = [np.nan_to_num(np.abs(pool.scores - other)) for other in pool.others]
    return _smallest(-np.max(apart, axis=0, initial=0.0), free, count)


def diverse(pool: Pool, free: np.ndarray, count: int, seed: int = 0) -> list[int]:
    """Squares that are least like those known and chosen: each the furthest from all of them.

    Greedy k-centre by Euclidean distance of standardised features (Sener and Savarese 2018,
    algorithm 1). Where nothing is known, the first is the one nearest the mean.
    """
    if not free.any() or not count:
        return []
    features, known = _standardised(pool)
    nearest = np.full(len(features), np.inf)
    for one in known:
        nearest = np.minimum(nearest, _squared_distance(features, one))
    if not len(known):
        nearest = -_squared_distance(features, features.mean(axis=0))
    chosen: list[int] = []
    open_ = free.copy()
    for _ in range(min(count, int(free.sum()))):
        best = int(np.argmax(np.where(open_, nearest, -np.inf)))
        chosen.append(best)
        open_[best] = False
        if len(chosen) == 1 and not len(known):
            nearest = np.full(len(features), np.inf)
        nearest = np.minimum(nearest, _squared_distance(features, features[best]))
    return chosen


def audit(pool: Pool, free: np.ndarray, count: int, seed: int = 0) -> list[int]:
    """Squares by chance."""
    numbers = np.flatnonzero(free)
    return np.random.default_rng(seed).permutation(numbers)[:count].tolist()


_CHOICES: Mapping[str, Callable[[Pool, np.ndarray, int, int], list[int]]] = {
    "uncertain": uncertain,
    "diverse": diverse,
    "disagreement": disagreement,
    "audit": audit,
}


def _smallest(values: np.ndarray, free: np.ndarray, count: int) -> list[int]:
    numbers = np.flatnonzero(free)
    return numbers[np.argsort(values[numbers], kind="stable")][:count].tolist()


def _standardised(pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    mean, spread = pool.features.mean(axis=0), pool.features.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    return (pool.features - mean) / scale, (pool.known - mean) / scale


def _squared_distance(features: np.ndarray, one: np.ndarray) -> np.ndarray:
    return ((features - one) ** 2).sum(axis=1)


def _in_turn(chosen: Mapping[str, list[int]]) -> list[tuple[int, str]]:
    """Evenly mixed, so that the first few are of every kind."""
    placed = [
        ((place + 0.5) / len(numbers), rank, number, name)
        for rank, (name, numbers) in enumerate(chosen.items())
        for place, number in enumerate(numbers)
    ]
    return [(number, name) for *_, number, name in sorted(placed)]
