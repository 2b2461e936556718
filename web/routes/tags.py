"""Tags and their chips: who said what, how far they agree, and what labels there are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import BaseModel, Field
from sqlalchemy import and_, func, or_, select

from ...cluster.catalog.agreement import agreement, compared, disagreements, overall
from ...cluster.catalog.catalog import note
from ...cluster.catalog.imagery import fetched
from ...cluster.catalog.labels import change_labels
from ...cluster.catalog.people import may
from ...cluster.catalog.scene_grid import in_degrees, in_pixels
from ...cluster.catalog.tables import Chip, LabelSet, Scene, Tag, User
from ...cluster.catalog.tagging import Outrun, Said, add_tag, check_id, current_tags
from ...scenes.errors import UsageError
from ..answers import missing
from ..visitors import Admin, Tagger, Viewer
from .given import MOST, Number, TheCatalog, TheDecoder, row, set_name

router = APIRouter(prefix="/api", tags=["tags"])

_DIFFERING = 200
"""Squares with more than one label that are shown."""

_FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}

Pixel = Annotated[int, Field(ge=-MOST, le=MOST)]


class NewTag(BaseModel):
    """What is said of a place, in pixels; or, of the tag that it replaces, something else."""

    id: str = Field(max_length=36)
    scene: Annotated[int, Field(ge=1, le=MOST)] | None = None
    square: tuple[Pixel, Pixel, Pixel] | None = None
    polygon: dict[str, Any] | None = None
    label_set: Annotated[int, Field(ge=1, le=MOST)]
    label: str | None = Field(None, max_length=80)
    replaces: str | None = Field(None, max_length=36)


class NewLabels(BaseModel):
    """A label set's next version."""

    name: str = Field(max_length=80)
    labels: list[dict[str, Any]] = Field(max_length=100)
    version: Annotated[int | None, Field(ge=1, le=MOST)] = None
    """That it is to be: who was outrun by somebody else's is told so."""


@router.get("/label-sets")
def label_sets(visitor: Viewer, catalog: TheCatalog, every: bool = False) -> list[dict[str, Any]]:
    """The newest version of each label set, or `every` one, which older tags were made with."""
    query = select(LabelSet).order_by(LabelSet.name, LabelSet.version)
    if not every:
        newest = select(func.max(LabelSet.id)).group_by(LabelSet.name)
        query = query.where(LabelSet.id.in_(newest))
    with catalog.reading() as session:
        return [_labels(one) for one in session.scalars(query)]


@router.post("/label-sets", status_code=201)
def new_label_set(visitor: Admin, said: NewLabels, catalog: TheCatalog) -> dict[str, Any]:
    """A label set's next version, or its first; tags keep the version that they were made with."""
    with catalog.writing() as session:
        made = change_labels(session, said.name, said.labels)
        if said.version is not None and made.version > said.version:
            raise Outrun(
                f"Somebody has made version {said.version} of {made.name} meanwhile. Look at it, then begin again."
            )
        note(session, visitor.user, "labels", made.name, version=made.version)
        return _labels(made)


@router.get("/tags")
def tags(
    visitor: Viewer,
    catalog: TheCatalog,
    scene: Annotated[int | None, Query(ge=1, le=MOST)] = None,
    user: Annotated[str | None, Query(max_length=80)] = None,
    label: Annotated[str | None, Query(max_length=80)] = None,
    label_set: Annotated[str | None, Query(max_length=80)] = None,
    before: datetime | None = None,
    before_id: Annotated[str | None, Query(max_length=36)] = None,
    limit: Annotated[int, Query(ge=1, le=5000)] = 50,
) -> dict[str, Any]:
    """Tags that hold, the newest first; go on with `made_at` and `id` of the last as `before` and `before_id`.

    Without `before_id`, of tags made at the very same moment those beyond the limit are passed over.
    """
    query = current_tags().order_by(Tag.made_at.desc(), Tag.id.desc()).limit(limit + 1)
    if scene is not None:
        query = query.where(Tag.scene_id == scene)
    if label is not None:
        query = query.where(Tag.label == label)
    if user is not None:
        query = query.where(Tag.user_id.in_(select(User.id).where(User.name == user)))
    if before is not None:
        moment = _in_utc(before)
        earlier = Tag.made_at < moment
        if before_id is not None:
            earlier = or_(earlier, and_(Tag.made_at == moment, Tag.id < before_id))
        query = query.where(earlier)
    with catalog.reading() as session:
        if label_set is not None:
            name = set_name(session, label_set)
            query = query.where(
                Tag.label_set_id.in_(select(LabelSet.id).where(LabelSet.name == name))
            )
        found = list(session.scalars(query))
        shown = [_told(tag, visitor.user) for tag in found[:limit]]
    return {"tags": shown, "more": len(found) > limit}


