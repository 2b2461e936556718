"""Who may log in, and what roles include."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from aftermap.cluster.catalog.catalog import Catalog, local_user
from aftermap.cluster.catalog.labels import change_labels
from aftermap.cluster.catalog.people import add_user, deactivate, known_user, may
from aftermap.cluster.catalog.tables import ROLES, LabelSet, User
from aftermap.scenes.errors import Refused, UsageError
from sqlalchemy import func, select
from sqlalchemy.orm import Session


def test_name_and_password_together_are_known(catalog: Catalog, ana: User) -> None:
    with catalog.reading() as session:
        assert known_user(session, "ana", "a long password").id == ana.id
        for name, password in (("ana", "a long Password"), ("ana", ""), ("bob", "a long password")):
            assert known_user(session, name, password) is None


def test_passwords_are_not_kept(catalog: Catalog, ana: User) -> None:
    assert "long" not in str(ana.password)
    assert str(ana.password).startswith("$argon2")


def test_who_works_at_the_command_line_cannot_log_in(catalog: Catalog) -> None:
    with catalog.writing() as session:
        user = local_user(session)
        assert known_user(session, user.name, "") is None
        assert may(user, "admin")


def test_who_is_gone_is_let_in_no_longer(catalog: Catalog, ana: User) -> None:
    with catalog.writing() as session:
        deactivate(session, "ana")
    with catalog.reading() as session:
        assert known_user(session, "ana", "a long password") is None
    with catalog.writing() as session, pytest.raises(Refused, match="no user 'eve'"):
        deactivate(session, "eve")


@pytest.mark.parametrize("number", range(len(ROLES)))
def test_a_role_includes_those_before_it(number: int) -> None:
    user = User(name="x", role=ROLES[number], active=True)
    assert [may(user, role) for role in ROLES] == [k <= number for k in range(len(ROLES))]


@pytest.mark.parametrize(
    ("name", "role", "password"),
    [
        ("", "tagger", "a long password"),
        ("<b>", "tagger", "a long password"),
        ("ana", "king", "a long password"),
        ("ana", "tagger", "short"),
    ],
)
def test_unusable_names_roles_and_passwords_are_refused(
    catalog: Catalog, name: str, role: str, password: str
) -> None:
    with catalog.writing() as session, pytest.raises(UsageError):
        add_user(session, name, role, password)


def _at_once(catalog: Catalog, change: Callable[[Session], object]) -> None:
    """Make a change, and the same again while the first is not yet true."""
    failures = []

    def again() -> None:
        try:
            with catalog.writing() as session:
                change(session)
        except Exception as error:
            failures.append(error)

    other = threading.Thread(target=again)
    with catalog.writing() as session:
        change(session)
        other.start()
        time.sleep(0.4)
    other.join()
    assert failures == []


def test_made_twice_at_once_it_is_one_user(catalog: Catalog) -> None:
    _at_once(catalog, lambda session: add_user(session, "eve", "tagger", "a long password"))
    with catalog.reading() as session:
        assert session.scalar(select(func.count()).where(User.name == "eve")) == 1
        assert known_user(session, "eve", "a long password") is not None


def test_who_works_at_the_command_line_twice_at_once_is_one_user(catalog: Catalog) -> None:
    _at_once(catalog, local_user)
    with catalog.reading() as session:
        assert session.scalar(select(func.count()).select_from(User)) == 1


def test_changed_twice_at_once_a_label_set_has_one_new_version(catalog: Catalog) -> None:
    labels = [{"name": "yes", "damaged": True}, {"name": "no", "damaged": False}]
    _at_once(catalog, lambda session: change_labels(session, "roofs", labels))
    with catalog.reading() as session:
        query = select(LabelSet.version).where(LabelSet.name == "roofs")
        assert session.scalars(query).all() == [1]
