"""Photos are divided by the digests of their names."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from aftermap.models.hash_split import hash_part, hash_split, percent
from aftermap.models.photos.photoset import Photo, PhotoSet
from aftermap.scenes.errors import UsageError
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.jpg", 81.5861566),
        ("b.jpg", 10.7616902),
        ("c.jpg", 10.8003394),
        ("damage_001.jpg", 3.8370587),
    ],
)
def test_the_numbers_of_tensorflow_s_script(name: str, wanted: float) -> None:
    assert percent(name) == pytest.approx(wanted, abs=5e-8)


@given(st.text(min_size=1, max_size=20))
def test_the_formula(name: str) -> None:
    wanted = int(hashlib.sha1(name.encode()).hexdigest(), 16) % 134217728 * (100.0 / 134217727)
    assert percent(name) == wanted
    part = hash_part(name, 30, 20)
    assert part == ("validation" if wanted < 30 else "test" if wanted < 50 else "train")


def test_parts() -> None:
    assert hash_part("damage_001.jpg") == "validation"
    assert hash_part("damage_001.jpg", 3, 1) == "test"
    assert hash_part("a.jpg") == "train"
    assert hash_part("a.jpg", 81, 1) == "test"
    assert hash_part("a.jpg", 0, 0) == "train"


@pytest.mark.parametrize("shares", [(-1.0, 10.0), (10.0, -1.0), (60.0, 40.0)])
def test_shares_that_leave_nothing(shares: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match=re.escape(str(shares[0]))):
        hash_part("a.jpg", *shares)


def test_folders_do_not_matter_and_shares_come_out() -> None:
    photos = [Photo(Path(f"{i % 7}/damage_{i:05}.jpg"), True, "town") for i in range(5000)]
    divided = hash_split(PhotoSet(photos, 8), 20, 10)
    assert [len(divided.part(s)) / 5000 for s in ("validation", "test", "train")] == pytest.approx(
        [0.2, 0.1, 0.7], abs=0.02
    )
    moved = [Photo(Path("elsewhere") / p.path.name) for p in photos]
    assert [p.split for p in hash_split(PhotoSet(moved, 8), 20, 10).photos] == [
        p.split for p in divided.photos
    ]
    assert divided.photos[0].town == "town"
