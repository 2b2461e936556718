"""Tags: who said what of which place; added, corrected and taken back, never changed."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import shapely
from shapely.geometry import mapping, shape
from sqlalchemy import Select, exists, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased, joinedload

from ...scenes.errors import AftermapError, Refused, UsageError
from .catalog import Catalog, note
from .files import Files
from .imagery import before_of, fetched
from .labels import check_label
from .pixels import as_png, open_pixels
from .tables import Chip, LabelSet, Scene, Tag, User, now

LEAST_SIDE, MOST_SIDE = 16, 4096
"""Of squares that can be tagged, px."""

MOST_POINTS = 10_000
"""Of a polygon."""


class Outrun(AftermapError):
    """Somebody else has corrected the same tag before."""

    exit_code = 3


@dataclass(frozen=True)
class Said:
    """What somebody says of a place: a square, a polygon, or, correcting a tag, the place of that tag."""

    label_set: int
    """Number of the label set, in the version that was shown."""
    label: str | None
    """None takes back the tag that it replaces."""
    id: str
    """A UUID; sent again, nothing is added."""
    scene: int | None = None
    square: tuple[int, int, int] | None = None
    """First row, first column and side, px of the scene."""
    polygon: Mapping[str, Any] | None = None
    """GeoJSON, in degrees; in px of a scene without a place on the earth."""
    replaces: str | None = None
    origin: str = "app"
    made_at: datetime | None = None
    """When it was said, where that was elsewhere."""


def add_tag(catalog: Catalog, user: User, said: Said, look: Look | None = None) -> Tag:
    """Keep what a user says, with the pixels of the square; the tag that is there where it came before.

    The pixels are read by `look`, by default `square_of`. Raises UsageError for what cannot be said,
    Refused for a place that is not there, Outrun where the tag that it replaces has been replaced by
    another one.
    """
    check_id(said.id)
    with catalog.reading() as session:
        known = _known(session, user, said)
        if known is not None:
            return known
        labels = session.get(LabelSet, said.label_set)
        if labels is None:
            raise UsageError(f"There is no label set number {said.label_set}.")
        if said.label is not None:
            check_label(labels, said.label)
        elif said.replaces is None:
            raise UsageError("A tag without a label takes back another one; say which it replaces.")
        old = None if said.replaces is None else _current(session, said.replaces)
        scene = _scene(session, said, old)
    scene = fetched(catalog, scene)
    square = None
    if said.square is not None:
        before = None if scene.kind == "photo" else before_of(catalog, scene)
        square = (look or square_of)(catalog.files, scene, before, said.square)
    polygon = None if said.polygon is None else polygon_in(said.polygon, scene)
    if old is None and (square is None) == (polygon is None):
        raise UsageError("A tag is of a square or of a polygon. Give one of them.")
    try:
        with catalog.adding() as (session, adding):
            chip_id = None if old is None else old.chip_id
            if square is not None:
                chip_id = square.keep(session, adding, scene).id
            tag = Tag(
                id=said.id, scene_id=scene.id, chip_id=chip_id,
                polygon=polygon if old is None else old.polygon, label_set_id=said.label_set,
                label=said.label, user_id=user.id, made_at=said.made_at or now(),
                replaces=said.replaces, origin=said.origin,
            )  # fmt: skip
            session.add(tag)
            session.flush()
            what = "tag" if old is None else "untag" if said.label is None else "retag"
            note(
                session,
                user,
                what,
                f"tag {tag.id}",
                scene=scene.id,
                label=said.label,
                replaces=said.replaces,
            )
    except IntegrityError:
        # The same tag sent twice at once, or two corrections of one tag: one of them is there now.
        with catalog.reading() as session:
            known = _known(session, user, said)
            if known is not None:
                return known
            if said.replaces is not None:
                _current(session, said.replaces)
        raise
    with catalog.reading() as session:
        return session.get_one(Tag, said.id, options=_WHOLE)


_WHOLE = (
    joinedload(Tag.user),
    joinedload(Tag.scene),
    joinedload(Tag.label_set),
    joinedload(Tag.chip),
)


def current_tags() -> Select[Tag]:
    """The query of all tags that hold: those that are neither replaced nor take another one back."""
    later = aliased(Tag)
    return (
        select(Tag)
        .where(Tag.label.is_not(None), ~exists().where(later.replaces == Tag.id))
        .options(*_WHOLE)
    )


@dataclass(frozen=True, eq=False)
class Square:
    """A square of a scene with its pixels."""

    place: tuple[int, int, int]
    post: bytes
    pre: bytes | None
    lonlat: tuple[float, float] | None

    def keep(self, session: Session, adding: Any, scene: Scene) -> Chip:
        """Its chip, which is made where there is none."""
        row, col, side = self.place
        place = select(Chip).where(
            Chip.scene_id == scene.id, Chip.row == row, Chip.col == col, Chip.side == side
        )
        chip = session.scalars(place).first()
        if chip is not None:
            return chip
        lon, lat = self.lonlat or (scene.west, scene.south)
        chip = Chip(
            scene_id=scene.id, row=row, col=col, side=side, content=adding.put(self.post, "png"),
            before=None if self.pre is None else adding.put(self.pre, "png"), lon=lon, lat=lat,
        )  # fmt: skip
        try:
            with session.begin_nested():
                session.add(chip)
        except IntegrityError:  # somebody else has tagged the same square at the same moment
            return session.scalars(place).one()
        return chip


Look = Callable[[Files, Scene, Scene | None, tuple[int, int, int]], Square]
"""Reads a square of a scene, and of the image before it; see `square_of`."""


def check_id(text: str, what: str = "a tag") -> None:
    """Refuse what is no UUID in its usual form."""
    try:
        sound = str(uuid.UUID(text)) == text
    except ValueError:
        sound = False
    if not sound:
        raise UsageError(f"The id of {what} is a UUID in small letters, not {text[:60]!r}.")


def _known(session: Session, user: User, said: Said) -> Tag | None:
    """The tag that came before with this id; UsageError where it said something else."""
    found = session.get(Tag, said.id, options=_WHOLE)
    if found is None:
        return None
    told = (user.id, said.label_set, said.label, said.replaces)
    same = (found.user_id, found.label_set_id, found.label, found.replaces) == told
    if not same or (said.replaces is None and not _same_place(found, said)):
        raise UsageError(
            f"The tag {said.id} is there already and says something else. Make a new id."
        )
    return found


def _same_place(found: Tag, said: Said) -> bool:
    """Whether a tag is where somebody says, polygons to a nanodegree (or, in photos, as little of a px)."""
    chip = None if found.chip is None else (found.chip.row, found.chip.col, found.chip.side)
    if (found.scene_id, chip) != (said.scene, said.square):
        return False
    if found.polygon is None or said.polygon is None:
        return found.polygon is said.polygon
    shapes = shape(found.polygon), shape(polygon_in(said.polygon, found.scene))
    return bool(shapely.equals_exact(*shapes, tolerance=1e-9))


def _current(session: Session, wanted: str) -> Tag:
    """A tag that may be replaced."""
    found = session.get(Tag, wanted)
    if found is None:
        raise UsageError(f"There is no tag {wanted[:60]!r} to replace.")
    later = session.scalars(select(Tag).where(Tag.replaces == wanted).options(*_WHOLE)).first()
    if later is not None:
        said = "took it back" if later.label is None else f"called it {later.label}"
        raise Outrun(
            f"{later.user.name} {said} at {later.made_at:%H:%M:%S}. Look at it again first."
        )
    return found


def _scene(session: Session, said: Said, old: Tag | None) -> Scene:
    if old is not None and (said.square is not None or said.polygon is not None):
        raise UsageError("A correction keeps its place. Take the tag back, and add another one.")
    number = said.scene if old is None else old.scene_id
    found = None if number is None else session.get(Scene, number)
    if found is None:
        raise UsageError(f"There is no scene number {number}.")
    return found


def check_square(scene: Scene, place: tuple[int, int, int], shape: tuple[int, int]) -> None:
    """Refuse a square of an unusable size, or that does not lie in a scene of a height and width."""
    (row, col, side), (height, width) = place, shape
    if not LEAST_SIDE <= side <= MOST_SIDE:
        raise UsageError(f"A square has {LEAST_SIDE} to {MOST_SIDE} px a side, not {side}.")
    if not (row >= 0 and col >= 0 and row + side <= height and col + side <= width):
        raise UsageError(
            f"A square of {side} px from row {row}, column {col} lies outside {scene.name}, which "
            f"has {height} rows and {width} columns."
        )


def square_of(
    files: Files, scene: Scene, before: Scene | None, place: tuple[int, int, int]
) -> Square:
    """A square of a scene with its pixels; UsageError or Refused where there is none to see."""
    row, col, side = place
    pixels = open_pixels(files, scene, before)
    check_square(scene, place, pixels.shape)
    post, pre = pixels.square(row, col, side)
    if not np.any(post):
        raise Refused(
            f"There is nothing to see at row {row}, column {col} of {scene.name}: no data."
        )
    middle = pixels.lonlat(row + side / 2, col + side / 2)
    return Square(place, as_png(post), None if pre is None else as_png(pre), middle)


def polygon_in(given: Mapping[str, Any], scene: Scene) -> dict[str, Any]:
    """A polygon that strangers send, checked; UsageError where it is none or lies outside the scene."""
    try:
        found = shape(given)
        sound = found.geom_type in ("Polygon", "MultiPolygon") and not found.is_empty
        sound = (
            sound
            and shapely.get_num_coordinates(found) <= MOST_POINTS
            and bool(np.isfinite(found.bounds).all())
        )
    except Exception as error:  # whatever shapely stumbles over in what a stranger sends
        raise UsageError("A polygon is a GeoJSON Polygon or MultiPolygon.") from error
    if not sound:
        raise UsageError(
            f"A polygon is a GeoJSON Polygon or MultiPolygon of at most {MOST_POINTS} points."
        )
    if not found.is_valid:
        raise UsageError(f"The polygon crosses itself: {shapely.is_valid_reason(found)}.")
    inside = (
        (scene.west, scene.south, scene.east, scene.north)
        if scene.crs
        else (0, 0, scene.width, scene.height)
    )
    if None not in inside and not found.intersects(shapely.box(*inside)):
        raise UsageError(f"The polygon lies outside {scene.name}.")
    return dict(mapping(shapely.force_2d(found)))
