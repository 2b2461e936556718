"""What comes to the door: foreign names, large bodies, paths that lead elsewhere, and what browsers are told."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from aftermap.web.door import hosts_of, is_loopback
from web_made import Site


def _raw(server: Site, text: bytes) -> bytes:
    """What the server answers to bytes that no client would send."""
    place = urlsplit(server.address)
    with socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=10) as sock:
        sock.sendall(text)
        return sock.recv(65536)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "[",
        "10.0.0.1",
        "user@evil.example:80",
    ],
)
def test_a_foreign_name_is_turned_away(server: Site, host: str) -> None:
    answer = httpx.get(f"{server.address}/api/docs", headers={"Host": host})
    assert answer.status_code == 400
    assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8765", "127.0.0.1:1", "[::1]:8765"])
def test_this_machines_names_are_known(server: Site, host: str) -> None:
    assert httpx.get(f"{server.address}/api/docs", headers={"Host": host}).status_code == 200


def test_names_of_other_addresses() -> None:
    assert hosts_of("192.168.1.20") == ({"localhost", "127.0.0.1", "::1", "192.168.1.20"}, False)
    names, any_address = hosts_of("0.0.0.0")
    assert any_address
    assert socket.gethostname().lower() in names
    assert [is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "office")] == [
        True
    ] * 3 + [False] * 2


def test_a_large_body_is_turned_away(server: Site) -> None:
    """By what its head says: nothing of it need be sent, and a server that hangs up is not raced."""
    person = server.as_("admin")
    cookies = "; ".join(f"{name}={value}" for name, value in person.cookies.items())
    head = (
        f"POST /api/label-sets HTTP/1.1\r\nHost: {urlsplit(server.address).netloc}\r\n"
        f"Cookie: {cookies}\r\nX-CSRF-Token: {person.headers['X-CSRF-Token']}\r\n"
    )
    for length, code in (((1 << 20) + 2, b"413"), (2, b"400")):
        told = f"{head}Content-Length: {length}\r\n\r\n{{}}"
        assert _raw(server, told.encode()).startswith(b"HTTP/1.1 " + code)


def test_a_large_body_that_does_not_say_so_is_turned_away(server: Site) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(64):
            yield b" " * (1 << 16)

    try:
        answer = server.as_("admin").post("/label-sets", content=parts())
    except httpx.TransportError:  # it hung up before all was sent
        return
    assert answer.status_code == 413


def test_a_body_of_brackets_is_told_in_words(server: Site) -> None:
    deep = b"[" * 200_000 + b"]" * 200_000
    kind = {"Content-Type": "application/json"}
    answer = server.as_("admin").post("/label-sets", content=deep, headers=kind)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%2f..%2f..%2fserver.py",
        "/assets/../../server.py",
        "//etc/passwd",
        "/api/scenes/..%2f..%2f1",
        "/api/chips/..%2f..%2fcatalog.db",
        "/api/scenes/1/tiles/0/0/..%2f0",
        "/api/docs/../../web/server.py",
        "/api/scenes/%00",
    ],
)  # fmt: skip
def test_no_path_leads_elsewhere(server: Site, path: str) -> None:
    person = server.as_("viewer")
    cookie = f"aftermap_session={person.cookies['aftermap_session']}"
    answer = _raw(
        server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n".encode()
    )
    assert answer.split(b" ", 2)[1] in (b"400", b"404", b"405")
    assert b"root:" not in answer
    assert b"import" not in answer


def test_a_missing_name_of_the_host_is_turned_away(server: Site) -> None:
    assert _raw(server, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("path", ["/", "/api/docs", "/api/nothing", "/api/me", "/api/legend"])
def test_every_answer_protects_its_reader(server: Site, path: str) -> None:
    answer = httpx.get(f"{server.address}{path}")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "server" not in answer.headers


def test_nothing_private_is_kept_by_browsers(server: Site) -> None:
    assert server.as_("viewer").get("/tags").headers["cache-control"] == "no-store"


def test_the_description_of_the_interface_loads_nothing(server: Site) -> None:
    page = httpx.get(f"{server.address}/api/docs").text
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page
    assert "/api/scenes/{number}/tiles/{z}/{x}/{y}" in page
    assert "Role: reviewer" in page


def test_unknown_methods_are_told_in_words(server: Site) -> None:
    place = urlsplit(server.address)
    connection = http.client.HTTPConnection(str(place.hostname), int(place.port or 0), timeout=10)
    connection.request("DELETE", "/api/me")
    answer = connection.getresponse()
    assert answer.status == 405
    assert b'"code":405' in answer.read()
    connection.close()
