"""How the server says that something went wrong: words and a code, never a stack."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from starlette.exceptions import HTTPException as Refusal
from starlette.responses import JSONResponse, Response

from ..cluster.catalog.tagging import Outrun
from ..scenes.errors import AftermapError, NothingToAnalyse, Refused, UsageError
from ..scenes.remote import Unreachable
from ..scenes.scene import ReadError

_LOG = logging.getLogger(__name__)

_CODES: dict[type[Exception], int] = {
    Outrun: 409,
    Unreachable: 502,
    UsageError: 400,
    Refused: 400,
    NothingToAnalyse: 400,
    AftermapError: 500,
    # What lies in the file will not be better the next time: 500 would be sent again and again.
    ReadError: 400,
}


def error(code: int, words: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer to what cannot be done."""
    return JSONResponse({"error": words, "code": code}, code, headers)


def packed(content: Any, request: Request) -> Response:
    """A large answer as JSON, compressed where the client takes that: a tenth of it over the network."""
    plain = JSONResponse(jsonable_encoder(content))
    if "gzip" not in request.headers.get("Accept-Encoding", ""):
        return plain
    headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Response(gzip.compress(bytes(plain.body), 1), 200, headers, plain.media_type)


def missing(what: str) -> HTTPException:
    """There is no such thing."""
    return HTTPException(404, f"There is no {what}.")


def told_in_words(app: FastAPI) -> None:
    """Have every failure of an app answered in words."""
    for kind, code in _CODES.items():
        app.add_exception_handler(kind, _expected(code))
    app.add_exception_handler(Refusal, _http)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(DataError, _unstorable)
    for busy in (OperationalError, NoConnection):
        app.add_exception_handler(busy, _busy)
    app.add_exception_handler(Exception, _unexpected)


def _expected(code: int) -> Callable[[Request, Exception], JSONResponse]:
    def answer(_: Request, problem: Exception) -> JSONResponse:
        return error(code, str(problem))

    return answer


def _http(_: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, Refusal)
    return error(problem.status_code, str(problem.detail), problem.headers)


def _malformed(_: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, RequestValidationError)
    told = []
    for one in problem.errors()[:5]:
        where = ".".join(str(part) for part in one["loc"][1:]) or str(one["loc"][0])
        told.append(f"{where[:80]}: {one['msg']}")
    return error(400, "; ".join(told) or "The request cannot be understood.")


def _unstorable(_: Request, problem: Exception) -> JSONResponse:
    return error(400, "The request holds text or numbers that the database cannot keep.")


def _busy(_: Request, problem: Exception) -> JSONResponse:
    _LOG.error("database: %s", problem)
    return error(503, "The database is busy. Try again.", {"Retry-After": "2"})


def _unexpected(request: Request, problem: Exception) -> JSONResponse:
    return error(500, "Something went wrong that nobody expected. The server's log says what.")
