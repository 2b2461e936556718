"""Runs: their buildings on the map, what reviewers say of them, and what they let pass."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy import func, select

from ...cluster.catalog.accepted import FORMATS, write_accepted
from ...cluster.catalog.buildings import Buildings, Wanted, open_buildings
from ...cluster.catalog.catalog import Catalog
from ...cluster.catalog.runs import Judged, add_review, newest_reviews, standing_reviews
from ...cluster.catalog.tables import VERDICTS, Review, Run, Scene
from ...scenes.errors import AftermapError, Refused, UsageError
from ..answers import missing, packed
from ..downloads import written
from ..limits import TABLE_OF, Busy
from ..visitors import Reviewer, Viewer
from .given import Number, TheCatalog, row

_LOG = logging.getLogger(__name__)

router = APIRouter(prefix="/api", tags=["runs"])

Pixel = Annotated[float | None, Query(ge=-1e9, le=1e9)]
_Id = Annotated[str, Field(max_length=80)]


class NewReview(BaseModel):
    """What is said of one building."""

    id: str = Field(max_length=36)
    building_id: _Id
    verdict: str | None = Field(None, max_length=16)
    damage_class: Annotated[int, Field(ge=0, le=255)] | None = None
    after: Annotated[int, Field(ge=0, le=2**31 - 2)] = 0


@router.get("/runs")
def runs(visitor: Viewer, catalog: TheCatalog) -> list[dict[str, Any]]:
    """All runs; `problem` says of one that cannot be shown why."""
    with catalog.reading() as session:
        names = dict(session.execute(select(Scene.id, Scene.name)).tuples().all())
        found = list(session.scalars(select(Run).order_by(Run.id.desc())))
        counts = {
            run.id: session.scalar(
                select(func.count()).select_from(standing_reviews(run.id).order_by(None).subquery())
            )
            for run in found
        }
        scenes = {run.id: _scene(session, run) for run in found}
    return [
        {
            "id": run.id,
            "run_id": run.run_id,
            "method": run.method,
            "scene": run.scene_id,
            "before": run.before_id,
            "scene_name": None if run.scene_id is None else names[run.scene_id],
            "totals": run.totals,
            "reviewed": counts[run.id],
            "path_name": run.path.rstrip("/").rpartition("/")[2],
            **_described(catalog, run, scenes[run.id]),
        }
        for run in found
    ]


@router.get("/runs/{number}/buildings", response_class=JSONResponse)
def buildings(
    visitor: Viewer,
    request: Request,
    number: Number,
    catalog: TheCatalog,
    x0: Pixel = None,
    y0: Pixel = None,
    x1: Pixel = None,
    y1: Pixel = None,
    classes: Annotated[str | None, Query(max_length=100)] = None,
    least_score: Annotated[float | None, Query(ge=0, le=1)] = None,
    reviewed: Literal["any", "no", "yes"] = "any",
    limit: Annotated[int, Query(ge=1, le=20_000)] = 5000,
) -> Response:
    """Buildings of a place, as GeoJSON whose coordinates are pixels (x, y) of the scene."""
    table, newest = _opened(catalog, number)
    said = _standing(newest)
    wanted = Wanted(
        box=_box(x0, y0, x1, y1),
        classes=None if classes is None else _codes(classes),
        least_score=least_score,
        among=list(said) if reviewed == "yes" else None,
        without=list(said) if reviewed == "no" else (),
    )
    found = table.find(wanted, limit + 1)
    features = _reviewed(table.features(found.iloc[:limit]), newest)
    more = len(found) > limit
    return packed({"type": "FeatureCollection", "features": features, "more": more}, request)


@router.get("/runs/{number}/buildings/next")
def next_building(
    visitor: Viewer,
    number: Number,
    catalog: TheCatalog,
    after: Annotated[str | None, Query(max_length=80)] = None,
    order: Literal["uncertain", "id"] = "uncertain",
) -> dict[str, Any] | None:
    """The next building that nobody has reviewed, from the beginning again at the end; null where none is left."""
    table, newest = _opened(catalog, number)
    said = _standing(newest)
    ids = table.ids(order)
    first = ids.index(after) + 1 if after in ids else 0
    for name in (*ids[first:], *ids[:first]):
        if name not in said:
            return _reviewed(table.features(table.find(Wanted(among=[name]), 1)), newest)[0]
    return None


@router.post("/runs/{number}/reviews", status_code=201)
def review(
    visitor: Reviewer, number: Number, said: NewReview, catalog: TheCatalog
) -> dict[str, Any]:
    """Accept, correct or reject a building; 409 where somebody else has said something since `after`."""
    table, _ = _opened(catalog, number)
    found = table.find(Wanted(among=[said.building_id]), 1)
    if found.empty:
        raise missing(f"building {said.building_id} in run {number}")
    kept = add_review(
        catalog,
        visitor.user,
        number,
        Judged(
            id=said.id, building_id=said.building_id, verdict=said.verdict,
            predicted=int(found["damage_class"].iloc[0]), damage_class=said.damage_class,
            after=said.after,
        ),
    )  # fmt: skip
    return {"id": kept.id, "building_id": kept.building_id, "predicted": kept.predicted} | _told(
        kept, visitor.user.name
    )


@router.get("/runs/{number}/counts")
def counts(visitor: Viewer, number: Number, catalog: TheCatalog) -> dict[str, Any]:
    """How many buildings of each class the run gave, and how many there are with all reviews applied."""
    table, newest = _opened(catalog, number)
    said = _standing(newest)
    predicted = table.finished.counts
    now = dict(predicted)
    for one in said.values():
        now[one.predicted] = now.get(one.predicted, 0) - 1
        if one.damage_class is not None:
            now[one.damage_class] = now.get(one.damage_class, 0) + 1
    verdicts = [one.verdict for one in said.values()]
    return {
        "buildings": sum(predicted.values()),
        "by_class": predicted,
        "reviewed": {verdict: verdicts.count(verdict) for verdict in VERDICTS},
        "now": {code: count for code, count in sorted(now.items()) if count},
    }


@router.get("/runs/{number}/accepted", response_class=FileResponse)
def accepted(
    visitor: Viewer,
    number: Number,
    catalog: TheCatalog,
    format: Literal["gpkg", "geojson", "csv"] = "gpkg",
) -> FileResponse:
    """Accepted and corrected buildings with `reviewed_class`, as a file."""
    table, newest = _opened(catalog, number)
    said = _standing(newest)
    name = f"reviewed-{table.finished.run_id[:12]}.{format}"
    return written(
        visitor.user.name,
        name,
        FORMATS[format],
        lambda path: write_accepted(table, said, path, format),
    )


def _opened(catalog: Catalog, number: int) -> tuple[Buildings, dict[str, Review]]:
    with catalog.reading() as session:
        run = row(session, Run, number, "run")
        scene = _scene(session, run)
        newest = {one.building_id: one for one in session.scalars(newest_reviews(number))}
    return _table(catalog, run, scene), newest


def _standing(newest: dict[str, Review]) -> dict[str, Review]:
    """Those that say something, rather than take back what was said before."""
    return {name: one for name, one in newest.items() if one.verdict is not None}


def _scene(session: Any, run: Run) -> Scene | None:
    return None if run.scene_id is None else session.get(Scene, run.scene_id)


def _described(catalog: Catalog, run: Run, scene: Scene | None) -> dict[str, Any]:
    """What only the run folder says."""
    try:
        with _readable(run):
            table = _table(catalog, run, scene)
            finished = table.finished
            return {
                "graded": finished.graded,
                "table": finished.table,
                "bounds_px": table.extent,
                "problem": None,
            }
    except AftermapError as problem:
        words = str(problem)
    except Busy as problem:
        words = problem.detail
    return {"graded": None, "table": None, "bounds_px": None, "problem": words}


def _table(catalog: Catalog, run: Run, scene: Scene | None) -> Buildings:
    """A run's table, one request at a time for each run: the first may have to convert it."""
    with TABLE_OF.of(run.id), _readable(run):
        return open_buildings(catalog, run, scene)


