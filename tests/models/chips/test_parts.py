"""Which chips are for training, validation and testing, and what pre-training may see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from aftermap.models.chips.open import open_chips
from aftermap.models.chips.parts import main_parts, pretraining_parts

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
