"""Runs in the catalog, and what reviewers say of their buildings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased, joinedload

from ...scenes.errors import UsageError
from ...scenes.legend import LEVELS, UNGRADED
from ..finished import Finished
from .catalog import Catalog, local_user, note
from .tables import VERDICTS, Review, Run, Scene, User
from .tagging import Outrun, check_id


def add_run(catalog: Catalog, path: Path) -> tuple[Run, bool]:
    """Catalogue a finished run folder where it lies; and whether it is new.

    Its images are linked where they are catalogued. Raises Refused for what is no finished run.
    """
    finished = Finished.open(path)
    record = finished.record
    with catalog.writing() as session:
        user = local_user(session)
        known = session.scalars(select(Run).where(Run.run_id == finished.run_id)).first()
        if known is not None:
            known.path = str(Path(path).absolute())
            known.totals = record["totals"]  # of a run that went on, these are new
            return known, False
        run = Run(
            run_id=finished.run_id,
            path=str(Path(path).absolute()),
            method=finished.method,
            model_digest=record["method"].get("weights_sha256"),
            scene_id=_scene(session, record, "post"),
            before_id=_scene(session, record, "pre"),
            totals=record["totals"],
            added_by=user.id,
        )
        session.add(run)
        session.flush()
        note(session, user, "add", f"run {run.id}", run_id=run.run_id)
        return run, True


def _scene(session: Session, record: dict[str, Any], role: str) -> int | None:
    """The catalogued image that a run read, where it read one file."""
    files = record["facts"]["inputs"].get(role, [])
    if len(files) != 1:
        return None
    return session.scalars(
        select(Scene.id).where(Scene.digest == files[0].get("sampled_sha256"))
    ).first()


@dataclass(frozen=True)
class Judged:
    """What somebody says of one building of a run."""

    id: str
    """A UUID; sent again, nothing is added."""
    building_id: str
    verdict: str | None
    """accepted, corrected or rejected; None takes back what was said before."""
    predicted: int
    """Code of the class that the run gave."""
    damage_class: int | None = None
    """Code of the right class, where it is corrected."""
    after: int = 0
    """The number of the review that was shown, 0 for none: a later one must be looked at first."""


def add_review(catalog: Catalog, user: User, run: int, said: Judged) -> Review:
    """Keep a verdict; the one that is there where it came before.

    Raises UsageError for what cannot be said, Outrun where somebody else has judged the building since.
    """
    check_id(said.id, "a review")
    damage_class = _class_of(said)
    row = Review(
        id=said.id, run_id=run, building_id=said.building_id, number=said.after + 1,
        verdict=said.verdict, damage_class=damage_class, predicted=said.predicted, user_id=user.id,
    )  # fmt: skip
    try:
        with catalog.writing() as session:
            known = session.get(Review, said.id)
            if known is not None:
                return _same(known, row)
            if session.get(Run, run) is None:
                raise UsageError(f"There is no run number {run}.")
            _check_newest(session, run, said)
            session.add(row)
            session.flush()
            note(
                session,
                user,
                "review",
                f"run {run} {said.building_id}",
                verdict=said.verdict,
                damage_class=damage_class,
            )
    except IntegrityError:
        with catalog.reading() as session:
            known = session.get(Review, said.id)
            if known is not None:
                return _same(known, row)
            _check_newest(session, run, said)
        raise
    with catalog.reading() as session:
        return session.get_one(Review, said.id, options=(joinedload(Review.user),))


def newest_reviews(run: int) -> Select[Review]:
    """The query of what was said last of each building of a run, also where it was taken back."""
    later = aliased(Review)
    newest = (
        select(func.max(later.number))
        .where(later.run_id == Review.run_id, later.building_id == Review.building_id)
        .scalar_subquery()
    )
    return (
        select(Review)
        .where(Review.run_id == run, Review.number == newest)
        .options(joinedload(Review.user))
        .order_by(Review.building_id)
    )


def standing_reviews(run: int) -> Select[Review]:
    """The query of what counts of a run: the newest review of each building, where it says something."""
    return newest_reviews(run).where(Review.verdict.is_not(None))


def _class_of(said: Judged) -> int | None:
    """The class that counts from now on."""
    if said.verdict is not None and said.verdict not in VERDICTS:
        raise UsageError(f"A building is {', '.join(VERDICTS)}, not {said.verdict!r}.")
    if said.verdict == "corrected":
        if said.damage_class not in (*LEVELS, UNGRADED):
            raise UsageError(
                f"A corrected building has one of the classes {(*LEVELS, UNGRADED)}, not {said.damage_class}."
            )
        return said.damage_class
    return said.predicted if said.verdict == "accepted" else None


def _check_newest(session: Session, run: int, said: Judged) -> None:
    query = select(Review).where(Review.run_id == run, Review.building_id == said.building_id)
    newest = session.scalars(
        query.order_by(Review.number.desc()).options(joinedload(Review.user))
    ).first()
    if newest is not None and newest.number != said.after:
        raise Outrun(
            f"{newest.user.name} said {newest.verdict or 'nothing any more'} of {said.building_id} at "
            f"{newest.made_at:%H:%M:%S}. Look at it again first."
        )
    if newest is None and said.after:
        raise UsageError(f"Nobody has reviewed {said.building_id}; `after` is 0.")


def _same(known: Review, row: Review) -> Review:
    told = ("run_id", "building_id", "verdict", "damage_class", "user_id")
    if any(getattr(known, name) != getattr(row, name) for name in told):
        raise UsageError(
            f"The review {known.id} is there already and says something else. Make a new id."
        )
    return known
