"""Who asks: the sessions of browsers, and the role that each route demands."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NoReturn
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request
from sqlalchemy import delete, or_

from ..cluster.catalog.catalog import Catalog, note
from ..cluster.catalog.people import LASTS, known_user, may
from ..cluster.catalog.tables import Login, User, now
from .limits import PASSWORDS, Limit

COOKIE = "aftermap_session"
TOKEN = "X-CSRF-Token"

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_TRIES = Limit(5, 60)
"""Of one name from one address."""

_TRIES_THERE = Limit(120, 60)
"""From one address: a whole office may begin its shift at once."""

_ASKED = Limit(6000, 60)
"""By one user: a map that is dragged asks for a hundred tiles a second."""


@dataclass(frozen=True)
class Visitor:
    """Somebody who is logged in."""

    user: User
    token: str
    """What each change must bring along."""


def needs(role: str) -> Callable[[Request], Visitor]:
    """The dependency of a route that only those with a role, or a higher one, may use.

    401 without a session, 403 for too low a role and for a change without the session's token or
    from another site, 429 for too many requests.
    """

    def check(request: Request) -> Visitor:
        visitor = _visitor(request)
        if visitor is None:
            raise HTTPException(401, "Log in first.")
        _check_origin(request)
        given = request.headers.get(TOKEN, "")
        if request.method not in _SAFE and not _same(given, visitor.token):
            raise HTTPException(403, f"The change lacks the token of /api/me as {TOKEN}.")
        if not may(visitor.user, role):
            raise HTTPException(403, f"This needs the role {role}; yours is {visitor.user.role}.")
        _hold_back(_ASKED.wait(visitor.user.name))
        return visitor

    ROLES_OF[check] = role
    return check


def anybody(request: Request) -> None:
    """The dependency of a route that needs no session: only other sites are kept out."""
    _check_origin(request)


ROLES_OF: dict[Callable[..., object], str | None] = {anybody: None}
"""The role that each dependency demands; None for nobody's. A route has exactly one of them."""

Viewer = Annotated[Visitor, Depends(needs("viewer"))]
Tagger = Annotated[Visitor, Depends(needs("tagger"))]
Reviewer = Annotated[Visitor, Depends(needs("reviewer"))]
Admin = Annotated[Visitor, Depends(needs("admin"))]
Anybody = Depends(anybody)


def log_in(
    catalog: Catalog, name: str, password: str, address: str, old: str
) -> tuple[str, Visitor]:
    """Begin a session, and end the one that the browser had: the value of its cookie, and whose it is.

    The cookie is 256 random bits, made anew at each login, and kept as its digest. Raises
    HTTPException 401 for a wrong name or password, 429 for too many of them.
    """
    key = f"{name[:80]} {address}"
    _hold_back(_TRIES_THERE.wait(address))
    _hold_back(_TRIES.wait(key))
    with PASSWORDS, catalog.reading() as session:
        user = known_user(session, name, password)
    if user is None:
        with catalog.writing() as session:
            note(session, None, "login refused", name[:80], address=address)
        raise HTTPException(401, "Name or password is wrong.")
    _TRIES.clear(key)
    cookie, token = secrets.token_hex(32), secrets.token_hex(32)
    with catalog.writing() as session:
        session.execute(
            delete(Login).where(or_(Login.ends_at < now(), Login.digest == _digest(old)))
        )
        session.add(
            Login(digest=_digest(cookie), user_id=user.id, token=token, ends_at=now() + LASTS)
        )
        note(session, user, "login", user.name, address=address)
    return cookie, Visitor(user, token)


def log_out(catalog: Catalog, visitor: Visitor, cookie: str) -> None:
    """End a session."""
    with catalog.writing() as session:
        session.execute(delete(Login).where(Login.digest == _digest(cookie)))
        note(session, visitor.user, "logout", visitor.user.name)


def _visitor(request: Request) -> Visitor | None:
    cookie = request.cookies.get(COOKIE)
    if not cookie:
        return None
    catalog: Catalog = request.app.state.catalog
    with catalog.reading() as session:
        found = session.get(Login, _digest(cookie))
    if found is None or found.ends_at < now() or not found.user.active:
        return None
    return Visitor(found.user, found.token)


def _check_origin(request: Request) -> None:
    """Refuse a change that another site's page asks for; browsers say whose page it is."""
    origin = request.headers.get("origin")
    if request.method in _SAFE or origin is None:
        return
    if urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower():
        raise HTTPException(403, f"A page of {origin[:100]} may not change anything here.")


def _hold_back(seconds: float) -> None:
    if seconds > 0:
        _too_many(math.ceil(seconds))


def _too_many(seconds: int) -> NoReturn:
    words = f"Too many requests. Try again in {seconds} seconds."
    raise HTTPException(429, words, {"Retry-After": str(seconds)})


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()
