"""The server of the tagging and review app: a catalog as web pages and as JSON under /api.

Nothing that a client sends is a path or an address: images, chips, runs and models are numbers of the
catalog's rows. No route takes a file, so that there is no upload to disguise: images come in by
`aftermap catalog add`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from starlette.types import Lifespan

from ..cluster.catalog.catalog import Catalog
from ..scenes.errors import UsageError
from . import pages
from .answers import told_in_words
from .decoding import Decoder
from .door import Door, hosts_of
from .routes import export, learning, people, runs, scenes, tags
from .visitors import ROLES_OF
from .works import Works

PARTS = (people, scenes, tags, runs, learning, export, pages)
"""The modules whose routes there are."""

_SILENT: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
"""Nothing leaves the machine, whatever the environment's variables say of collectors."""


@dataclass(frozen=True)
class ServerOptions:
    """What a server is told beside its catalog."""

    host: str = "127.0.0.1"
    """Where it listens; requests that call it by a name of another site are turned away."""
    runs: tuple[Path, ...] = ()
    """Folders whose runs, regions and trainings are listed. Default: the one that the catalog is in."""

    def __post_init__(self) -> None:
        for folder in self.runs:
            if not folder.is_dir():
                raise UsageError(f"There is no folder {folder}. Check --runs.")


def create_app(
    catalog: Catalog,
    options: ServerOptions | None = None,
    lifespan: Lifespan[FastAPI] | None = None,
) -> FastAPI:
    """The server as an ASGI application. Raises TypeError for a route that does not say who may use it."""
    options = options or ServerOptions()
    app = FastAPI(
        title="aftermap",
        description="Tags, runs and models of a catalog. Changes bring the token of /api/me along as "
        "X-CSRF-Token; errors are {error, code}.",
        version=version("aftermap"),
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        telemetry=_SILENT,
    )
    app.state.catalog = catalog
    app.state.decoder = Decoder(catalog.files)
    folder = catalog.folder.resolve()
    app.state.works = Works(options.runs or (folder.parent,), except_in=folder)
    for route, role in roles():
        route.openapi_extra = {"x-role": role}
    for part in PARTS:
        app.include_router(part.router)
    pages.show_app(app)
    told_in_words(app)
    hosts, any_address = hosts_of(options.host)
    app.add_middleware(Door, hosts=hosts, any_address=any_address)
    return app


def roles() -> Iterator[tuple[APIRoute, str | None]]:
    """Each route and the role that it needs, None for nobody's."""
    for route in chain.from_iterable(part.router.routes for part in PARTS):
        if not isinstance(route, APIRoute):
            raise TypeError(f"{route} is no route that can name a role")
        found = [ROLES_OF[call] for call in _calls(route.dependant) if call in ROLES_OF]
        if len(found) != 1:
            raise TypeError(f"{route.path} names {len(found)} roles, not one")
        yield route, found[0]


def _calls(dependant: Dependant) -> Iterator[Any]:
    for one in dependant.dependencies:
        yield one.call
        yield from _calls(one)
