"""Scenes: their list, their tiles, places in them, and squares that are worth looking at."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Response
from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session, joinedload

from ...cluster.catalog.imagery import before_of, fetched
from ...cluster.catalog.scene_grid import grid_of, lonlat_pixels, pixels_lonlat
from ...cluster.catalog.tables import Chip, Scene, Suggestion
from ...cluster.catalog.tagging import current_tags
from ..answers import missing
from ..tiles import levels, place
from ..visitors import Viewer
from .given import Coordinate, Number, TheCatalog, TheDecoder, row

router = APIRouter(prefix="/api", tags=["scenes"])

Layer = Annotated[Literal["post", "pre"], Query()]

MOST_PHOTOS = 5000
"""That are drawn as points on one raster."""

_KEPT = {"Cache-Control": "private, max-age=3600"}


@router.get("/scenes")
def scenes(visitor: Viewer, catalog: TheCatalog) -> list[dict[str, Any]]:
    """All scenes, with the number of tags that hold; 0 levels where the image was not fetched yet."""
    with catalog.reading() as session:
        counted = _tags(session)
        found = session.scalars(select(Scene).order_by(Scene.id))
        return [_told(scene, counted.get(scene.id, 0)) for scene in found]


@router.get("/scenes/{number}")
def scene(visitor: Viewer, number: Number, catalog: TheCatalog) -> dict[str, Any]:
    """One scene; the image of a service is fetched now."""
    with catalog.reading() as session:
        found, count = row(session, Scene, number, "scene"), _tags(session).get(number, 0)
    return _told(fetched(catalog, found), count)


@router.get("/scenes/{number}/tiles/{z}/{x}/{y}", response_class=Response)
def tile(
    visitor: Viewer, number: Number, z: Coordinate, x: Coordinate, y: Coordinate,
    catalog: TheCatalog, decoder: TheDecoder, layer: Layer = "post",
) -> Response:  # fmt: skip
    """A tile in the scene's own pixels: PNG at full zoom, where nothing may be lost, else WebP."""
    found, before = _with_before(catalog, number)
    where = None if found.height is None else place((found.height, found.width or 0), z, x, y)
    if where is None:
        raise missing(f"tile {z}/{x}/{y} of scene {number}")
    if layer == "pre":
        before = before_of(catalog, found)
    image = decoder.tile(found, before, where, layer)
    return Response(image, 200, _KEPT, "image/png" if where.whole else "image/webp")


@router.get("/scenes/{number}/lonlat")
def lonlat(
    visitor: Viewer,
    number: Number,
    x: Annotated[float, Query(ge=-1e9, le=1e9)],
    y: Annotated[float, Query(ge=-1e9, le=1e9)],
    catalog: TheCatalog,
) -> dict[str, float] | None:
    """Where a pixel lies, degrees; null in a photo."""
    with catalog.reading() as session:
        grid = grid_of(row(session, Scene, number, "scene"))
    if grid is None:
        return None
    lon, lat = pixels_lonlat(np.array([[x, y]]), grid)[0]
    return {"lon": float(lon), "lat": float(lat)}


@router.get("/scenes/{number}/photos")
def photos(visitor: Viewer, number: Number, catalog: TheCatalog) -> list[dict[str, Any]]:
    """Photos whose camera stood within a raster, as points in its pixels; none for a photo."""
    with catalog.reading() as session:
        found = row(session, Scene, number, "scene")
        grid = grid_of(found)
        if grid is None:
            return []
        query = select(Scene.id, Scene.name, Scene.taken_at, Scene.west, Scene.south).where(
            Scene.kind == "photo", Scene.west.is_not(None)
        )
        if found.west is not None and found.east is not None and found.west <= found.east:
            query = query.where(
                Scene.west.between(found.west, found.east),
                Scene.south.between(found.south, found.north),
            )
        standing = session.execute(query.order_by(Scene.id).limit(MOST_PHOTOS)).all()
    if not standing:
        return []
    places = lonlat_pixels(np.array([(one.west, one.south) for one in standing], float), grid)
    height, width = grid.shape
    return [
        {"id": one.id, "name": one.name, "taken_at": one.taken_at, "x": float(x), "y": float(y)}
        for one, (x, y) in zip(standing, places, strict=True)
        if 0 <= x <= width and 0 <= y <= height
    ]


@router.get("/suggestions")
def suggestions(
    visitor: Viewer, catalog: TheCatalog, limit: Annotated[int, Query(ge=1, le=1000)] = 20
) -> list[dict[str, Any]]:
    """Squares that are worth looking at and that nobody has tagged yet, the best first."""
    tagged = current_tags().join(Chip).where(
        Chip.scene_id == Suggestion.scene_id, Chip.row == Suggestion.row,
        Chip.col == Suggestion.col, Chip.side == Suggestion.side,
    )  # fmt: skip
    query = (
        select(Suggestion)
        .where(~exists(tagged.with_only_columns(Chip.id)))
        .options(joinedload(Suggestion.scene))
        .order_by(Suggestion.id)
        .limit(limit)
    )
    with catalog.reading() as session:
        return [
            {
                "scene": one.scene_id,
                "scene_name": one.scene.name,
                "square": [one.row, one.col, one.side],
                "score": one.score,
                "reason": one.reason,
                "model": one.model_id,
            }
            for one in session.scalars(query)
        ]


def _with_before(catalog: TheCatalog, number: int) -> tuple[Scene, Scene | None]:
    """A scene whose image is at hand, and the one before it."""
    with catalog.reading() as session:
        found = row(session, Scene, number, "scene")
        before = None if found.before_id is None else session.get(Scene, found.before_id)
    return fetched(catalog, found), before


def _tags(session: Session) -> dict[int, int]:
    holding = current_tags().subquery()
    query = select(holding.c.scene_id, func.count()).group_by(holding.c.scene_id)
    return dict(session.execute(query).tuples().all())


def _told(scene: Scene, tags: int) -> dict[str, Any]:
    photo = scene.kind == "photo"
    placed = scene.west is not None
    known = scene.height is not None and scene.width is not None
    return {
        "id": scene.id,
        "kind": scene.kind,
        "name": scene.name,
        "width": scene.width,
        "height": scene.height,
        "bounds": [scene.west, scene.south, scene.east, scene.north]
        if placed and not photo
        else None,
        "position": [scene.west, scene.south] if placed and photo else None,
        "gsd_m": scene.gsd_m,
        "taken_at": scene.taken_at,
        "town": scene.town,
        "event": scene.event,
        "before_id": scene.before_id,
        "tags": tags,
        "levels": levels(scene.height or 0, scene.width or 0) if known else 0,
    }
