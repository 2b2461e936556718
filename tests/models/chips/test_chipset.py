"""Sets of chips: what masks mean, subsets, and what is said of damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from aftermap.models.batches import batches, normalised, stacked
from aftermap.models.chips.chip import Chip, without_nodata
from aftermap.models.chips.chipset import coded
from aftermap.models.chips.folders import read_folders
from aftermap.models.chips.open import open_chips

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def test_subsets_keep_order_and_meaning(tmp_path: Path, make_folder: Callable[..., Path]) -> None:
    chips = open_chips(make_folder(tmp_path, [0, 1]), classes=1)
    part = chips.subset([3, 1])
    assert [p.name for p in part.places] == ["chip3", "chip1"]
    assert part.values == {0, 5}
    assert np.array_equal(part.chip(0).codes, chips.chip(3).codes)
    words = [replace(p, split="test" if i else "train") for i, p in enumerate(chips.places)]
    placed = chips.placed(words)
    assert (len(placed.part("test")), len(placed.part("train"))) == (3, 1)


def test_binary_is_found_over_all_masks(
    tmp_path: Path,
    make_folder: Callable[..., Path],
    write_image: Callable[[Path, np.ndarray], None],
) -> None:
    """A mask of zeros says nothing, and one of 0 and 1 may still be codes if another holds 2."""
    make_folder(tmp_path, [0, 1])
    write_image(tmp_path / "mask" / "chip2.png", np.zeros((32, 32), np.uint8))
    found = read_folders(tmp_path)
    assert found is not None
    assert coded(found, 1).coding == "binary"
    write_image(tmp_path / "mask" / "chip2.png", np.full((32, 32), 2, np.uint8))
    assert coded(found, 1).coding == "codes"


def test_damage_is_told_without_reading_pixels(
    tmp_path: Path,
    make_folder: Callable[..., Path],
    write_image: Callable[[Path, np.ndarray], None],
) -> None:
    make_folder(tmp_path, [0, 1, 3])
    write_image(tmp_path / "mask" / "chip2.png", np.ones((32, 32), np.uint8))
    chips = open_chips(tmp_path, classes=5)
    assert [chips.damaged(i) for i in range(4)] == [True, True, False, True]
    assert [chips.chip(i).shows_damage for i in range(4)] == [True, True, False, True]


def test_chips_are_checked_at_birth() -> None:
    image = np.ones((3, 8, 8), np.uint8)
    with pytest.raises(ValueError, match="do not match"):
        Chip(image, image, np.zeros((8, 9), np.uint8))
    codes = np.full((8, 8), 255, np.uint8)
    assert Chip(image, image, codes, damaged=True).shows_damage
    assert not Chip(image, image, codes).shows_damage


def test_nodata_of_either_image_is_left_out() -> None:
    pre, post = np.ones((2, 3, 4, 4), np.uint8)
    pre[:, 0], post[:, :, 0], pre[0, 2, 2] = 0, 0, 0
    codes = without_nodata(pre, post, np.full((4, 4), 3, np.uint8))
    expected = np.full((4, 4), 3, np.uint8)
    expected[0] = expected[:, 0] = 255
    assert np.array_equal(codes, expected)


def numbered(index: int) -> Chip:
    image = np.full((3, 16, 16), 10 + index, np.uint8)
    return Chip(image, image, np.zeros((16, 16), np.uint8), name=str(index))


def test_batches_do_not_depend_on_the_workers() -> None:
    runs = [list(batches(numbered, 3, 4, workers)) for workers in (1, 3)]
    assert [len(run) for run in runs] == [4, 4]
    for a, b in zip(*runs, strict=True):
        assert a.pre.equal(b.pre)
        assert a.codes.equal(b.codes)
        assert a.names == b.names
    assert [int(x) for batch in runs[0] for x in batch.pre[:, 0, 0, 0]] == list(range(10, 22))
    shared = list(batches(numbered, 3, 4, 2, range(1, 3)))
    assert shared[1].names == ("4", "5")


def test_normalised() -> None:
    x = normalised(stacked([numbered(0)]).pre, (0.1, 0.2, 0.3), (0.5, 0.5, 0.25))
    assert x[0, :, 0, 0].tolist() == pytest.approx(
        [(10 / 255 - m) / s for m, s in ((0.1, 0.5), (0.2, 0.5), (0.3, 0.25))]
    )
