"""Folders of images before and after, with masks or without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from aftermap.models.chips.folders import read_folders
from aftermap.models.chips.names import grounds, place_name
from aftermap.models.chips.open import open_chips
from aftermap.models.chips.picture import FilePicture
from aftermap.scenes.ard import APRON_METRES, ArdCell
from aftermap.scenes.errors import Refused
from aftermap.scenes.places import Place
from aftermap.scenes.split import divide, leaks

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
Write = Callable[[Path, np.ndarray], None]
Make = Callable[..., Path]


def pixels(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read()


def test_graded_folder(tmp_path: Path, make_folder: Make) -> None:
    chips = open_chips(make_folder(tmp_path, [0, 1, 2, 3, 4, 255]), classes=5)
    assert len(chips) == 4
    assert chips.values == {0, 1, 2, 3, 4, 255}
    chip = chips.chip(2)
    assert chip.name == "chip2"
    for name, array in (("pre", chip.pre), ("post", chip.post), ("mask", chip.codes[None])):
        assert np.array_equal(array, pixels(tmp_path / name / "chip2.png"))


@pytest.mark.parametrize("positive", [1, 255])
def test_binary_masks(tmp_path: Path, make_folder: Make, positive: int) -> None:
    make_folder(tmp_path, [0, positive], folders=("A", "B", "label"), suffix=".tif")
    chips = open_chips(tmp_path, classes=1)
    assert chips.values == {0, 5}
    mask = pixels(tmp_path / "label" / "chip0.tif")[0]
    assert np.array_equal(chips.chip(0).codes, np.where(mask == positive, 5, 0))
    with pytest.raises(Refused, match=r"no damage levels 2-4 to learn.*--classes 1"):
        open_chips(tmp_path, classes=5)


def test_one_class_can_learn_from_levels(tmp_path: Path, make_folder: Make) -> None:
    chips = open_chips(make_folder(tmp_path, [0, 1, 4, 255]), classes=1)
    assert set(np.unique(chips.chip(0).codes)) == {0, 1, 4, 255}


def test_levir_folders_tell_the_part(tmp_path: Path, make_folder: Make) -> None:
    for part, names in (("train", "ab"), ("val", "c"), ("test", "de")):
        make_folder(tmp_path / part, [0, 255], names, ("A", "B", "label"))
    (tmp_path / "train.txt").write_text("a.png\nb.png\n")  # says nothing new, in other words
    chips = open_chips(tmp_path, classes=1)
    assert {p.name: p.split for p in chips.places} == {
        "train/a": "train",
        "train/b": "train",
        "val/c": "validation",
        "test/d": "test",
        "test/e": "test",
    }
    assert len(chips.part("test")) == 2


@pytest.mark.parametrize("where", ["", "list"])
def test_lists_tell_the_part(tmp_path: Path, make_folder: Make, where: str) -> None:
    make_folder(tmp_path, [0, 255], "abcd", ("A", "B", "label"))
    (tmp_path / where).mkdir(exist_ok=True)
    (tmp_path / where / "train.txt").write_text("a.png\nA/b.png B/b.png label/b.png\n\n")
    (tmp_path / where / "val.txt").write_text("c\r\n")
    chips = open_chips(tmp_path, classes=1)
    assert [p.split for p in chips.places] == ["train", "train", "validation", ""]
    (tmp_path / where / "test.txt").write_text("a.png\n")
    with pytest.raises(Refused, match=r"names 'a', which another list has in the part '.*'"):
        open_chips(tmp_path, classes=1)
    (tmp_path / where / "test.txt").write_text("../../etc/passwd\n")
    with pytest.raises(Refused, match=r"test.txt names 'passwd', which is no chip of"):
        open_chips(tmp_path, classes=1)
    (tmp_path / where / "test.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Refused, match=r"The list .*test.txt cannot be read"):
        open_chips(tmp_path, classes=1)


STUDY = "031131233232_{date}_{image}-visual_{i}"


def study(root: Path, write_image: Write) -> Path:
    """Place 7 with two dates before and three after, of which two have masks; place 8 intact."""

    def name(i: int, date: str) -> str:
        return STUDY.format(date=date, image=f"10300{date[-2:]}", i=i) + ".png"

    def flat(value: int) -> np.ndarray:
        return np.full((3, 16, 16), value, np.uint8)

    for value, date in ((10, "2022-07-26"), (20, "2023-01-05")):
        write_image(root / "damaged" / "pre" / name(7, date), flat(value))
    for value, date in ((30, "2023-02-07"), (40, "2023-02-08"), (50, "2023-02-11")):
        write_image(root / "damaged" / "post" / name(7, date), flat(value))
        if value != 40:
            mask = np.zeros((16, 16), np.uint8)
            mask[:, : value // 10] = 255
            write_image(root / "damaged" / "masks" / name(7, date), mask)
    write_image(root / "intact" / "pre" / name(8, "2022-07-26"), flat(60))
    write_image(root / "intact" / "post" / name(8, "2023-02-07"), flat(70))
    return root


def test_dates_of_a_place_are_drawn_and_masks_stay_with_their_image(
    tmp_path: Path, write_image: Write
) -> None:
    chips = open_chips(study(tmp_path, write_image), classes=1)
    assert [p.name for p in chips.places] == ["damaged/031131233232_7", "intact/031131233232_8"]
    assert [p.label for p in chips.places] == ["damaged", "intact"]
    seen = Counter()
    for seed in range(200):
        chip = chips.chip(0, np.random.default_rng(seed))
        pre, post = int(chip.pre[0, 0, 0]), int(chip.post[0, 0, 0])
        assert (chip.codes == 5).sum() == 16 * (post // 10)
        seen[pre, post] += 1
    assert set(seen) == {(pre, post) for pre in (10, 20) for post in (30, 50)}
    assert min(seen.values()) > 25
    # Without a draw: the last image before, the first one after.
    assert (chips.chip(0).pre[0, 0, 0], chips.chip(0).post[0, 0, 0]) == (20, 30)
    assert (chips.chip(1).codes == 0).all()
    assert chips.damaged(0)
    assert chips.damaged(1) is False
    assert chips.chip(1).damaged is False


def test_a_mask_without_its_image_is_missed(tmp_path: Path, write_image: Write) -> None:
    study(tmp_path, write_image)
    stray = STUDY.format(date="2023-03-01", image="1", i=7)
    write_image(tmp_path / "damaged" / "masks" / f"{stray}.png", np.zeros((16, 16), np.uint8))
    with pytest.raises(Refused, match=rf"mask '{stray}.png' of .* has no image of the same name"):
        open_chips(tmp_path, classes=1)


def test_neighbouring_tiles_of_the_study_show_the_same_ground() -> None:
    here = ArdCell(37, "031131233232")
    east = next(
        cell
        for cell in (ArdCell(37, f"0311312332{a}{b}") for a in "0123" for b in "0123")
        if cell.bounds[0] == here.bounds[2] and cell.bounds[1] == here.bounds[1]
    )
    row = 5
    names = [f"{here.quadkey}_{17 * row + 16}", f"{east.quadkey}_{17 * row}"]
    (crs, box), (other_crs, other) = grounds(names)
    assert crs == other_crs
    assert box == other
    # An independent sum: patches of 312.5 m from the corner of the cell with its apron.
    west, _, _, north = here.bounds
    assert box == pytest.approx(
        (
            west - APRON_METRES + 16 * 312.5,
            north + APRON_METRES - 6 * 312.5,
            west - APRON_METRES + 17 * 312.5,
            north + APRON_METRES - 5 * 312.5,
        )
    )
    places = [Place(name, crs=c, box=b) for name, (c, b) in zip(names, grounds(names), strict=True)]
    assert str(leaks(places, ["train", "test"])[0]).endswith("have 97,656 m² in common")
    far = [Place(f"{i}", crs=crs, box=grounds([f"{here.quadkey}_{i}"])[0][1]) for i in (0, 40, 90)]
    splits = divide([*places, *far], {"train": 0.6, "test": 0.4}, 0)
    assert splits[0] == splits[1]


def test_names_that_tell_no_ground() -> None:
    key = "031131233232"
    assert grounds([f"{key}_288"])[0][1] is not None
    assert grounds([f"{key}_288", f"{key}_289"]) == [("", None)] * 2  # smaller patches
    assert grounds(["0311_5", "chip0", f"{key}_2023"]) == [("", None)] * 3
    south = grounds(["231131233232_0", "031131233232_0"])
    assert south[0][1][3] < 0 < south[1][1][1]  # type: ignore[index]
    assert place_name(STUDY.format(date="2023-02-07", image="1A", i="007")) == f"{key}_7"
    assert place_name("a-fire_00000001_post_disaster_target") == "a-fire_00000001"


def test_black_pixels_are_left_out(tmp_path: Path, make_folder: Make, write_image: Write) -> None:
    make_folder(tmp_path, [0, 2], ["a"])
    image = np.full((3, 32, 32), 9, np.uint8)
    image[:, :4] = 0
    write_image(tmp_path / "post" / "a.png", image)
    codes = open_chips(tmp_path, classes=5).chip(0).codes
    assert (codes[:4] == 255).all()
    assert set(np.unique(codes[4:])) == {0, 2}


def test_pairs_without_masks_are_unknown(tmp_path: Path, make_folder: Make) -> None:
    make_folder(tmp_path, [0])
    for path in (tmp_path / "mask").iterdir():
        path.unlink()
    (tmp_path / "mask").rmdir()
    chips = open_chips(tmp_path, classes=1)
    assert chips.damaged(0) is None
    assert (chips.chip(0).codes == 255).all()


def test_missing_partners(tmp_path: Path, make_folder: Make) -> None:
    for folder, words in (
        ("pre", r"chip 'chip1' of .*post has no file in .*pre;.* and 1 have none.*--data"),
        ("post", r"chip 'chip1' of .*pre has no file in .*post;"),
        ("mask", r"chip 'chip1' has no file in .*mask; every file of .*post needs one"),
    ):
        root = make_folder(tmp_path / folder, [0, 2])
        (root / folder / "chip1.png").unlink()
        with pytest.raises(Refused, match=words):
            open_chips(root, classes=5)
    root = make_folder(tmp_path / "more", [0, 2])
    (root / "mask" / "chip1.png").rename(root / "mask" / "other.png")
    with pytest.raises(Refused, match=r"mask 'other.png' of .* has no image of the same name"):
        open_chips(root, classes=5)


def test_images_twice(tmp_path: Path, make_folder: Make) -> None:
    make_folder(tmp_path, [0, 2])
    (tmp_path / "pre" / "chip1.tif").write_bytes((tmp_path / "pre" / "chip1.png").read_bytes())
    with pytest.raises(Refused, match=r"chip1.tif and chip1.png are the same image twice"):
        open_chips(tmp_path, classes=5)


def test_values_and_sizes_that_do_not_fit(
    tmp_path: Path, make_folder: Make, write_image: Write
) -> None:
    make_folder(tmp_path / "a", [0, 2, 77])
    with pytest.raises(Refused, match="hold the values 0, 2, 77; allowed are 0, 1, 2, 3, 4, 255"):
        open_chips(tmp_path / "a", classes=5)
    make_folder(tmp_path / "b", [0, 2])
    write_image(tmp_path / "b" / "pre" / "chip0.png", np.zeros((3, 16, 16), np.uint8))
    with pytest.raises(Refused, match=r"different sizes: before \(16, 16\), after \(32, 32\)"):
        open_chips(tmp_path / "b", classes=5).chip(0)


def vrt(path: Path) -> None:
    secret = path.parent.parent / "secret.png"
    secret.write_bytes(path.read_bytes())
    path.write_text(
        f'<VRTDataset rasterXSize="32" rasterYSize="32"><VRTRasterBand dataType="Byte" band="1">'
        f"<SimpleSource><SourceFilename>{secret}</SourceFilename></SimpleSource></VRTRasterBand>"
        f"</VRTDataset>"
    )


def test_files_that_are_no_images(tmp_path: Path, make_folder: Make, write_image: Write) -> None:
    for number, (change, words) in enumerate(
        (
            (vrt, "cannot be read"),
            (lambda p: p.write_bytes(b""), "cannot be read"),
            (lambda p: p.write_text("hello"), "cannot be read"),
            (
                lambda p: write_image(p, np.zeros((1, 32, 32), np.uint8)),
                "has 1 bands of uint8; chips need 3 of uint8",
            ),
            (
                lambda p: write_image(p, np.zeros((3, 32, 32), np.uint16)),
                "has 3 bands of uint16; chips need 3 of uint8",
            ),
        )
    ):
        root = make_folder(tmp_path / str(number), [0, 2])
        change(root / "pre" / "chip0.png")
        with pytest.raises(Refused, match=words):
            open_chips(root, classes=5).chip(0)
        change(root / "mask" / "chip1.png")
        if number < 3:  # masks are read when the folder is opened
            with pytest.raises(Refused, match=words):
                open_chips(root, classes=5)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_files_that_are_cut_short(
    tmp_path: Path, make_folder: Make, suffix: str, share: float
) -> None:
    make_folder(tmp_path, [0, 2], suffix=suffix)
    for path in (tmp_path / "pre" / f"chip0{suffix}", tmp_path / "post" / f"chip1{suffix}"):
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    chips = open_chips(tmp_path, classes=5)
    for index in (0, 1):
        with pytest.raises(Refused, match="cannot be read"):
            chips.chip(index)


def test_alpha_and_colour_tables_do_no_harm(
    tmp_path: Path, make_folder: Make, write_image: Write
) -> None:
    make_folder(tmp_path, [0, 2])
    rgba = np.random.default_rng(0).integers(1, 255, (4, 32, 32), np.uint8)
    write_image(tmp_path / "pre" / "chip0.png", rgba)
    chips = open_chips(tmp_path, classes=5)
    assert np.array_equal(chips.chip(0).pre, rgba[:3])


def test_folders_that_are_none(tmp_path: Path, make_folder: Make) -> None:
    with pytest.raises(Refused, match=r"is no folder of chips.*pre/, post/, mask/.*--data"):
        open_chips(tmp_path, classes=5)
    with pytest.raises(Refused, match=r"There is no folder .*nowhere"):
        open_chips(tmp_path / "nowhere", classes=5)
    for name in ("pre", "post", "mask"):
        (tmp_path / "empty" / name).mkdir(parents=True)
    with pytest.raises(Refused, match="holds no PNG, TIFF or JPEG files"):
        open_chips(tmp_path / "empty", classes=5)
    make_folder(tmp_path / "unfinished", [0, 2])
    (tmp_path / "unfinished" / "places.csv").write_text("name\n")
    with pytest.raises(Refused, match=r"holds places.csv but no images.csv.*aftermap chips"):
        open_chips(tmp_path / "unfinished", classes=5)
    make_folder(tmp_path / "untold", [0, 2])
    (tmp_path / "untold" / "images.csv").write_text("place,when,date,name,mask\n")
    with pytest.raises(Refused, match=r"table of places .*places.csv cannot be read"):
        open_chips(tmp_path / "untold", classes=5)


@pytest.mark.real
def test_mexico(train_data: Path) -> None:
    chips = open_chips(train_data / "mexico", classes=5)
    assert len(chips) == 121
    assert chips.values == {0, 1, 2, 3, 4}
    counts = np.zeros(256, int)
    for index in range(len(chips)):
        chip = chips.chip(index)
        assert chip.post.shape == (3, 512, 512)
        counts += np.bincount(chip.codes.ravel(), minlength=256)
    buildings = counts[1:5].sum()
    assert counts[2:5].sum() / buildings == pytest.approx(0.006, abs=0.002)


@pytest.mark.real
def test_harvey_keeps_neighbours_together(train_data: Path) -> None:
    chips = read_folders(train_data / "harvey")
    assert chips is not None
    assert len(chips) == 3000
    assert chips.chip(0).pre.shape == (3, 128, 128)
    assert all(place.box for place in chips.places)
    splits = divide(chips.places, {"train": 0.7, "validation": 0.15, "test": 0.15}, 0)
    assert leaks(chips.places, splits) == []
    counts = Counter(splits)
    assert counts["train"] > 1800
    assert min(counts["validation"], counts["test"]) > 300
    at = np.array([[float(x) for x in p.name.split("_")] for p in chips.places])
    part = np.array(splits)
    here, there = at[part == "train"], at[part == "test"]
    # Metres by a plane at the latitude of Houston: no chip of 64 m is shared.
    metres = np.array([96_400, 110_900])
    gaps = abs((here[:, None] - there[None]) * metres).max(axis=2)
    assert gaps.min() > 64


def test_pictures_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    import pickle

    picture = FilePicture(tmp_path / "a.png")
    assert pickle.loads(pickle.dumps(picture)) == picture
