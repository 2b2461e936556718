"""Many tags at once: as `add_tag` keeps one, but a hundred in a transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Select, select
from sqlalchemy.exc import IntegrityError

from ...scenes.errors import UsageError
from .catalog import Catalog, note
from .imagery import before_of, fetched
from .labels import check_label
from .pixels import PhotoPixels, RasterPixels, as_png, open_pixels
from .tables import Chip, LabelSet, Scene, Tag, User, now
from .tagging import Said, Square, check_id, check_square, polygon_in

_TOGETHER = 100
"""Tags of one transaction: those who tag meanwhile wait for a second at most."""

_MOST_PIXELS = 1 << 25
"""Of the squares of one transaction: they are held in memory."""


@dataclass
class Kept:
    """What became of tags."""

    new: int = 0
    known: int = 0
    """Those that were there before."""
    empty: list[str] = field(default_factory=list)
    """Squares without data, of which nothing was kept, in words."""


def add_tags(
    catalog: Catalog,
    user: User,
    said: Sequence[Said],
    tell: Callable[[int, int], None] = lambda done, of: None,
    by: User | None = None,
) -> Kept:
    """Keep what a user says of many places; a hundred tags are kept together or not at all.

    None of them may correct or take back another one. Called again after an interruption it goes on:
    a tag whose id is there is known, whoever said it. `by` is who does this, where it is not the user who
    said it. Raises what `add_tag` raises, before the
    first tag where that can be told without looking at pixels.
    """
    _check(catalog, said)
    kept, shown = Kept(), _Shown(catalog)
    done = 0
    for batch in _batches(sorted(said, key=lambda one: one.scene or 0)):
        try:
            _add(catalog, user, batch, shown, kept, by or user)
        except IntegrityError:  # the same tags are being added elsewhere at this moment
            _add(catalog, user, batch, shown, kept, by or user)
        done += len(batch)
        tell(done, len(said))
    return kept


@dataclass
class _Shown:
    """Pixels of the scene that was looked at last: opening one takes longer than reading a square."""

    catalog: Catalog
    _scene: Scene | None = None
    _pixels: RasterPixels | PhotoPixels | None = None
    _before: PhotoPixels | None = None

    def scene(self, number: int) -> Scene:
        """A scene, with its image at hand."""
        if self._scene is None or self._scene.id != number:
            with self.catalog.reading() as session:
                scene = session.get_one(Scene, number)
            self._scene, self._pixels = fetched(self.catalog, scene), None
        return self._scene

    def square(self, number: int, place: tuple[int, int, int]) -> Square | None:
        """A square with its pixels; None where it holds no data."""
        scene = self.scene(number)
        if self._pixels is None:
            self._open(scene)
        assert self._pixels is not None
        row, col, side = place
        check_square(scene, place, self._pixels.shape)
        post, pre = self._pixels.square(row, col, side)
        if self._before is not None:
            pre = self._before.square(row, col, side)[0]
        if not np.any(post):
            return None
        middle = self._pixels.lonlat(row + side / 2, col + side / 2)
        return Square(place, as_png(post), None if pre is None else as_png(pre), middle)

    def _open(self, scene: Scene) -> None:
        files, before = self.catalog.files, before_of(self.catalog, scene)
        self._pixels, self._before = open_pixels(files, scene, before), None
        # Photos before and after lie on each other only where they were cut so: chips of a data set.
        if scene.kind == "photo" and before is not None and before.kind == "photo":
            earlier = open_pixels(files, before)
            if isinstance(earlier, PhotoPixels) and earlier.shape == self._pixels.shape:
                self._before = earlier


def _add(
    catalog: Catalog, user: User, batch: Sequence[Said], shown: _Shown, kept: Kept, by: User
) -> None:
    with catalog.reading() as session:
        known = set(session.scalars(select(Tag.id).where(Tag.id.in_([one.id for one in batch]))))
        fresh = {one.id: one for one in batch if one.id not in known}
        places = {one.id: _place(one) for one in fresh.values() if one.square is not None}
        chips = {key: session.scalars(place).first() for key, place in places.items()}
    scenes = {one.scene: shown.scene(int(one.scene or 0)) for one in fresh.values()}
    squares = {
        key: shown.square(int(fresh[key].scene or 0), fresh[key].square or (0, 0, 0))
        for key, chip in chips.items()
        if chip is None
    }
    empty = {key for key, square in squares.items() if square is None}
    with catalog.adding() as (session, adding):
        for one in fresh.values():
            if one.id in empty:
                continue
            chip, square, scene = chips.get(one.id), squares.get(one.id), scenes[one.scene]
            if square is not None:
                chip = square.keep(session, adding, scene)
            session.add(
                Tag(
                    id=one.id, scene_id=scene.id, chip_id=None if chip is None else chip.id,
                    polygon=None if one.polygon is None else polygon_in(one.polygon, scene),
                    label_set_id=one.label_set, label=one.label, user_id=user.id,
                    made_at=one.made_at or now(), origin=one.origin,
                )
            )  # fmt: skip
        session.flush()
        if count := len(fresh) - len(empty):
            note(session, by, "import", batch[0].origin, tags=count, said_by=user.name)
    kept.known += len(known)
    kept.new += len(fresh) - len(empty)
    kept.empty += [f"{scenes[fresh[key].scene].name} {fresh[key].square}" for key in sorted(empty)]


def _batches(said: Sequence[Said]) -> Iterator[list[Said]]:
    batch: list[Said] = []
    pixels = 0
    for one in said:
        size = one.square[2] ** 2 if one.square is not None else 0
        if batch and (len(batch) == _TOGETHER or pixels + size > _MOST_PIXELS):
            yield batch
            batch, pixels = [], 0
        batch.append(one)
        pixels += size
    if batch:
        yield batch


def _place(one: Said) -> Select[Chip]:
    row, col, side = one.square or (0, 0, 0)
    return select(Chip).where(
        Chip.scene_id == one.scene, Chip.row == row, Chip.col == col, Chip.side == side
    )


def _check(catalog: Catalog, said: Sequence[Said]) -> None:
    """What is wrong with any of them, before the first is kept."""
    with catalog.reading() as session:
        sets = {number: session.get(LabelSet, number) for number in {one.label_set for one in said}}
        scenes = {number: session.get(Scene, number or 0) for number in {one.scene for one in said}}
    for one in said:
        check_id(one.id)
        labels, scene = sets[one.label_set], scenes[one.scene]
        if labels is None:
            raise UsageError(f"There is no label set number {one.label_set}.")
        if scene is None:
            raise UsageError(f"There is no scene number {one.scene}.")
        if one.label is None or one.replaces is not None:
            raise UsageError(f"The tag {one.id} corrects another one; add it alone.")
        check_label(labels, one.label)
        if (one.square is None) == (one.polygon is None):
            raise UsageError("A tag is of a square or of a polygon. Give one of them.")
        if one.square is not None and scene.height and scene.width:
            check_square(scene, one.square, (scene.height, scene.width))
        if one.polygon is not None:
            polygon_in(one.polygon, scene)
