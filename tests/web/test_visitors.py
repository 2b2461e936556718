"""Logging in and out: sessions, tries, and what a browser is told."""

from __future__ import annotations

import hashlib
from contextlib import closing
from datetime import timedelta

import httpx
import pytest
from aftermap.cluster.catalog.people import add_user, deactivate
from aftermap.cluster.catalog.tables import Login, now
from aftermap.web.limits import Limit
from sqlalchemy import select, update
from web_made import PASSWORD, Site, client

COOKIE = "aftermap_session"


def _log_in(server: Site, name: str, password: str, **cookies: str) -> httpx.Response:
    with httpx.Client(base_url=f"{server.address}/api", cookies=cookies) as browser:
        return browser.post("/login", json={"name": name, "password": password})


def test_the_cookie_is_for_the_server_alone(server: Site) -> None:
    told = _log_in(server, "ana", PASSWORD).headers["set-cookie"]
    assert "HttpOnly" in told
    assert "SameSite=strict" in told
    assert "Path=/" in told
    assert "Secure" not in told  # http on loopback


def test_the_database_knows_only_the_digest(server: Site) -> None:
    cookie = server.as_("viewer").cookies[COOKIE]
    assert len(cookie) == 64
    with server.catalog.reading() as session:
        digests = set(session.scalars(select(Login.digest)))
    assert cookie not in digests
    assert hashlib.sha256(cookie.encode()).hexdigest() in digests


def test_a_session_is_made_anew_at_login(server: Site) -> None:
    """Fixation: a cookie that somebody else has chosen or knows is worth nothing afterwards."""
    planted = "a" * 64
    answer = _log_in(server, "ana", PASSWORD, **{COOKIE: planted})
    first = answer.cookies[COOKIE]
    assert first != planted
    assert httpx.get(f"{server.address}/api/me", cookies={COOKIE: planted}).status_code == 401
    second = _log_in(server, "ana", PASSWORD, **{COOKIE: first}).cookies[COOKIE]
    assert second != first
    assert httpx.get(f"{server.address}/api/me", cookies={COOKIE: first}).status_code == 401
    assert httpx.get(f"{server.address}/api/me", cookies={COOKIE: second}).status_code == 200


def test_a_cookie_that_was_logged_out_is_worth_nothing(server: Site) -> None:
    with closing(client(server.address, "ben")) as person:
        cookie = person.cookies[COOKIE]
        assert person.post("/logout").status_code == 200
        assert COOKIE not in person.cookies
    assert httpx.get(f"{server.address}/api/me", cookies={COOKIE: cookie}).status_code == 401


def test_a_session_ends_with_its_time_and_with_its_user(server: Site) -> None:
    with server.catalog.writing() as session:
        add_user(session, "eva", "tagger", PASSWORD)
    with closing(client(server.address, "eva")) as person:
        digest = hashlib.sha256(person.cookies[COOKIE].encode()).hexdigest()
        with server.catalog.writing() as session:
            late = now() - timedelta(seconds=1)
            session.execute(update(Login).where(Login.digest == digest).values(ends_at=late))
        assert person.get("/me").status_code == 401
    with closing(client(server.address, "eva")) as person:
        with server.catalog.writing() as session:
            deactivate(session, "eva")
        assert person.get("/me").status_code == 401
    assert _log_in(server, "eva", PASSWORD).status_code == 401


def test_many_wrong_passwords_have_to_wait(server: Site) -> None:
    codes = [_log_in(server, "mallory", f"guess {k}").status_code for k in range(7)]
    assert codes == [401] * 5 + [429] * 2
    answer = _log_in(server, "mallory", "guess")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert answer.json()["code"] == 429
    assert _log_in(server, "viewer", PASSWORD).status_code == 200  # nobody else has to


@pytest.mark.parametrize("body", [{}, {"name": "ana"}, {"name": ["ana"], "password": 1}, []])
def test_a_malformed_login_is_told_in_words(server: Site, body: object) -> None:
    answer = httpx.post(f"{server.address}/api/login", json=body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error", "code"}


def test_another_sites_page_may_change_nothing(server: Site) -> None:
    person = server.as_("admin")
    answer = person.post("/label-sets", json=[], headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    assert "evil.example" in answer.json()["error"]
    said = {"name": "ana", "password": PASSWORD}
    forged = httpx.post(f"{server.address}/api/login", json=said, headers={"Origin": "null"})
    assert forged.status_code == 403
    ours = person.post("/label-sets", json=[], headers={"Origin": server.address})
    assert ours.status_code == 400


def test_a_form_is_no_login(server: Site) -> None:
    """What a foreign form can send without asking: no JSON, or JSON that says it is text."""
    text = '{"name": "ana", "password": "a long password"}'
    kind = {"Content-Type": "text/plain"}
    assert httpx.post(f"{server.address}/api/login", content=text, headers=kind).status_code == 400


def test_users_come_and_go(server: Site) -> None:
    admin = server.as_("admin")
    said = {"name": "finn", "role": "reviewer", "password": PASSWORD}
    assert admin.post("/users", json=said).status_code == 201
    assert client(server.address, "finn").get("/me").json()["user"] == {
        "name": "finn",
        "role": "reviewer",
    }
    assert admin.post("/users/finn/deactivate").json()["active"] is False
    assert admin.post("/users/nobody/deactivate").status_code == 404
    assert admin.post("/users/admin/deactivate").status_code == 400
    assert "characters" in admin.post("/users", json=said | {"password": "x"}).json()["error"]
    actions = [entry["action"] for entry in admin.get("/audit").json()]
    assert actions[:2] == ["deactivate", "login"]
    assert "password" not in admin.get("/users").text


def test_an_admin_gives_up_the_role_only_by_another(server: Site) -> None:
    admin = server.as_("admin")
    said = {"name": "admin", "role": "viewer", "password": PASSWORD}
    answer = admin.post("/users", json=said)
    assert answer.status_code == 400, answer.text
    assert "another admin" in answer.json()["error"]
    assert admin.get("/me").json()["user"]["role"] == "admin"
    second = {"name": "second", "role": "admin", "password": PASSWORD}
    assert admin.post("/users", json=second).status_code == 201
    with closing(client(server.address, "second")) as other:
        # One's own password may be changed, which ends one's sessions.
        assert other.post("/users", json=second).status_code == 201
        assert other.get("/me").status_code == 401
    assert admin.post("/users", json=second | {"role": "viewer"}).json()["role"] == "viewer"


def test_a_limit_counts_what_it_let_pass() -> None:
    time = [0.0]
    limit = Limit(2, 10, lambda: time[0])
    assert [limit.wait("a"), limit.wait("a"), limit.wait("a")] == [0, 0, 10]
    assert limit.wait("b") == 0
    time[0] = 4.0
    assert limit.wait("a") == 6
    time[0] = 10.0
    assert limit.wait("a") == 0
