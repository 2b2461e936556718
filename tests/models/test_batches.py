"""Batches and mixtures: the same whatever prepares them, in the shares asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from aftermap.models.augment import PAPER, PLAIN, Augment
from aftermap.models.batches import Batch, batches, normalised, stacked
from aftermap.models.chips.chip import Chip
from aftermap.models.chips.mixture import Mixture, Source, apportioned, order


class Numbers:
    def __len__(self) -> int:
        return 5

    def damaged(self, index: int) -> bool | None:
        return None

    def chip(self, index: int, rng: np.random.Generator | None = None) -> Chip:
        image = np.full((3, 16, 16), 10 + index, np.uint8)
        return Chip(image, image, np.zeros((16, 16), np.uint8), name=str(index))


def supply(mixture: Mixture, count: int, steps: int, workers: int) -> list[Batch]:
    chosen = mixture.order(count * steps, 1, 2)
    draw = lambda place: mixture.draw(chosen[place], 16, (1, 2, place))  # noqa: E731
    return list(batches(draw, count, steps, workers))


def test_batches_do_not_depend_on_the_workers() -> None:
    mixture = Mixture([Source(Numbers(), Augment(), 1.0)])
    runs = [supply(mixture, 3, 4, workers) for workers in (1, 3)]
    assert len(runs[0]) == 4
    for a, b in zip(*runs, strict=True):
        assert a.pre.equal(b.pre)
        assert a.post.equal(b.post)
        assert a.codes.equal(b.codes)
        assert a.names == b.names
    plain = supply(Mixture([Source(Numbers(), PLAIN, 1.0)]), 1, 5, 2)
    assert sorted(int(batch.pre[0, 0, 0, 0]) for batch in plain) == [10, 11, 12, 13, 14]
    assert not np.array_equal(order(5, 12, (0, 0)), order(5, 12, (0, 1)))


def test_a_batch_is_split_in_order() -> None:
    whole = supply(Mixture([Source(Numbers(), PLAIN, 1.0)]), 4, 1, 1)[0]
    first, second = whole.split(2)
    assert first.names + second.names == whole.names
    assert torch.equal(torch.cat([first.post, second.post]), whole.post)


def test_sources_are_mixed_by_weight() -> None:
    mixture = Mixture([Source(Numbers(), PLAIN, 3.0), Source(Numbers(), PAPER, 1.0)])
    assert len(mixture) == 10
    drawn = mixture.order(400, 5, 0)
    counts = np.bincount(drawn, minlength=10)
    # Within a source all chips come before one comes again.
    assert set(counts[:5]) == {60}
    assert set(counts[5:]) == {20}
    assert mixture.order(400, 5, 0) == drawn != mixture.order(400, 5, 1)
    assert mixture.chip(7).name == "2"
    assert apportioned([1, 1, 1], 10) == [3, 4, 3]
    assert sum(apportioned([0.2, 5, 3], 77)) == 77


def test_normalised() -> None:
    batch = stacked([Numbers().chip(0)])
    x = normalised(batch.pre, (0.1, 0.2, 0.3), (0.5, 0.5, 0.25))
    assert x[0, :, 0, 0].tolist() == pytest.approx(
        [(10 / 255 - m) / s for m, s in ((0.1, 0.5), (0.2, 0.5), (0.3, 0.25))]
    )
