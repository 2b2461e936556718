"""Which chips are for training, validation and testing, and what pre-training may see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from aftermap.models.building_score import count_buildings
from aftermap.models.chips.open import open_chips
from aftermap.models.chips.parts import division_of, main_parts, pretraining_parts

Make = Callable[..., Path]


def names(parts: dict) -> dict[str, set[str]]:  # type: ignore[type-arg]
    return {part: {place.name for place in found.places} for part, found in parts.items()}


def test_parts_are_stable_and_disjoint(tmp_path: Path, make_folder: Make) -> None:
    make_folder(tmp_path, [0, 2], names=[f"chip{i}" for i in range(20)])
    found = names(main_parts(open_chips(tmp_path, classes=5)))
    assert [len(found[part]) for part in ("train", "validation", "test")] == [14, 3, 3]
    assert len(set.union(*found.values())) == 20
    assert names(main_parts(open_chips(tmp_path, classes=5))) == found


def test_pretraining_stays_within_the_training_part(tmp_path: Path, make_folder: Make) -> None:
    make_folder(tmp_path, [0, 2], names=[f"chip{i}" for i in range(60)])
    chips = open_chips(tmp_path, classes=5)
    main, before = names(main_parts(chips)), names(pretraining_parts(chips))
    assert before["train"] | before["held"] == main["train"]
    assert not before["train"] & before["held"]
    assert before["test"] == main["test"]


def test_places_without_damage_can_be_left_out(
    tmp_path: Path, make_folder: Make, write_image: Callable[[Path, np.ndarray], None]
) -> None:
    make_folder(tmp_path, [0, 1], names=[f"chip{i}" for i in range(20)])
    for i in range(10):
        write_image(tmp_path / "mask" / f"chip{i}.png", np.zeros((32, 32), np.uint8))
    chips = open_chips(tmp_path, classes=1)
    kept = names(main_parts(chips, intact=False))
    assert set.union(*kept.values()) == {f"chip{i}" for i in range(10, 20)}
    # Each part has its share of both, though nobody but the masks said which is which.
    every = names(main_parts(chips))
    assert all(kept[part] and every[part] - kept[part] for part in kept)


def test_buildings_are_shared_out_by_kind(
    tmp_path: Path, make_folder: Make, write_image: Callable[[Path, np.ndarray], None]
) -> None:
    """A few dense places hold most of the buildings, as a town does."""
    make_folder(tmp_path, [0, 1, 4], names=[f"chip{i}" for i in range(60)])
    for i in range(60):
        mask = np.zeros((32, 32), np.uint8)
        for k in range(25 if i % 6 == 0 else i % 3):
            row, column = divmod(k, 5)
            mask[6 * row : 6 * row + 4, 6 * column : 6 * column + 4] = 4 if k % 2 else 1
        write_image(tmp_path / "mask" / f"chip{i}.png", mask)
    parts = main_parts(open_chips(tmp_path, classes=1), division=division_of("unet-footprints"))
    counts = {
        name: np.sum([count_buildings(part.codes(i)) for i in range(len(part))], axis=0)
        for name, part in parts.items()
    }
    total = sum(counts.values())
    assert total.tolist() == [130 + 20 + 20, 120 + 20]
    for name, share in (("train", 0.7), ("validation", 0.2), ("test", 0.1)):
        assert counts[name] / total == pytest.approx([share, share], abs=0.05)
    empty = [sum(1 for i in range(len(p)) if not p.codes(i).any()) for p in parts.values()]
    assert empty == pytest.approx([7, 2, 1], abs=1)


def test_buildings_of_a_mask_are_counted() -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[0:2, 0:2], mask[2:4, 0:2], mask[5, 5], mask[6, 6], mask[0, 7] = 1, 3, 5, 5, 255
    assert count_buildings(mask) == (1, 2)
    assert count_buildings(np.zeros((4, 4), np.uint8)) == (0, 0)
