"""Photos that are nearly the same are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from aftermap.models.photos import twins
from aftermap.models.photos.open import open_photos
from aftermap.models.photos.twins import near_duplicates
from PIL import Image

Write = Callable[..., Path]


def test_a_photo_made_smaller_in_another_part_is_a_leak(tmp_path: Path, write_photo: Write) -> None:
    for number in range(12):
        write_photo(tmp_path / "train" / f"{number:02}.png", number, 120, 120)
    original = Image.open(tmp_path / "train" / "05.png")
    (tmp_path / "test").mkdir()
    brighter = Image.fromarray((np.asarray(original) * 0.8 + 40).astype(np.uint8))
    brighter.resize((70, 70)).save(tmp_path / "test" / "smaller.jpg", quality=80)
    original.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "test" / "turned.png")
    original.save(tmp_path / "train" / "again.png")
    photos = open_photos(tmp_path, 64)
    names = [photo.path.name for photo in photos.photos]
    found = {(names[t.first], names[t.second]): t.leak for t in near_duplicates(photos)}
    assert found == {
        ("smaller.jpg", "05.png"): True,
        ("smaller.jpg", "again.png"): True,
        ("05.png", "again.png"): False,
    }
    exact = [t for t in near_duplicates(photos, 0) if t.distance == 0]
    assert ("05.png", "again.png") in {(names[t.first], names[t.second]) for t in exact}


def test_distances_are_those_of_the_bits(
    tmp_path: Path, write_photo: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        write_photo(tmp_path / f"{number}.png", number)
    photos = open_photos(tmp_path, 72)
    bits = []
    for index in range(9):
        image = Image.fromarray(np.ascontiguousarray(photos.image(index).transpose(1, 2, 0)))
        grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BILINEAR)).astype(int)
        bits.append(np.diff(grey, axis=1) > 0)
    wanted = {(i, j): int((bits[i] != bits[j]).sum()) for i in range(9) for j in range(i + 1, 9)}
    whole = near_duplicates(photos, 64)
    assert {(t.first, t.second): t.distance for t in whole} == wanted
    monkeypatch.setattr(twins, "_ROWS", 2)
    assert near_duplicates(photos, 64) == whole


def test_photos_without_contrast_are_like_none(tmp_path: Path) -> None:
    for name, grey in (("a", 10), ("b", 200)):
        Image.new("RGB", (20, 20), (grey, grey, grey)).save(tmp_path / f"{name}.png")
    assert near_duplicates(open_photos(tmp_path, 16)) == []
