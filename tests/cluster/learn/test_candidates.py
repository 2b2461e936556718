"""However much a catalog holds, a learning looks at so many squares at most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from affine import Affine
from aftermap.cluster.catalog.imagery import add_images
from aftermap.cluster.catalog.tables import Chip, Scene
from aftermap.cluster.learn.candidates import MOST_PHOTOS, candidates_of
from aftermap.cluster.learn.config import MOST, LearnConfig
from learn_town import CELLS, SIDE, Town
from rasters import texture, write_raster

SMALL = 16
"""Side of squares, px, so that a small raster has many."""


def _another(town: Town, folder: Path, height: int, width: int, east: int) -> Scene:
    place = Affine(0.5, 0, 300_000 + east, 0, -0.5, 4_100_000)
    file = write_raster(folder / f"{east}.tif", texture(height, width, seed=east), transform=place)
    return add_images(town.catalog, [str(file)]).new[0]


def _photos(town: Town, count: int) -> list[Scene]:
    """Photos whose files nobody looks at."""
    with town.catalog.writing() as session:
        scenes = [
            Scene(digest=f"{number * 7919 % count:064x}", kind="photo", name=f"{number}.jpg",
                  content="none", height=80, width=60, added_by=town.scene.added_by)
            for number in range(count)
        ]  # fmt: skip
        session.add_all(scenes)
        return scenes


def test_rasters_share_what_a_learning_looks_at(
    plain: Town, tmp_path: Path, quick: Callable[..., LearnConfig]
) -> None:
    scenes = [_another(plain, tmp_path, 2400, 1600, east) for east in (2_000, 4_000)]
    small = (CELLS * SIDE // SMALL) ** 2
    assert small + 2 * 15_000 > MOST
    found = candidates_of(plain.catalog, quick(candidates=MOST), (SMALL, 48), [])
    counts = Counter(square.scene for square in found.squares)
    assert len(set(found.squares)) == MOST
    # The small one has all of its squares, and the others as many each.
    assert counts[plain.scene.id] == small
    assert {counts[scene.id] for scene in scenes} == {(MOST - small) // 2}
    assert found.left_out == ()
    few = candidates_of(plain.catalog, quick(candidates=30), (SMALL, 48), [])
    assert set(Counter(square.scene for square in few.squares).values()) == {30}


def test_photos_leave_room_for_rasters_and_take_turns(
    plain: Town, quick: Callable[..., LearnConfig]
) -> None:
    photos = _photos(plain, MOST_PHOTOS + 50)
    found = candidates_of(plain.catalog, quick(candidates=MOST), (SMALL, 48), [])
    first = {square.scene for square in found.squares if square.scene != plain.scene.id}
    assert len(first) == MOST_PHOTOS
    assert len(found.squares) - MOST_PHOTOS == (CELLS * SIDE // SMALL) ** 2
    assert found.left_out == (
        f"50 of {MOST_PHOTOS + 50} photos: a learning looks at {MOST_PHOTOS} of them at most",
    )
    seen = sorted(first)[:20]
    tagged = [Chip(scene_id=number, row=0, col=0, side=48) for number in seen]
    again = candidates_of(plain.catalog, quick(candidates=1), (SMALL, 48), tagged)
    second = {square.scene for square in again.squares} - {plain.scene.id}
    assert len(second) == MOST_PHOTOS
    assert first - second == set(seen)
    assert {scene.id for scene in photos} >= second