@contextmanager
def _readable(run: Run) -> Iterator[None]:
    """Say in words why a run cannot be read: damaged files make their readers stumble over anything."""
    try:
        yield
    except (AftermapError, Busy):
        raise
    except Exception as problem:
        _LOG.warning("run %s in %s", run.id, run.path, exc_info=problem)
        raise Refused(
            f"The run in {run.path} cannot be read ({type(problem).__name__}: {problem}). Put its files "
            "back as `aftermap assess` wrote them, or assess into another folder."
        ) from problem


def _box(*corners: float | None) -> tuple[float, float, float, float] | None:
    known = [value for value in corners if value is not None]
    if not known:
        return None
    if len(known) < 4 or known[0] > known[2] or known[1] > known[3]:
        raise UsageError("A place is x0, y0, x1 and y1 in pixels, with x0 <= x1 and y0 <= y1.")
    return known[0], known[1], known[2], known[3]


def _codes(text: str) -> list[int]:
    try:
        return [int(code) for code in text.split(",") if code]
    except ValueError:
        raise UsageError(
            f"`classes` are codes with commas between, such as 3,4; not {text!r}."
        ) from None


def _reviewed(features: list[dict[str, Any]], newest: dict[str, Review]) -> list[dict[str, Any]]:
    for feature in features:
        one = newest.get(feature["id"])
        feature["properties"]["review"] = None if one is None else _told(one, one.user.name)
    return features


def _told(one: Review, user: str) -> dict[str, Any]:
    return {
        "number": one.number,
        "verdict": one.verdict,
        "damage_class": one.damage_class,
        "user": user,
        "made_at": one.made_at,
    }
