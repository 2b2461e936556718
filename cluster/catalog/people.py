"""Who may log in, and what they may do."""

from __future__ import annotations

import re
from datetime import timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from ...scenes.errors import Refused, UsageError
from .catalog import note, user_called
from .tables import ROLES, Login, User

LEAST_PASSWORD = 10
"""Characters."""

LASTS = timedelta(hours=12)
"""How long somebody stays logged in: a shift."""

_HASHER = PasswordHasher()
_NOBODY = _HASHER.hash("nobody has this password")


def add_user(
    session: Session, name: str, role: str, password: str | None, by: User | None = None
) -> User:
    """Let somebody log in; changes role and password of one who is there already, and ends their sessions.

    Without a password, that of somebody who may log in stays. Raises UsageError for an unusable name,
    role or password, and where there is no password that could stay.
    """
    if not re.fullmatch(r"[\w.@+-]{1,80}", name):
        raise UsageError(f"{name[:80]!r} is no name: letters, digits, . @ + - and _, at most 80.")
    check_role(role)
    if password is not None and len(password) < LEAST_PASSWORD:
        raise UsageError(f"A password has {LEAST_PASSWORD} characters or more.")
    hashed = None if password is None else _HASHER.hash(password)
    user = user_called(session, name, role)
    if hashed is not None:
        user.password, user.active = hashed, True
    elif not may_log_in(user):
        raise UsageError(f"{name} cannot log in. Give a password.")
    user.role = role
    session.flush()
    log_out_everywhere(session, user)
    note(session, by, "user", name, role=role, new_password=hashed is not None)
    return user


def check_role(role: str) -> None:
    """Refuse a role that does not exist."""
    if role not in ROLES:
        raise UsageError(f"There is no role {role!r}: {', '.join(ROLES)}.")


def may(user: User, role: str) -> bool:
    """Whether a user's role includes another."""
    return user.active and ROLES.index(user.role) >= ROLES.index(role)


def may_log_in(user: User) -> bool:
    """Whether somebody has a password that lets them in."""
    return user.active and user.password is not None


def deactivate(session: Session, name: str, by: User | None = None) -> None:
    """Let somebody in no longer; what they said stays. Refused for an unknown name."""
    user = session.scalars(select(User).where(User.name == name)).first()
    if user is None:
        raise Refused(f"There is no user {name!r}.")
    user.active = False
    log_out_everywhere(session, user)
    note(session, by, "deactivate", name)


def log_out_everywhere(session: Session, user: User) -> None:
    """End all sessions of a user."""
    session.execute(delete(Login).where(Login.user_id == user.id))


def known_user(session: Session, name: str, password: str) -> User | None:
    """The user whom name and password belong to; takes as long for names that nobody has."""
    user = session.scalars(select(User).where(User.name == name)).first()
    known = user.password if user is not None and may_log_in(user) else None
    try:
        _HASHER.verify(known or _NOBODY, password)
    except (VerificationError, InvalidHashError):
        return None
    return user if known else None
