"""Chips from folders and synthetic scenes, and their augmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from aftermap.models.augment import PLAIN, Augment, draw
from aftermap.models.batches import batches, normalised, order, stacked
from aftermap.models.chips import Chip, FolderChips, SyntheticChips
from aftermap.scenes.errors import Refused, UsageError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def write_image(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = array if array.ndim == 3 else array[None]
    count, height, width = bands.shape
    driver = "PNG" if path.suffix == ".png" else "GTiff"
    profile = {"driver": driver, "count": count, "height": height, "width": width}
    with rasterio.open(path, "w", dtype=bands.dtype, **profile) as target:
        target.write(bands)


def make_folder(
    root: Path,
    values: list[int],
    count: int = 4,
    names: tuple[str, str, str] = ("pre", "post", "mask"),
    suffix: str = ".png",
    side: int = 32,
) -> Path:
    rng = np.random.default_rng(0)
    for i in range(count):
        for name in names[:2]:
            write_image(
                root / name / f"chip{i}{suffix}", rng.integers(1, 255, (3, side, side), np.uint8)
            )
        mask = rng.choice(np.array(values, np.uint8), (side, side))
        write_image(root / names[2] / f"chip{i}{suffix}", mask)
    return root


def test_graded_folder(tmp_path: Path) -> None:
    chips = FolderChips(make_folder(tmp_path, [0, 1, 2, 3, 4, 255]), classes=5)
    assert len(chips) == 4
    assert chips.graded
    with rasterio.open(tmp_path / "mask" / "chip2.png") as source:
        assert np.array_equal(chips.chip(2).codes, source.read(1))
    with rasterio.open(tmp_path / "post" / "chip2.png") as source:
        assert np.array_equal(chips.chip(2).post, source.read())


@pytest.mark.parametrize("positive", [1, 255])
def test_binary_folder_of_levir_style(tmp_path: Path, positive: int) -> None:
    make_folder(tmp_path, [0, positive], names=("A", "B", "label"), suffix=".tif")
    chips = FolderChips(tmp_path, classes=1)
    assert set(np.unique(chips.chip(0).codes)) == {0, 5}
    with pytest.raises(Refused, match=r"no damage levels 2-4 to learn.*--classes 1"):
        FolderChips(tmp_path, classes=5)


def test_one_class_can_learn_from_levels(tmp_path: Path) -> None:
    chips = FolderChips(make_folder(tmp_path, [0, 1, 4, 255]), classes=1)
    assert chips.graded
    assert set(np.unique(chips.chip(0).codes)) == {0, 1, 4, 255}


def test_black_pixels_are_left_out(tmp_path: Path) -> None:
    make_folder(tmp_path, [0, 2], count=1)
    image = np.full((3, 32, 32), 9, np.uint8)
    image[:, :4] = 0
    write_image(tmp_path / "post" / "chip0.png", image)
    codes = FolderChips(tmp_path, classes=5).chip(0).codes
    assert (codes[:4] == 255).all()
    assert set(np.unique(codes[4:])) == {0, 2}


def test_folders_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"is no folder of chips.*pre/, post/, mask/.*--data"):
        FolderChips(tmp_path, classes=5)
    make_folder(tmp_path / "a", [0, 2])
    (tmp_path / "a" / "post" / "chip1.png").unlink()
    with pytest.raises(Refused, match=r"chip 'chip1' has no file in .*post"):
        FolderChips(tmp_path / "a", classes=5)
    make_folder(tmp_path / "b", [0, 2, 77])
    with pytest.raises(Refused, match="hold the values 0, 2, 77; allowed are 0, 1, 2, 3, 4, 255"):
        FolderChips(tmp_path / "b", classes=5)
    make_folder(tmp_path / "c", [0, 2])
    write_image(tmp_path / "c" / "pre" / "chip0.png", np.zeros((3, 16, 16), np.uint8))
    with pytest.raises(Refused, match=r"different sizes: before \(16, 16\), after \(32, 32\)"):
        FolderChips(tmp_path / "c", classes=5).chip(0)
    make_folder(tmp_path / "d", [0, 2])
    (tmp_path / "d" / "pre" / "chip0.png").write_text("<VRTDataset/>")
    with pytest.raises(Refused, match="cannot be read"):
        FolderChips(tmp_path / "d", classes=5).chip(0)
    make_folder(tmp_path / "e", [0, 2])
    write_image(tmp_path / "e" / "pre" / "chip0.png", np.zeros((1, 32, 32), np.uint8))
    with pytest.raises(Refused, match="has 1 bands of uint8; chips need 3 of uint8"):
        FolderChips(tmp_path / "e", classes=5).chip(0)


def test_split_is_stable_and_disjoint(tmp_path: Path) -> None:
    chips = FolderChips(make_folder(tmp_path, [0, 2], count=10), classes=5)
    train, held = chips.split(0.2, 5)
    assert len(train) == 8
    assert len(held) == 2
    assert not set(train.names) & set(held.names)
    assert chips.split(0.2, 5)[1].names == held.names
    with pytest.raises(Refused, match="too few"):
        FolderChips(tmp_path, 5, ["chip0"]).split(0.2, 5)


def test_synthetic_chips_are_cached(tmp_path: Path) -> None:
    chips = SyntheticChips([3, 4, 5, 6], 64, (0.35, 0.7), tmp_path / "cache")
    first = chips.chip(1)
    assert first.pre.shape == (3, 64, 64)
    stamp = chips.path(1).stat().st_mtime_ns
    again = chips.chip(1)
    assert chips.path(1).stat().st_mtime_ns == stamp
    assert np.array_equal(first.post, again.post)
    assert np.array_equal(first.codes, again.codes)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    sizes = [chips.gsd(i) for i in range(4)]
    assert len(set(sizes)) == 4
    assert all(0.35 <= size <= 0.7 for size in sizes)
    with pytest.raises(UsageError, match="got 8 px"):
        SyntheticChips([1], 8, (0.35, 0.7), tmp_path)


def chip(side: int = 96) -> Chip:
    rng = np.random.default_rng(1)
    pre, post = rng.integers(1, 255, (2, 3, side, side), np.uint8)
    codes = np.zeros((side, side), np.uint8)
    codes[60:80, 60:80] = 3
    codes[5:15, 5:15] = 1
    return Chip(pre, post, codes)


def test_plain_crops_are_copies() -> None:
    whole = chip()
    crop = draw(whole, 32, PLAIN, (0, 0, 7))
    windows = np.lib.stride_tricks.sliding_window_view(whole.post[0], (32, 32))
    hits = np.argwhere((windows == crop.post[0]).all(axis=(2, 3)))
    assert len(hits) == 1
    row, col = hits[0]
    for name in ("pre", "post"):
        expected = getattr(whole, name)[:, row : row + 32, col : col + 32]
        assert np.array_equal(getattr(crop, name), expected)
    assert np.array_equal(crop.codes, whole.codes[row : row + 32, col : col + 32])
    assert np.array_equal(draw(whole, 96, PLAIN, (0, 0, 0)).pre, whole.pre)


def test_draws_follow_their_key_only() -> None:
    whole = chip()
    one, same = (draw(whole, 64, Augment(), (1, 2, 3)) for _ in range(2))
    for name in ("pre", "post", "codes"):
        assert np.array_equal(getattr(one, name), getattr(same, name))
    for key in ((0, 2, 3), (1, 1, 3), (1, 2, 4)):
        assert not np.array_equal(draw(whole, 64, Augment(), key).post, one.post)


def test_labels_stay_codes_and_follow_the_image() -> None:
    # An image that is its own label, under geometry alone: both must agree away from edges.
    codes = np.zeros((128, 128), np.uint8)
    codes[20:70, 30:60], codes[80:120, 70:110] = 2, 4
    image = np.repeat((codes * 50 + 20)[None], 3, axis=0)
    for k in range(20):
        got = draw(Chip(image, image, codes), 64, Augment(light=0, blank=0, shift=0), (0, 0, k))
        assert set(np.unique(got.codes)) <= {0, 2, 4, 255}
        inside = got.codes != 255
        expected = got.codes[inside].astype(int) * 50 + 20
        agree = abs(got.post[0][inside].astype(int) - expected) <= 1
        assert agree.mean() > 0.85
        assert np.array_equal(got.pre, got.post)  # without misregistration they stay together


def test_flips_and_turns_all_occur() -> None:
    corner = np.zeros((32, 32), np.uint8)
    corner[:8, :8], corner[:8, 24:] = 1, 2  # one corner each: eight poses can be told apart
    image = np.full((3, 32, 32), 50, np.uint8)
    rigid = Augment(0, 0, 0, 0, 0, blank=0, seek=2)
    poses = {
        draw(Chip(image, image, corner), 32, rigid, (0, 0, k)).codes.tobytes() for k in range(60)
    }
    assert len(poses) == 8


def test_misregistration_is_bounded() -> None:
    rng = np.random.default_rng(2)
    image = rng.integers(1, 255, (1, 96, 96), np.uint8).repeat(3, 0)
    only = Augment(0, 0, 0, shift=3.0, light=0, blank=0, seek=1)
    got = draw(Chip(image, image, np.zeros((96, 96), np.uint8)), 48, only, (0, 0, 5))
    assert not np.array_equal(got.pre, got.post)
    best = min(
        np.abs(
            got.pre[0, 6:-6, 6:-6].astype(float)
            - np.roll(got.post[0].astype(float), (dy, dx), (0, 1))[6:-6, 6:-6]
        ).mean()
        for dy in range(-3, 4)
        for dx in range(-3, 4)
    )
    plain = np.abs(got.pre[0].astype(float) - got.post[0]).mean()
    assert best < plain or plain < 1


def test_blank_strips_are_left_out() -> None:
    always = Augment(0, 0, 0, 0, 0, blank=1)
    got = draw(chip(), 64, always, (0, 0, 1))
    black = ~got.pre.any(axis=0) | ~got.post.any(axis=0)
    assert black.mean() > 0.05
    assert np.array_equal(got.codes == 255, black)


def test_light_changes_apart_or_together() -> None:
    same = chip()
    twin = Chip(same.post, same.post, same.codes)
    light = {"scale": 0.0, "rotate": 0.0, "shear": 0.0, "shift": 0.0, "blank": 0.0}
    apart = draw(twin, 64, Augment(**light), (0, 0, 3))  # type: ignore[arg-type]
    together = draw(twin, 64, Augment(**light, apart=False), (0, 0, 3))  # type: ignore[arg-type]
    assert not np.array_equal(apart.pre, apart.post)
    assert np.array_equal(together.pre, together.post)


class Numbers:
    def __len__(self) -> int:
        return 5

    def chip(self, index: int) -> Chip:
        image = np.full((3, 16, 16), 10 + index, np.uint8)
        return Chip(image, image, np.zeros((16, 16), np.uint8))


def test_batches_do_not_depend_on_the_workers() -> None:
    runs = [
        list(batches(Numbers(), Augment(), 16, 3, 4, seed=1, epoch=2, workers=w)) for w in (1, 3)
    ]
    assert len(runs[0]) == 4
    for a, b in zip(*runs, strict=True):
        assert a.pre.equal(b.pre)
        assert a.post.equal(b.post)
        assert a.codes.equal(b.codes)
    supply = batches(Numbers(), PLAIN, 16, 1, 5, seed=1, epoch=0, workers=2)
    assert sorted(int(batch.pre[0, 0, 0, 0]) for batch in supply) == [10, 11, 12, 13, 14]
    assert order(5, 12, 0, 0) != order(5, 12, 0, 1)


def test_normalised() -> None:
    batch = stacked([Numbers().chip(0)])
    x = normalised(batch.pre, (0.1, 0.2, 0.3), (0.5, 0.5, 0.25))
    assert x[0, :, 0, 0].tolist() == pytest.approx(
        [(10 / 255 - m) / s for m, s in ((0.1, 0.5), (0.2, 0.5), (0.3, 0.25))]
    )
