"""What schemathesis makes of the interface's own description: nothing that is sent makes the server stumble."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from aftermap.web.server import roles
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import one_of
from web_made import Site

schemathesis = pytest.importorskip("schemathesis")

# What fits the description, and what does not.
MODES = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
EXPECTED = {200, 201, 202, 400, 404, 405, 409, 413, 429, 502, 503}
"""502 and 503 are those of images that cannot be fetched, and of requests that shall come again."""

LEFT_OUT = {
    ("POST", "/api/logout"),  # ends the session of all that follows
    ("POST", "/api/learn"),  # begins a process each time
}
OPERATIONS = sorted(
    {
        (method, route.path)
        for route, _ in roles()
        for method in route.methods or ()
        if route.include_in_schema
    }
    - LEFT_OUT
)

QUICK = settings(
    max_examples=40, deadline=None, database=None, derandomize=True,
    phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.fixture(scope="module")
def described(site: Site) -> Any:
    """The description that the server itself gives."""
    told = httpx.get(f"{site.address}/api/openapi.json").json()
    return schemathesis.openapi.from_dict(told)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_whatever_is_sent_is_answered_in_words(
    site: Site, described: Any, method: str, path: str
) -> None:
    person = site.as_("admin")
    cookies = "; ".join(f"{name}={value}" for name, value in person.cookies.items())
    headers = {"Cookie": cookies, "X-CSRF-Token": person.headers["X-CSRF-Token"]}

    operation = described[path][method]
    expected = EXPECTED | ({401} if path == "/api/login" else set())

    @QUICK
    @given(case=one_of(*(operation.as_strategy(generation_mode=mode) for mode in MODES)))
    def asked(case: Any) -> None:
        answer = case.call(base_url=site.address, headers=headers, timeout=30)
        assert answer.status_code in expected, (answer.status_code, answer.text)
        if answer.status_code >= 400:
            said = answer.json()
            assert said["error"]
            assert said["code"] == answer.status_code

    asked()
