"""No ground is learnt from and tested on, and no chip ever changes its part."""

from __future__ import annotations

import numpy as np
import pytest
from aftermap.cluster.catalog.tables import Chip, Scene
from aftermap.cluster.learn.parts import BLOCK_M, BUFFER, TEST, TRAIN, block_of, parts_of
from aftermap.cluster.learn.votes import Voted
from learn_town import Town
from pyproj import Geod
from sqlalchemy.orm import Session

GEOD = Geod(ellps="WGS84")
METRES = (1 / 88_000, 1 / 111_000)
"""Degrees of about a metre east and north at 37.6° north."""


def _voted(number: int, east: float, north: float, side_m: float = 40.0, scene: int = 1) -> Voted:
    place = Scene(id=scene, digest=f"{scene:064}", kind="raster", gsd_m=0.5)
    lon, lat = 37.0 + east * METRES[0], 37.6 + north * METRES[1]
    chip = Chip(id=number, scene_id=scene, row=0, col=0, side=round(side_m * 2), lon=lon, lat=lat)
    return Voted(chip, place, False, ())


def _scattered(count: int, seed: int = 0, extent: float = 3000.0) -> list[Voted]:
    rng = np.random.default_rng(seed)
    return [_voted(n, *rng.uniform(0, extent, 2), scene=1 + n % 3) for n in range(count)]


def test_chips_of_both_parts_have_no_ground_in_common(plain: Town) -> None:
    chips = _scattered(500)
    with plain.catalog.reading() as session:
        parts = parts_of(session, chips, 0.25)
    where = {part: [v for v in chips if parts[v.chip.id] == part] for part in (TRAIN, TEST, BUFFER)}
    assert all(len(found) > 5 for found in where.values())
    for one in where[TRAIN]:
        for other in where[TEST]:
            azimuth, _, metres = GEOD.inv(
                one.chip.lon, one.chip.lat, other.chip.lon, other.chip.lat
            )
            reach = max(abs(np.sin(np.radians(azimuth))), abs(np.cos(np.radians(azimuth)))) * metres
            assert reach > 39.5


def test_parts_do_not_depend_on_when_chips_are_added(plain: Town) -> None:
    chips = _scattered(200)
    with plain.catalog.reading() as session:
        whole = parts_of(session, chips, 0.25)
        assert parts_of(session, chips[::-1], 0.25) == whole
        assert parts_of(session, chips[:120], 0.25) == {n: whole[n] for n in range(120)}


def test_the_same_ground_in_another_image_is_in_the_same_part(plain: Town) -> None:
    first = _scattered(60)
    second = [
        Voted(
            Chip(id=1000 + v.chip.id, side=80, lon=v.chip.lon, lat=v.chip.lat),
            Scene(id=9, digest="9" * 64, kind="raster", gsd_m=0.5),
            False,
            (),
        )
        for v in first
    ]
    with plain.catalog.reading() as session:
        parts = parts_of(session, [*first, *second], 0.5)
    assert all(
        parts[n] == parts[1000 + n] or BUFFER in (parts[n], parts[1000 + n]) for n in range(60)
    )
    assert sum(parts[n] == parts[1000 + n] for n in range(60)) > 50


def test_about_the_wanted_share_of_the_ground_is_tested_on(plain: Town) -> None:
    grid = [
        _voted(i * 100 + j, i * BLOCK_M, j * BLOCK_M, 20.0) for i in range(40) for j in range(40)
    ]
    with plain.catalog.reading() as session:
        parts = list(parts_of(session, grid, 0.25).values())
    assert 0.2 < parts.count(TEST) / len(parts) < 0.3


def test_blocks_are_of_the_same_size_everywhere() -> None:
    for lat in (0.0, 37.6, -60.0, 75.0):
        lons = np.arange(0, 0.5, 0.0005)
        scene = Scene(digest="0" * 64)
        blocks = [block_of(Chip(lon=float(lon), lat=lat), scene) for lon in lons]
        across = GEOD.inv(0, lat, 0.5, lat)[2]
        assert across / len(set(blocks)) == pytest.approx(BLOCK_M, rel=0.03)


def test_a_photo_without_position_is_in_one_part_as_a_whole(plain: Town) -> None:
    def photo(number: int, scene: int) -> Voted:
        return Voted(
            Chip(id=number, scene_id=scene, side=100, lon=None, lat=None),
            Scene(id=scene, digest=f"{scene:064}", kind="photo"),
            False,
            (),
        )

    chips = [photo(10 * scene + n, scene) for scene in range(30) for n in range(4)]
    with plain.catalog.reading() as session:
        parts = parts_of(session, chips, 0.3)
    by_scene = [{parts[10 * scene + n] for n in range(4)} for scene in range(30)]
    assert all(len(found) == 1 for found in by_scene)
    assert set.union(*by_scene) == {TRAIN, TEST}


def test_photos_taken_near_each_other_are_neighbours(plain: Town) -> None:
    def photos(session: Session, apart: float) -> int:
        chips = []
        for number in range(200):
            for step in (0, 1):
                voted = _voted(2 * number + step, number * 500.0 + step * apart, 0.0)
                scene = Scene(id=number, digest=f"{number}{step}".zfill(64), kind="photo")
                chips.append(Voted(voted.chip, scene, False, ()))
        parts = parts_of(session, chips, 0.5)
        return sum({parts[2 * n], parts[2 * n + 1]} == {TRAIN, TEST} for n in range(200))

    with plain.catalog.reading() as session:
        assert photos(session, 20.0) == 0
        assert photos(session, 150.0) > 0
