"""Folders of photos in the layouts that are known."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from aftermap.models.photos.open import open_photos
from aftermap.models.photos.photoset import Photo, PhotoSet
from aftermap.scenes.errors import Refused, UsageError
from aftermap.scenes.places import Place, write_places
from PIL import Image

Write = Callable[..., Path]


def told(photos: PhotoSet) -> dict[str, tuple[bool | None, str, str]]:
    return {p.path.name: (p.damaged, p.town, p.split) for p in photos.photos}


def test_a_plain_folder(tmp_path: Path, write_photo: Write) -> None:
    for number, name in enumerate(["b.JPG", "a.png", "c.tif", "d.webp"]):
        write_photo(tmp_path / name, number)
    (tmp_path / "notes.txt").write_text("no photo")
    (tmp_path / ".a.png").write_text("no photo")
    (tmp_path / ".thumbnails").mkdir()
    write_photo(tmp_path / ".thumbnails" / "x.png")
    photos = open_photos(tmp_path, side=16)
    assert [p.path.name for p in photos.photos] == ["a.png", "b.JPG", "c.tif", "d.webp"]
    assert len(photos) == 4
    assert photos.image(0).shape == (3, 16, 16)
    assert photos.label(0) is None
    assert photos.towns == ()
    assert len(photos.labelled) == 0
    assert photos.source == str(tmp_path)
    with pytest.raises(Refused, match=r"4 have no label, such as .*a\.png"):
        _ = photos.labels


@pytest.mark.parametrize("order", ["town/split/class", "split/town/class", "class/town/split"])
def test_classes_towns_and_parts_in_any_order(
    tmp_path: Path, write_photo: Write, order: str
) -> None:
    number = 0
    for town in ("Juchitán", "Xadani"):
        for split in ("train", "val", "test"):
            for name in ("damage", "no_damage"):
                words = {"town": town, "split": split, "class": name}
                folder = tmp_path.joinpath(*(words[word] for word in order.split("/")))
                write_photo(folder / f"{number}.png", number)
                number += 1
    photos = open_photos(tmp_path, 8)
    assert len(photos) == 12
    assert photos.towns == ("Juchitán", "Xadani")
    validation = photos.part("validation")
    assert len(validation) == 4
    assert sorted(validation.labels.tolist()) == [False, False, True, True]
    assert len(photos.town("Xadani").part("train")) == 2
    photos.check_classes()


def test_one_class_is_told(tmp_path: Path, write_photo: Write) -> None:
    write_photo(tmp_path / "damage" / "a.png", 1)
    write_photo(tmp_path / "other" / "b.png", 2)
    photos = open_photos(tmp_path, 8)
    assert len(photos.labelled) == 1
    with pytest.raises(Refused, match="1 with, 0 without, and 1 of which nobody said"):
        photos.check_classes()


def test_corrupt_photos_are_told_and_left_out(tmp_path: Path, write_photo: Write) -> None:
    for number in range(20):
        write_photo(tmp_path / f"{number:02}.jpg", number, 80, 80)
    broken = tmp_path / "07.jpg"
    broken.write_bytes(broken.read_bytes()[:700])
    (tmp_path / "03.jpg").write_bytes(b"")
    photos = open_photos(tmp_path, 8)
    assert len(photos) == 18
    assert [u.path.name for u in photos.unreadable] == ["03.jpg", "07.jpg"]
    assert "truncated" in photos.unreadable[1].reason
    assert photos.part("").unreadable == photos.unreadable


def test_nothing_readable_is_refused(tmp_path: Path, write_photo: Write) -> None:
    with pytest.raises(Refused, match="There is no folder"):
        open_photos(tmp_path / "none")
    with pytest.raises(Refused, match=r"holds no photo .* Change --data"):
        open_photos(tmp_path)
    (tmp_path / "a.jpg").write_text("")
    with pytest.raises(Refused, match=r"Of 1 files none can be: .*a\.jpg"):
        open_photos(tmp_path)
    with pytest.raises(UsageError, match="side of 0 px"):
        open_photos(tmp_path, 0)


def test_photos_that_are_gone_later(tmp_path: Path, write_photo: Write) -> None:
    path = write_photo(tmp_path / "a.png")
    photos = open_photos(tmp_path, 8)
    path.unlink()
    with pytest.raises(Refused, match=r"a\.png cannot be read"):
        photos.image(0)
    with pytest.raises(Refused, match=r"a\.png cannot be read"):
        photos.digest(0)


def test_digests_tell_images_apart(tmp_path: Path, write_photo: Write) -> None:
    for name, seed in (("a.png", 0), ("b.png", 1), ("c.png", 0)):
        write_photo(tmp_path / name, seed)
    first, second, third = (open_photos(tmp_path, 8).digest(i) for i in range(3))
    assert first == third != second


def test_dad(tmp_path: Path, write_photo: Write) -> None:
    names = [f"nepal_eq_{d}_im_{i}.jpg" for i, d in enumerate(["none", "mild", "severe", "none"])]
    for number, name in enumerate(names):
        write_photo(tmp_path / "nepal_eq" / name, number)
    (tmp_path / "nepal.train").write_text(f"nepal_eq/{names[0]} 0\nnepal_eq/{names[1]} 1\n")
    (tmp_path / "nepal.test").write_text(f"nepal_eq/{names[2]} 2\nnepal_eq/missing.jpg 0\n")
    photos = open_photos(tmp_path, 8)
    assert told(photos) == {
        names[0]: (False, "nepal_eq", "train"),
        names[1]: (True, "nepal_eq", "train"),
        names[2]: (True, "nepal_eq", "test"),
        names[3]: (False, "nepal_eq", ""),
    }
    assert [u.path.name for u in photos.unreadable] == ["missing.jpg"]
    assert "nepal.test, line 2" in photos.unreadable[0].reason


def test_dad_as_deep_disaster_regroups_it(tmp_path: Path, write_photo: Write) -> None:
    write_photo(tmp_path / "gg/train/0.nodamage/gg_none_im_1.jpg", 1)
    write_photo(tmp_path / "gg/test/1.damage/gg_mild_im_1.jpg", 2)
    photos = open_photos(tmp_path, 8)
    assert told(photos) == {
        "gg_none_im_1.jpg": (False, "gg", "train"),
        "gg_mild_im_1.jpg": (True, "gg", "test"),
    }


def test_a_list_that_contradicts_a_name_is_refused(tmp_path: Path, write_photo: Write) -> None:
    write_photo(tmp_path / "gg_none_im_1.jpg")
    (tmp_path / "gg.dev").write_text("gg_none_im_1.jpg 2")
    with pytest.raises(Refused, match=r"undamaged by its name or folder, but not by gg\.dev"):
        open_photos(tmp_path, 8)


def test_the_after_image_of_chips(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = ("damaged", "intact", "")
    places = [
        Place(f"sheet_{i}", label, split=split)  # type: ignore[arg-type]
        for i, (label, split) in enumerate(zip(labels, ("train", "test", ""), strict=True))
    ]
    write_places(tmp_path / "places.csv", places)
    rows = ["place,when,date,name,mask"]
    for place in places:
        for when in ("pre", "post"):
            path = tmp_path / when / f"{place.name}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(rng.integers(1, 255, (16, 16, 3), np.uint8)).save(path)
            rows.append(f"{place.name},{when},2023-02-0{1 if when == 'pre' else 9},{path.name},")
    (tmp_path / "images.csv").write_text("\n".join(rows) + "\n")
    photos = open_photos(tmp_path, side=16)
    assert told(photos) == {
        "sheet_0": (True, "sheet", "train"),
        "sheet_1": (False, "sheet", "test"),
        "sheet_2": (None, "sheet", ""),
    }
    with rasterio.open(tmp_path / "post/sheet_1.png") as source:
        assert np.array_equal(photos.image(1), source.read())
    assert photos.digest(0) != photos.digest(1)
    (tmp_path / "post/sheet_2.png").write_bytes(b"")
    assert len(open_photos(tmp_path, side=16).unreadable) == 1


@pytest.mark.real
def test_real_chips() -> None:
    root = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "train" / "harvey"
    if not root.is_dir():
        pytest.skip(f"real chips are not at {root}")
    photos = open_photos(root, side=32)
    assert len(photos)
    assert photos.image(0).shape == (3, 32, 32)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_photos_that_may_not_be_read(tmp_path: Path, write_photo: Write) -> None:
    write_photo(tmp_path / "a.png", 1).chmod(0)
    write_photo(tmp_path / "b.png", 2)
    assert len(open_photos(tmp_path, 8).unreadable) == 1


def test_a_set_made_by_hand(tmp_path: Path, write_photo: Write) -> None:
    path = write_photo(tmp_path / "a.png")
    photos = PhotoSet([Photo(path, True), Photo(path, False)], 8, "two photos")
    assert photos.labels.tolist() == [True, False]
    assert photos.subset([1]).label(0) is False