@router.post("/tags", status_code=201)
def new_tag(
    visitor: Tagger, said: NewTag, response: Response, catalog: TheCatalog, decoder: TheDecoder
) -> dict[str, Any]:
    """Keep what somebody says: 201, or 200 where the same came before; 409 where somebody was quicker.

    A tag is corrected by one that replaces it, which may be of a newer version of its label set, and
    taken back by one without a label: one's own, and by reviewers any.
    """
    check_id(said.id)
    with catalog.reading() as session:
        known = session.get(Tag, said.id) is not None
        old = None if said.replaces is None else session.get(Tag, said.replaces)
        if old is not None and old.user_id != visitor.user.id and not may(visitor.user, "reviewer"):
            raise HTTPException(
                403, "Others' tags are corrected by reviewers. Add one of your own."
            )
        scene = None if said.scene is None else row(session, Scene, said.scene, "scene")
    polygon = said.polygon
    if polygon is not None and scene is not None:
        polygon = in_degrees(fetched(catalog, scene), polygon)
    kept = add_tag(
        catalog,
        visitor.user,
        Said(
            label_set=said.label_set, label=said.label, id=said.id, scene=said.scene,
            square=said.square, polygon=polygon, replaces=said.replaces,
        ),
        decoder.square,
    )  # fmt: skip
    if known:
        response.status_code = 200
    return _told(kept, visitor.user)


@router.get("/chips/{number}", response_class=Response)
def chip(
    visitor: Viewer,
    number: Number,
    catalog: TheCatalog,
    layer: Annotated[Literal["post", "pre"], Query()] = "post",
) -> Response:
    """The pixels of a square as they were when it was first tagged."""
    with catalog.reading() as session:
        found = row(session, Chip, number, "chip")
    name = found.content if layer == "post" else found.before
    if name is None:
        raise missing(f"image before of chip {number}")
    return Response(catalog.files.read(name), 200, _FOR_EVER, "image/png")


@router.get("/agreement")
def agree(
    visitor: Viewer,
    catalog: TheCatalog,
    label_set: Annotated[str | None, Query(max_length=80)] = None,
) -> dict[str, Any]:
    """Cohen's kappa of each two taggers and of all, and the squares on which tags differ now."""
    with catalog.reading() as session:
        name = set_name(session, label_set)
        tables = compared(session, name)
        differing = disagreements(session, name, _DIFFERING)
    return {
        "pairs": [
            {"first": first, "second": second, **vars(agreement(table))}
            for (first, second), table in tables.items()
        ],
        "overall": vars(overall(tables)),
        "disagreements": [
            {
                "chip": said[0].chip_id,
                "scene": said[0].scene_id,
                "scene_name": said[0].scene.name,
                "square": _square(said[0].chip),
                "said": [{"user": t.user.name, "label": t.label, "tag": t.id} for t in said],
            }
            for said in differing
        ],
    }


def _in_utc(given: datetime) -> datetime:
    try:
        if given.tzinfo is not None:
            return given.astimezone(UTC)
    except OverflowError:  # a moment before the year 1, or after 9999, elsewhere in the world
        pass
    raise UsageError("`before` is a moment with its time zone, such as a tag's made_at.")


def _labels(one: LabelSet) -> dict[str, Any]:
    return {"id": one.id, "name": one.name, "version": one.version, "labels": one.labels}


def _square(chip: Chip | None) -> list[int] | None:
    return None if chip is None else [chip.row, chip.col, chip.side]


def _told(tag: Tag, user: User) -> dict[str, Any]:
    return {
        "id": tag.id,
        "scene": tag.scene_id,
        "scene_name": tag.scene.name,
        "square": _square(tag.chip),
        "polygon": None if tag.polygon is None else in_pixels(tag.scene, tag.polygon),
        "chip": tag.chip_id,
        "label": tag.label,
        "label_set": tag.label_set_id,
        "user": tag.user.name,
        "made_at": tag.made_at,
        "replaces": tag.replaces,
        "mine": tag.user_id == user.id,
    }
