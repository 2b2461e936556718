"""Runs in the catalog, and reviews of their buildings by several people."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.runs import Judged, add_review, add_run, standing_reviews
from aftermap.cluster.catalog.tables import Review, Run, User
from aftermap.cluster.catalog.tagging import Outrun
from aftermap.scenes.errors import Refused, UsageError
from runs import buildings, finished_run


@pytest.fixture
def run(catalog: Catalog, tmp_path: Path) -> Run:
    return add_run(catalog, finished_run(tmp_path / "run", buildings()))[0]


def _said(verdict: str | None = "accepted", **more: object) -> Judged:
    return replace(Judged(str(uuid.uuid4()), "a-1", verdict, predicted=3), **more)  # type: ignore[arg-type]


def _standing(catalog: Catalog, run: Run) -> list[Review]:
    with catalog.reading() as session:
        return list(session.scalars(standing_reviews(run.id)))


def test_a_run_is_catalogued_once(catalog: Catalog, run: Run, tmp_path: Path) -> None:
    again, new = add_run(catalog, tmp_path / "run")
    assert (again.id, new) == (run.id, False)


def test_what_is_no_run_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not a run folder"):
        add_run(catalog, tmp_path)


def test_the_newest_review_counts(catalog: Catalog, run: Run, ana: User) -> None:
    add_review(catalog, ana, run.id, _said())
    assert [(r.verdict, r.damage_class) for r in _standing(catalog, run)] == [("accepted", 3)]
    add_review(catalog, ana, run.id, _said("corrected", damage_class=1, after=1))
    assert [(r.verdict, r.damage_class) for r in _standing(catalog, run)] == [("corrected", 1)]
    add_review(catalog, ana, run.id, _said("rejected", after=2))
    assert [(r.verdict, r.damage_class) for r in _standing(catalog, run)] == [("rejected", None)]
    add_review(catalog, ana, run.id, _said(None, after=3))
    assert _standing(catalog, run) == []


def test_who_comes_second_is_told(catalog: Catalog, run: Run, ana: User) -> None:
    add_review(catalog, ana, run.id, _said("rejected"))
    with pytest.raises(Outrun, match="ana said rejected of a-1"):
        add_review(catalog, ana, run.id, _said())


def test_sent_twice_it_is_one_review(catalog: Catalog, run: Run, ana: User) -> None:
    said = _said()
    assert add_review(catalog, ana, run.id, said).id == add_review(catalog, ana, run.id, said).id
    with pytest.raises(UsageError, match="says something else"):
        add_review(catalog, ana, run.id, replace(said, verdict="rejected"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"verdict": "liked"}, "accepted, corrected, rejected"),
        ({"verdict": "corrected"}, "one of the classes"),
        ({"verdict": "corrected", "damage_class": 255}, "one of the classes"),
        ({"after": 4}, "Nobody has reviewed"),
        ({"id": "x"}, "UUID"),
    ],
)
def test_what_cannot_be_said_is_refused(
    catalog: Catalog, run: Run, ana: User, more: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        add_review(catalog, ana, run.id, _said(**more))  # type: ignore[arg-type]
    assert _standing(catalog, run) == []


def test_a_run_that_is_not_there_is_refused(catalog: Catalog, run: Run, ana: User) -> None:
    with pytest.raises(UsageError, match="no run number 77"):
        add_review(catalog, ana, 77, _said())
