"""What routes are given: the catalog, numbers of rows, and what a number stands for."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from fastapi import Depends, Path, Query, Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from ...cluster.catalog.catalog import Catalog
from ...cluster.catalog.labels import PLAIN
from ...cluster.catalog.tables import LabelSet, Table
from ..answers import missing
from ..decoding import Decoder

MOST = 2**31 - 1
"""The largest number of a row that PostgreSQL keeps, and the largest pixel that is asked for."""

Number = Annotated[int, Path(ge=1, le=MOST)]
Coordinate = Annotated[int, Path(ge=0, le=MOST)]
Square = Annotated[
    list[Annotated[int, Query(ge=-MOST, le=MOST)]], Query(min_length=3, max_length=3)
]

Row = TypeVar("Row", bound=Table)


def _catalog(request: Request) -> Catalog:
    found: Catalog = request.app.state.catalog
    return found


def _decoder(request: Request) -> Decoder:
    found: Decoder = request.app.state.decoder
    return found


TheCatalog = Annotated[Catalog, Depends(_catalog)]
TheDecoder = Annotated[Decoder, Depends(_decoder)]


def row(session: Session, table: type[Row], number: Any, what: str) -> Row:
    """A row by its number; 404 where there is none."""
    found = session.get(table, number)
    if found is None:
        raise missing(f"{what} {number}")
    return found


def set_name(session: Session, wanted: str | None) -> str:
    """The label set of a number or a name, by name: its versions are one set. `damage` by default."""
    if wanted is None:
        return PLAIN
    found = numbered_set(session, wanted)
    if found is not None:
        return found.name
    if session.scalars(select(LabelSet.id).where(LabelSet.name == wanted).limit(1)).first() is None:
        raise missing(f"label set {wanted[:80]}")
    return wanted


def numbered_set(session: Session, wanted: str) -> LabelSet | None:
    """The label set whose number a text is; None where it is no number, or nobody's."""
    # A superscript two is a digit as well, and int() reads neither it nor thousands of digits.
    number = int(wanted) if wanted.isascii() and wanted.isdigit() and len(wanted) <= 10 else 0
    return session.get(LabelSet, number) if 0 < number <= MOST else None
