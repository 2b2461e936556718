"""Every route against every role: what each may do, and nothing without a session."""

from __future__ import annotations

import re

import httpx
import pytest
from aftermap.cluster.catalog.tables import ROLES
from aftermap.web.server import roles
from web_made import Site, client

ROUTES = [
    (method, route.path, role) for route, role in roles() for method in sorted(route.methods or ())
]


def _ask(person: httpx.Client, method: str, path: str) -> httpx.Response:
    # No route takes a list: whoever is let in is told so, and nothing happens.
    told = {"json": []} if method == "POST" else {}
    address = re.sub(r"{\w+}", "1", path).removeprefix("/api")
    return person.request(method, address, **told)  # type: ignore[arg-type]


def test_every_route_of_the_interface_names_its_role(server: Site) -> None:
    paths = httpx.get(f"{server.address}/api/openapi.json").json()["paths"]
    told = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    hidden = {path for _, path, role in ROUTES if "docs" in path}
    assert told == {(method, path) for method, path, _ in ROUTES if path not in hidden}


@pytest.mark.parametrize(("method", "path", "role"), ROUTES)
def test_each_role_may_do_what_it_may(
    server: Site, method: str, path: str, role: str | None
) -> None:
    with httpx.Client(base_url=f"{server.address}/api") as stranger:
        answer = _ask(stranger, method, path)
    if role is None:
        assert answer.status_code != 401
        return
    assert answer.status_code == 401
    assert answer.json() == {"error": "Log in first.", "code": 401}
    for has in ROLES:
        person = client(server.address, has) if path == "/api/logout" else server.as_(has)
        code = _ask(person, method, path).status_code
        if ROLES.index(has) < ROLES.index(role):
            assert code == 403, has
        else:
            assert code in (200, 400, 404), has


@pytest.mark.parametrize("path", [path for method, path, _ in ROUTES if method == "POST"])
def test_a_change_needs_the_token_of_its_session(server: Site, path: str) -> None:
    if path == "/api/login":
        return
    person, other = server.as_("admin"), server.as_("reviewer")
    address = re.sub(r"{\w+}", "1", path).removeprefix("/api")
    for token in ("", "0" * 64, other.headers["X-CSRF-Token"]):
        answer = person.post(address, json=[], headers={"X-CSRF-Token": token})
        assert (answer.status_code, answer.json()["code"]) == (403, 403)
        assert "token" in answer.json()["error"]
