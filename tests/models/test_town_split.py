"""Towns are divided in all ways, and photos are drawn from them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from aftermap.models.photos.photoset import Photo, PhotoSet
from aftermap.models.town_split import TownSplit, draw, held_out, permuted
from aftermap.scenes.errors import Refused

TOWNS = ("U", "J", "S")


def town_photos(each: int = 30) -> PhotoSet:
    photos = [
        Photo(Path(f"{town}/{damaged}/{i}.jpg"), damaged, town)
        for town in TOWNS
        for damaged in (True, False)
        for i in range(each)
    ]
    return PhotoSet([*photos, Photo(Path("U/x.jpg"), None, "U")], 8, "towns")


def test_the_six_rows_of_the_paper_s_table() -> None:
    codes = [split.code for split in permuted(TOWNS)]
    assert codes == ["U-J-S", "U-S-J", "J-U-S", "J-S-U", "S-U-J", "S-J-U"]


def test_two_towns_train_and_one_tests() -> None:
    assert held_out(TOWNS) == (
        TownSplit(("J", "S"), "U"),
        TownSplit(("U", "S"), "J"),
        TownSplit(("U", "J"), "S"),
    )
    assert [split.code for split in held_out(TOWNS)] == ["J+S-U", "U+S-J", "U+J-S"]


def test_too_few_towns() -> None:
    with pytest.raises(Refused, match=r"from 3 towns .* found 2 \(U, J\)"):
        permuted(["U", "J"])
    with pytest.raises(Refused, match=r"found 0 \(none\)"):
        held_out([])


@pytest.mark.parametrize("split", [*permuted(TOWNS), *held_out(TOWNS)], ids=lambda s: s.code)
def test_parts_are_of_their_towns_and_balanced(split: TownSplit) -> None:
    photos = town_photos()
    parts = draw(photos, split, 10, seed=1, test_size=25)
    assert set(parts.train.towns) <= set(split.train)
    assert parts.test.towns == (split.test,)
    assert parts.validation.towns == ((split.validation,) if split.validation else ())
    for part, size in ((parts.train, 10), (parts.test, 25)):
        assert Counter(part.labels.tolist()) == {False: size, True: size}
    assert len(parts.validation) == (20 if split.validation else 0)
    paths = [p.path for part in (parts.train, parts.test, parts.validation) for p in part.photos]
    assert len(paths) == len(set(paths))


def test_sizes_are_nested_and_tested_on_the_same() -> None:
    photos, split = town_photos(), permuted(TOWNS)[0]
    small, large = (draw(photos, split, size, 3, 20) for size in (5, 20))
    assert set(small.train.photos) < set(large.train.photos)
    assert small.test.photos == large.test.photos
    again = draw(photos, split, 5, 3, 20)
    assert again.train.photos == small.train.photos
    other = draw(photos, split, 5, 4, 20)
    assert other.train.photos != small.train.photos


def test_too_few_photos_are_refused_with_numbers() -> None:
    with pytest.raises(Refused, match="100 photos without damage are needed from J; towns has 30"):
        draw(town_photos(), permuted(TOWNS)[0], 10, 0)
