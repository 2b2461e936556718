"""The report's pictures: small enough, in the right place, in the legend's colours."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from aftermap.cluster.report_pictures import (
    Picture,
    code_picture,
    damage_picture,
    photograph,
    take_pictures,
)
from aftermap.scenes.legend import entry
from aftermap.scenes.pair import make_pair
from PIL import Image
from rasters import texture, write_raster


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def seen(picture: Picture) -> np.ndarray:
    return np.asarray(opened(picture.uri).convert("RGB"), np.int16)


def test_the_damage_picture_wears_the_legend_s_colours() -> None:
    after = np.full((40, 60, 3), 200, np.uint8)
    codes = np.array([[0, 4], [255, 5]], np.uint8)
    drawn = damage_picture(after, codes)
    assert drawn.shape == (40, 60, 3)
    assert (drawn[0, 0] == drawn[0, 0, 0]).all()
    assert tuple(drawn[10, 50]) == entry(4).rgb
    assert tuple(drawn[30, 50]) == entry(5).rgb
    assert {tuple(pixel) for pixel in drawn[25:35, 5:25].reshape(-1, 3)} == {
        entry(255).rgb, (225, 225, 225),
    }  # fmt: skip


def test_the_picture_of_codes_is_clear_where_there_is_nothing_to_say() -> None:
    codes = np.array([[0, 1, 4], [255, 5, 2]], np.uint8)
    rgba = np.asarray(opened(code_picture(codes)).convert("RGBA"))
    assert rgba[..., 3].tolist() == [[0, 255, 255], [0, 255, 255]]
    assert tuple(rgba[0, 2, :3]) == entry(4).rgb
    assert tuple(rgba[1, 1, :3]) == entry(5).rgb


def test_a_photograph_is_reduced_until_it_fits() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (900, 1800, 3), dtype=np.uint8)
    sizes = []
    for budget in (10 << 20, 400_000, 60_000):
        picture = photograph("after", "After", Image.fromarray(noise), budget)
        assert len(base64.b64decode(picture.uri.split(",")[1])) <= budget
        assert opened(picture.uri).size == (picture.width, picture.height)
        sizes.append(picture.width)
    assert sizes[0] == 1800
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 1800


def test_pictures_show_what_the_pair_reads(pair_files: tuple[Path, Path]) -> None:
    """Moved by the shift and with matched colours, as the method sees them."""
    pair = replace(
        make_pair(*pair_files), shift=(3.0, -4.0), colour=((1.1, 5.0), (0.9, -3.0), (1.0, 10.0))
    )
    region = (100, 50, 500, 850)
    shots = take_pictures(pair, region, np.ones((4, 4), np.uint8))
    assert [shot.name for shot in shots] == ["before", "after", "damage"]
    whole = pair.overview(3072, region)
    for shot, image in zip(shots[:2], (whole.pre, whole.post), strict=True):
        assert (shot.height, shot.width) == (400, 800)
        found = seen(shot)
        assert np.abs(found - image.transpose(1, 2, 0)).mean() < 6
        assert np.abs(np.roll(found, 4, axis=1) - image.transpose(1, 2, 0)).mean() > 9


def test_without_a_before_image_there_are_two_pictures(pair_files: tuple[Path, Path]) -> None:
    pair = make_pair(None, pair_files[1])
    shots = take_pictures(pair, (0, 0, 700, 900), np.zeros((4, 4), np.uint8), side=300)
    assert [shot.name for shot in shots] == ["after", "damage"]
    assert [shot.width for shot in shots] == [300, 300]


def test_a_reduced_photograph_lies_where_an_overview_does(pair_files: tuple[Path, Path]) -> None:
    """Blocks leave no seams: everywhere as near to the averaged image as anywhere."""
    pair = make_pair(*pair_files)
    shot = take_pictures(pair, (0, 0, 700, 900), np.zeros((4, 4), np.uint8), side=600)[1]
    wanted = pair.overview(600).post.transpose(1, 2, 0)
    off = np.abs(seen(shot) - wanted).mean(axis=2)
    assert off.mean() < 8
    assert off[:, 250:262].mean() < 1.5 * off.mean()
    assert off[250:262].mean() < 1.5 * off.mean()


def test_what_cannot_be_read_is_black_in_the_picture(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "post.tif", texture(700, 900), compress="deflate")
    codes = np.zeros((4, 4), np.uint8)
    whole = seen(take_pictures(make_pair(None, path), (0, 0, 700, 900), codes)[0])
    broken = tmp_path / "broken.tif"
    broken.write_bytes(path.read_bytes()[:-40_000])
    found = seen(take_pictures(make_pair(None, broken), (0, 0, 700, 900), codes)[0])
    dark = (found.max(axis=2) < 8) & (whole.max(axis=2) > 40)
    assert 0.01 < dark.mean() < 0.5
