"""What the names of folders and files say of photos."""

from __future__ import annotations

from pathlib import Path, PurePath

import pytest
from aftermap.models.photos.lists import read_lists
from aftermap.models.photos.names import Told, told_by
from aftermap.scenes.errors import Refused


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("a.jpg", Told()),
        ("damage/a.jpg", Told(True)),
        ("no_damage/a.jpg", Told(False)),
        ("1.damage/a.jpg", Told(True)),
        ("0.nodamage/a.jpg", Told(False)),
        ("Damaged/a.jpg", Told(True)),
        ("undamaged/a.jpg", Told(False)),
        ("not-damaged/a.jpg", Told(False)),
        ("little_or_none/a.jpg", Told(False)),
        ("severe/a.jpg", Told(True)),
        ("Xadani/damage/a.jpg", Told(True, "Xadani")),
        ("damage/Xadani/a.jpg", Told(True, "Xadani")),
        ("train/damage/a.jpg", Told(True, "", "train")),
        ("damage/val/a.jpg", Told(True, "", "validation")),
        ("ecuador_eq/test/1.damage/a.jpg", Told(True, "ecuador_eq", "test")),
        ("test/ecuador_eq/0.nodamage/a.jpg", Told(False, "ecuador_eq", "test")),
        ("oaxaca/Unión/a.jpg", Told(None, "oaxaca/Unión")),
        ("nepal_eq_none_im_12.jpg", Told(False, "nepal_eq")),
        ("nepal_eq_mild_im_12.jpg", Told(True, "nepal_eq")),
        ("x/nepal_eq_severe_im_12.jpg", Told(True, "x")),
        ("nepal_eq_mild_image.jpg", Told()),
    ],
)
def test_paths(path: str, told: Told) -> None:
    assert told_by(PurePath(path)) == told


@pytest.mark.parametrize(
    ("path", "words"),
    [("damage/intact/a.jpg", "damaged and undamaged"), ("train/test/a.jpg", "test and train")],
)
def test_contradictions_are_refused(path: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        told_by(PurePath(path))


def written(folder: Path, **lists: str) -> list[Path]:
    paths = [folder / f"nepal_eq.{name}" for name in lists]
    for path, text in zip(paths, lists.values(), strict=True):
        path.write_text(text)
    return paths


def test_lists(tmp_path: Path) -> None:
    paths = written(
        tmp_path,
        train="nepal_eq/nepal_eq_none_im_1.jpg 0\n\nwith a space.jpg\t2\n",
        dev="nepal_eq/nepal_eq_mild_im_2.jpg 1",
        test="c.jpg 0\n",
    )
    found = {name: (x.split, x.damaged) for name, x in read_lists(paths).items()}
    assert found == {
        "nepal_eq_none_im_1.jpg": ("train", False),
        "with a space.jpg": ("train", True),
        "nepal_eq_mild_im_2.jpg": ("validation", True),
        "c.jpg": ("test", False),
    }


@pytest.mark.parametrize("line", ["a.jpg", "a.jpg 3", "a.jpg one", " 1"])
def test_lines_that_are_none(tmp_path: Path, line: str) -> None:
    with pytest.raises(Refused, match=r"nepal_eq\.dev, line 2"):
        read_lists(written(tmp_path, dev=f"b.jpg 1\n{line}\n"))


def test_a_photo_has_one_part_and_one_degree(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"a\.jpg stands in nepal_eq\.train, line 1 and"):
        read_lists(written(tmp_path, train="x/a.jpg 1\n", test="a.jpg 1\n"))
    with pytest.raises(Refused, match="otherwise"):
        read_lists(written(tmp_path, train="a.jpg 1\na.jpg 0\n"))


def test_lists_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.train").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Refused, match="cannot be read"):
        read_lists([tmp_path / "a.train"])
