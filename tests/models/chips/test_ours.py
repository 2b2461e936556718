"""Chips as `aftermap chips` writes them: read back, and refused in words where they are damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from aftermap.models.chips.open import open_chips
from aftermap.scenes.errors import Refused
from aftermap.scenes.places import Place, read_places, write_places

WriteImage = Callable[[Path, np.ndarray], None]

PLACES = [
    Place("a", "damaged", "EPSG:32637", (0.1, 0.2, 312.6, 312.7), split="train", pretrain="train"),
    Place("b", "intact", "EPSG:32637", (1000.0, 0.0, 1312.5, 312.5), split="test"),
    Place("c", "", "EPSG:32637", (5000.0, 0.0, 5312.5, 312.5)),
]
ROWS = [
    ("a", "pre", "2022-01-01", "a1", ""),
    ("a", "pre", "2022-06-01", "a2", ""),
    ("a", "post", "2023-02-09", "a4", "1"),
    ("a", "post", "2023-02-07", "a3", "0"),
    ("b", "pre", "2022-01-01", "b1", ""),
    ("b", "post", "2023-02-07", "b2", ""),
    ("c", "pre", "2022-01-01", "c1", ""),
]


def write_table(root: Path, rows: list[tuple[str, ...]] = ROWS) -> None:
    lines = ["place,when,date,name,mask", *(",".join(row) for row in rows)]
    (root / "images.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def chips(tmp_path: Path) -> Path:
    write_places(tmp_path / "places.csv", PLACES)
    write_table(tmp_path)
    group = zarr.open_group(tmp_path / "chips.zarr", mode="w")
    images = group.create_array("images", shape=(7, 3, 16, 16), dtype="uint8", chunks=(1, 3, 16, 16))  # fmt: skip
    for i in range(7):
        images[i] = np.full((3, 16, 16), 10 * (i + 1), np.uint8)
    masks = group.create_array("masks", shape=(2, 16, 16), dtype="uint8", chunks=(1, 16, 16))
    masks[0] = np.full((16, 16), 5, np.uint8)
    masks[1] = np.zeros((16, 16), np.uint8)
    return tmp_path


def test_dates_and_masks_of_a_place(chips: Path) -> None:
    found = open_chips(chips, classes=1)
    assert [place.name for place in found.places] == ["a", "b"]  # c has no image after
    first = found.chip(0)
    assert (first.pre.max(), first.post.max(), first.codes.min()) == (20, 40, 5)
    seen = set()
    for k in range(30):
        drawn = found.chip(0, np.random.default_rng(k))
        assert drawn.codes.max() == (5 if drawn.post.max() == 40 else 0)
        seen.add((int(drawn.pre.max()), int(drawn.post.max())))
    assert seen == {(10, 30), (10, 40), (20, 30), (20, 40)}
    assert (found.chip(1).codes == 0).all()  # intact
    assert [found.damaged(i) for i in range(2)] == [True, False]
    assert len(found.part("train")) == len(found.part("test")) == 1


def test_places_come_back_to_the_last_bit(tmp_path: Path) -> None:
    write_places(tmp_path / "places.csv", PLACES)
    assert list(read_places(tmp_path / "places.csv").values()) == PLACES


def test_folders_of_images(tmp_path: Path, write_image: WriteImage) -> None:
    write_places(tmp_path / "places.csv", PLACES[:1])
    write_table(tmp_path, [("a", "pre", "", "p.png", ""), ("a", "post", "", "q.png", "q.png")])
    write_image(tmp_path / "pre" / "p.png", np.full((3, 16, 16), 10, np.uint8))
    write_image(tmp_path / "post" / "q.png", np.full((3, 16, 16), 20, np.uint8))
    write_image(tmp_path / "mask" / "q.png", np.full((16, 16), 5, np.uint8))
    assert open_chips(tmp_path, classes=1).chip(0).codes.min() == 5
    # A name must not lead out of the folder, and a foreign file is no image.
    (tmp_path / "secret.txt").write_text("secret")
    write_table(tmp_path, [("a", "pre", "", "../secret.txt", ""), ("a", "post", "", "q.png", "")])
    with pytest.raises(Refused, match=r"pre/secret.txt cannot be read"):
        open_chips(tmp_path, classes=1).chip(0)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("places.csv", "name,label\na,damaged\n", r"places.csv, line 2, is no place"),
        ("places.csv", "\x00\x01", r"places.csv"),
        ("images.csv", "place,when\n", r"images.csv cannot be read: its columns are"),
        ("images.csv", "place,when,date,name,mask\nz,pre,,x,\n", r"names the place 'z'"),
        ("images.csv", "place,when,date,name,mask\na,now,,x,\n", r"names the place 'a' \('now'\)"),
        ("images.csv", "place,when,date,name,mask\na,post,,x,one\n", r"line 2, names the mask 'one'"),
        ("images.csv", "place,when,date,name,mask\na,pre,,x,\n", r"holds no pair of images"),
        ("images.csv", "place,when,date,name,mask\na,pre,,x,\na,post,,y,7\n", r"masks.*position 7"),
    ],
)  # fmt: skip
def test_damaged_tables(chips: Path, file: str, text: str, words: str) -> None:
    (chips / file).write_text(text)
    with pytest.raises(Refused, match=words):
        open_chips(chips, classes=1)


def test_edited_parts_that_share_ground_are_refused(chips: Path) -> None:
    beside = replace(PLACES[1], box=(312.6, 0.2, 625.1, 312.7))
    write_places(chips / "places.csv", [PLACES[0], beside, PLACES[2]])
    with pytest.raises(Refused, match=r"places\.csv leak: .*a \(train\) and b \(test\) touch"):
        open_chips(chips, classes=1)
    write_places(chips / "places.csv", [PLACES[0], replace(beside, split="buffer"), PLACES[2]])
    assert len(open_chips(chips, classes=1)) == 2


def test_labels_that_there_are_not(chips: Path) -> None:
    table = (chips / "places.csv").read_text().replace("intact", "fine")
    (chips / "places.csv").write_text(table)
    with pytest.raises(Refused, match="line 3, is no place: label 'fine'"):
        open_chips(chips, classes=1)
