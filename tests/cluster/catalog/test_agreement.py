"""Agreement of taggers: Cohen's kappa against scikit-learn, and whose word counts."""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from aftermap.cluster.catalog.agreement import agreement, compared, disagreements, overall
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.people import add_user
from aftermap.cluster.catalog.tables import LabelSet, Scene, User
from aftermap.cluster.catalog.tagging import Said, add_tag
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

LABELS = st.sampled_from(["damage", "no-damage", "cannot-tell"])


@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=40))
def test_kappa_is_cohens(said: list[tuple[str, str]]) -> None:
    found = agreement(Counter(said))
    first, second = zip(*said, strict=True)
    assert (found.both, found.same) == (len(said), sum(a == b for a, b in said))
    if len({*first, *second}) == 1:
        assert found.kappa is None
    else:
        assert found.kappa == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


def test_of_one_pair_over_all_is_the_same() -> None:
    table = Counter({("a", "a"): 5, ("a", "b"): 2, ("b", "b"): 3})
    assert overall({("x", "y"): table}) == agreement(table)
    assert overall({}).kappa is None
    twice = overall({("x", "y"): table, ("x", "z"): table})
    assert twice.kappa == pytest.approx(agreement(table).kappa)


@pytest.fixture
def ben(catalog: Catalog) -> User:
    with catalog.writing() as session:
        return add_user(session, "ben", "reviewer", "a long password")


def _say(
    catalog: Catalog,
    user: User,
    scene: Scene,
    labels: LabelSet,
    label: str | None,
    place: int = 0,
    replaces: str | None = None,
) -> str:
    square = None if replaces else (0, 32 * place, 32)
    said = Said(labels.id, label, str(uuid.uuid4()), scene.id, square, replaces=replaces)
    return add_tag(catalog, user, said).id


def _words(catalog: Catalog) -> dict[tuple[str, str], Counter[tuple[str, str]]]:
    with catalog.reading() as session:
        return compared(session, "damage")


def test_what_each_said_last_counts(
    catalog: Catalog, scene: Scene, labels: LabelSet, ana: User, ben: User
) -> None:
    old = _say(catalog, ana, scene, labels, "damage")
    _say(catalog, ben, scene, labels, "no-damage")
    assert _words(catalog) == {("ana", "ben"): {("damage", "no-damage"): 1}}
    new = _say(catalog, ana, scene, labels, "no-damage", replaces=old)
    assert _words(catalog) == {("ana", "ben"): {("no-damage", "no-damage"): 1}}
    _say(catalog, ana, scene, labels, None, replaces=new)
    assert _words(catalog) == {}


def test_a_correction_by_somebody_else_is_no_opinion(
    catalog: Catalog, scene: Scene, labels: LabelSet, ana: User, ben: User
) -> None:
    first = _say(catalog, ana, scene, labels, "damage")
    _say(catalog, ben, scene, labels, "no-damage")
    with catalog.reading() as session:
        assert [[t.user.name for t in tags] for tags in disagreements(session, "damage", 9)] == [
            ["ana", "ben"]
        ]
    settled = _say(catalog, ben, scene, labels, "no-damage", replaces=first)
    assert _words(catalog) == {("ana", "ben"): {("damage", "no-damage"): 1}}
    with catalog.reading() as session:
        assert disagreements(session, "damage", 9) == []
    _say(catalog, ben, scene, labels, None, replaces=settled)


def test_what_somebody_else_took_back_is_left_out(
    catalog: Catalog, scene: Scene, labels: LabelSet, ana: User, ben: User
) -> None:
    first = _say(catalog, ana, scene, labels, "damage")
    _say(catalog, ben, scene, labels, "damage")
    _say(catalog, ben, scene, labels, None, replaces=first)
    assert _words(catalog) == {}


def test_many_people_against_scikit_learn(
    catalog: Catalog, scene: Scene, labels: LabelSet, ana: User, ben: User, tmp_path: Path
) -> None:
    with catalog.writing() as session:
        eva = add_user(session, "eva", "tagger", "a long password")
    rng, said = np.random.default_rng(0), {}
    for user in (ana, ben, eva):
        for place in range(8):
            if rng.random() < 0.8:
                said[user.name, place] = str(rng.choice(["damage", "no-damage"]))
                _say(catalog, user, scene, labels, said[user.name, place], place)
    for (one, other), table in _words(catalog).items():
        both = [p for p in range(8) if (one, p) in said and (other, p) in said]
        found = agreement(table)
        assert found.both == len(both)
        wanted = cohen_kappa_score([said[one, p] for p in both], [said[other, p] for p in both])
        assert found.kappa == pytest.approx(wanted)
