"""Models and how they come about: jobs, learning from the tags, and what a model says of a square."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ...cluster.catalog.imagery import fetched
from ...cluster.catalog.lineage import promote, promoted, trace
from ...cluster.catalog.tables import Job, Model, ModelTag, Scene, User
from ...scenes.geojson import plain
from ...scenes.legend import LEGEND
from ..limits import MODELS
from ..visitors import Reviewer, Viewer
from ..works import Works
from .given import MOST, Number, TheCatalog, TheDecoder, row, set_name

MOST_WORKS = 50
"""That are told at once."""

router = APIRouter(prefix="/api", tags=["learning"])

_Pixel = Annotated[int, Field(ge=-MOST, le=MOST)]


class Asked(BaseModel):
    """A square that a model is asked about."""

    square: tuple[_Pixel, _Pixel, _Pixel]


class ToLearn(BaseModel):
    """What is to be learnt, and how what is worth tagging next is chosen."""

    label_set: Annotated[str, Field(max_length=80)] | int = "damage"
    how: Literal["uncertain", "diverse", "disagreement", "audit", "mixed"] = "mixed"
    layers: Literal["last", "all"] = "last"
    method: str | None = Field(None, max_length=40)


@router.post("/scenes/{number}/says")
def says(
    visitor: Viewer, number: Number, asked: Asked, catalog: TheCatalog, decoder: TheDecoder
) -> dict[str, Any]:
    """What the model in use says of a square; 404 where none is in use."""
    from ...cluster.learn.config import METHODS
    from ...cluster.learn.saying import says as model_says

    with catalog.reading() as session:
        scene = row(session, Scene, number, "scene")
        if not any(promoted(session, method) for method in METHODS):
            raise HTTPException(404, "No model is in use yet. Learn one from tags, on Progress.")
    fetched(catalog, scene)
    with MODELS:
        said = model_says(catalog, number, asked.square, decoder.square)
    return {
        "model": said.model,
        "method": said.method,
        "score": plain(said.score),
        "label": said.label,
        "threshold": plain(said.threshold),
    }


@router.post("/learn", status_code=202)
def learn(visitor: Reviewer, said: ToLearn, catalog: TheCatalog) -> dict[str, Any]:
    """Begin to learn from the tags, in a process of its own; 409 while one is at it."""
    from ...cluster.learn.config import LearnConfig
    from ...cluster.learn.start import start_learning

    with catalog.reading() as session:
        name = set_name(session, str(said.label_set))
    method = said.method or LearnConfig.method
    config = LearnConfig(label_set=name, how=said.how, layers=said.layers, method=method)
    number = start_learning(catalog, visitor.user.name, config)
    with catalog.reading() as session:
        return _job(session, row(session, Job, number, "job"))


@router.get("/jobs")
def jobs(visitor: Viewer, catalog: TheCatalog) -> list[dict[str, Any]]:
    """All jobs, the newest first; those whose process is gone are stopped."""
    from ...cluster.learn.jobs import jobs as all_jobs

    found = all_jobs(catalog)
    with catalog.reading() as session:
        return [_job(session, job) for job in found]


@router.get("/jobs/{number}")
def job(visitor: Viewer, number: Number, catalog: TheCatalog) -> dict[str, Any]:
    """How far a job is, or why it failed."""
    from ...cluster.learn.jobs import jobs as all_jobs

    all_jobs(catalog)
    with catalog.reading() as session:
        return _job(session, row(session, Job, number, "job"))


@router.post("/jobs/{number}/stop")
def stop(visitor: Reviewer, number: Number, catalog: TheCatalog) -> dict[str, Any]:
    """End a running job of the server's machine; what it had finished stays."""
    from ...cluster.learn.jobs import stop as stop_job

    with catalog.reading() as session:
        row(session, Job, number, "job")
    stop_job(catalog, number, visitor.user)
    with catalog.reading() as session:
        return _job(session, row(session, Job, number, "job"))


@router.get("/works")
def works(visitor: Viewer, request: Request) -> list[dict[str, Any]]:
    """Runs, regions and trainings in the folders that the server watches: first those that run."""
    found: Works = request.app.state.works
    return [_finite(asdict(work)) for work in found.now()[:MOST_WORKS]]


@router.get("/models")
def models(visitor: Viewer, catalog: TheCatalog) -> list[dict[str, Any]]:
    """All models, the newest first."""
    with catalog.reading() as session:
        counts = _learnt(session)
        found = session.scalars(select(Model).order_by(Model.id.desc()))
        return [_model(session, model, counts) for model in found]


@router.get("/models/curve")
def curve(visitor: Viewer, catalog: TheCatalog) -> list[dict[str, Any]]:
    """Quality against the number of tags: the models that learnt from tags, the oldest first."""
    with catalog.reading() as session:
        counts = _learnt(session)
        found = session.scalars(select(Model).order_by(Model.id))
        return [
            {"model": model.id, "tags": counts[model.id], "metrics": _finite(model.metrics)}
            for model in found
            if model.id in counts
        ]


@router.get("/models/{number}")
def model(visitor: Viewer, number: Number, catalog: TheCatalog) -> dict[str, Any]:
    """A model and the exact tags that it was made with."""
    with catalog.reading() as session:
        found: dict[str, Any] = _finite(trace(session, row(session, Model, number, "model")))
        return found


@router.post("/models/{number}/promote")
def use(visitor: Reviewer, number: Number, catalog: TheCatalog) -> dict[str, Any]:
    """Put a model in use; the one before it is retired."""
    with catalog.writing() as session:
        found = row(session, Model, number, "model")
        promote(session, found, visitor.user)
        session.flush()
        return _model(session, found, _learnt(session))


@router.get("/legend")
def legend(visitor: Viewer) -> list[dict[str, Any]]:
    """The codes of damage, with names and colours."""
    return [
        {
            "code": one.code,
            "name": one.name,
            "definition": one.definition,
            "colour": one.hex,
            "opacity": one.opacity,
            "hatched": one.hatched,
        }
        for one in LEGEND
    ]


def _learnt(session: Session) -> dict[int, int]:
    query = select(ModelTag.model_id, func.count()).group_by(ModelTag.model_id)
    return dict(session.execute(query).tuples().all())


def _job(session: Session, job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "told": job.told,
        "done": plain(job.done),
        "began_at": job.began_at,
        "ended_at": job.ended_at,
        "by": session.get_one(User, job.user_id).name,
    }


def _model(session: Session, model: Model, tags: dict[int, int]) -> dict[str, Any]:
    return {
        "id": model.id,
        "method": model.method,
        "state": model.state,
        "metrics": _finite(model.metrics),
        "made_at": model.made_at,
        "by": session.get_one(User, model.made_by).name,
        "parent": model.parent_id,
        "tags": tags.get(model.id, 0),
    }


def _finite(value: Any) -> Any:
    """As JSON has it: a measure that could not be taken is null."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return plain(value)
