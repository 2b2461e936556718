"""Logging in and out; users and the audit trail, for admins."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import select

from ...cluster.catalog.people import LASTS, add_user, deactivate, may_log_in
from ...cluster.catalog.tables import Entry, User
from ...cluster.catalog.tagging import Outrun
from ...scenes.errors import Refused, UsageError
from ..answers import missing
from ..visitors import COOKIE, Admin, Anybody, Viewer, Visitor, log_in, log_out
from .given import MOST, TheCatalog

router = APIRouter(prefix="/api", tags=["people"])


class Credentials(BaseModel):
    """A name and its password."""

    name: str = Field(max_length=80)
    password: str = Field(max_length=1000)


class NewUser(BaseModel):
    """Somebody who is to log in; without a password, one who may and keeps theirs."""

    name: str = Field(max_length=80)
    role: str = Field(max_length=16)
    new: bool = False
    """Whether there must not be anybody of this name."""
    password: str | None = Field(None, max_length=1000)


@router.post("/login", dependencies=[Anybody])
def login(
    said: Credentials, request: Request, response: Response, catalog: TheCatalog
) -> dict[str, Any]:
    """Begin a session: five tries a minute for a name from an address."""
    address = request.client.host if request.client else ""
    old = request.cookies.get(COOKIE, "")
    cookie, visitor = log_in(catalog, said.name, said.password, address, old)
    response.set_cookie(
        COOKIE, cookie, max_age=int(LASTS.total_seconds()), path="/", httponly=True,
        secure=request.url.scheme == "https", samesite="strict",
    )  # fmt: skip
    return _me(visitor)


@router.post("/logout")
def logout(
    visitor: Viewer, request: Request, response: Response, catalog: TheCatalog
) -> dict[str, bool]:
    """End the session."""
    log_out(catalog, visitor, request.cookies[COOKIE])
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return {"out": True}


@router.get("/me")
def me(visitor: Viewer) -> dict[str, Any]:
    """Who is logged in, and the token that each change must bring along."""
    return _me(visitor)


@router.get("/users")
def users(visitor: Admin, catalog: TheCatalog) -> list[dict[str, Any]]:
    """Everybody whom rows name, those who cannot log in too."""
    with catalog.reading() as session:
        return [_user(user) for user in session.scalars(select(User).order_by(User.name))]


@router.post("/users", status_code=201)
def new_user(visitor: Admin, said: NewUser, catalog: TheCatalog) -> dict[str, Any]:
    """Let somebody log in, or change role or password of one who is there; ends their sessions."""
    if said.name == visitor.user.name and said.role != visitor.user.role:
        raise UsageError("Ask another admin: who gives up the role himself may leave none.")
    with catalog.writing() as session:
        known = session.scalars(select(User).where(User.name == said.name)).first()
        if said.new and known is not None:
            raise Outrun(f"{known.name} is there already. Change them in the list.")
        return _user(add_user(session, said.name, said.role, said.password, visitor.user))


@router.post("/users/{name}/deactivate")
def out(visitor: Admin, name: str, catalog: TheCatalog) -> dict[str, Any]:
    """Let somebody in no longer; what they said stays."""
    if name == visitor.user.name:
        raise UsageError("Ask another admin: who deactivates himself may leave none.")
    with catalog.writing() as session:
        try:
            deactivate(session, name, visitor.user)
        except Refused:
            raise missing(f"user {name[:80]}") from None
        return _user(session.scalars(select(User).where(User.name == name)).one())


@router.get("/audit")
def audit(
    visitor: Admin,
    catalog: TheCatalog,
    before: Annotated[int | None, Query(ge=1, le=MOST)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[dict[str, Any]]:
    """Who did what, the newest first; go on with the `id` of the last as `before`."""
    with catalog.reading() as session:
        names = dict(session.execute(select(User.id, User.name)).tuples().all())
        query = select(Entry).order_by(Entry.id.desc()).limit(limit)
        if before is not None:
            query = query.where(Entry.id < before)
        return [
            {
                "id": entry.id,
                "at": entry.at,
                "user": None if entry.user_id is None else names[entry.user_id],
                "action": entry.action,
                "subject": entry.subject,
                "details": entry.details,
            }
            for entry in session.scalars(query)
        ]


def _me(visitor: Visitor) -> dict[str, Any]:
    user = visitor.user
    return {"user": {"name": user.name, "role": user.role}, "token": visitor.token}


def _user(user: User) -> dict[str, Any]:
    return {
        "name": user.name,
        "role": user.role,
        "active": user.active,
        "may_log_in": may_log_in(user),
        "made_at": user.made_at,
    }
