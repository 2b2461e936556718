"""Whole files behind http: whole or in words, whatever the server does."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from aftermap.scenes.download import Bounds, download
from aftermap.scenes.errors import Refused
from aftermap.scenes.remote import RemoteFile, Unreachable
from loopback import Asked, Server, hanging, served, unavailable

CONTENT = bytes(range(256)) * 3000


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.01")
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "2")
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "1")
    (tmp_path / "image").write_bytes(CONTENT)
    with served(tmp_path) as found:
        yield found


def _fetched(server: Server, most: int = 1 << 30) -> bytes:
    stream = io.BytesIO()
    download(RemoteFile.of(server.url("image")), stream, Bounds(most))
    return stream.getvalue()


def test_it_comes_whole(server: Server) -> None:
    assert _fetched(server) == CONTENT


def test_after_passing_failures_it_is_written_anew(server: Server) -> None:
    faults = [unavailable, lambda asked: asked.answer(200, asked.content, cut=1000)]

    def fault(asked: Asked) -> bool:
        return bool(faults) and faults.pop()(asked)

    server.fault = fault
    assert _fetched(server) == CONTENT
    assert len(server.log) == 3


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (unavailable, "503"),
        (
            lambda asked: asked.answer(302, b"", {"Location": "http://127.0.0.1:1/x"}),
            "redirects are not followed",
        ),
        (lambda asked: asked.answer(404), "404"),
        (lambda asked: asked.answer(200, b""), "is empty"),
        (lambda asked: asked.answer(200, asked.content, cut=1), "cannot be read"),
        (hanging, "cannot be read"),
    ],
    ids=["unavailable", "redirect", "missing", "empty", "cut", "hanging"],
)
def test_what_does_not_come_is_told(server: Server, fault: object, words: str) -> None:
    server.fault = fault  # type: ignore[assignment]
    with pytest.raises(Refused, match=words):
        _fetched(server)


def test_too_much_is_not_taken(server: Server) -> None:
    with pytest.raises(Refused, match="more than 1,000 bytes"):
        _fetched(server, 1000)
    assert len(server.log) == 1


def test_a_full_disk_is_no_fault_of_the_network(server: Server) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        download(RemoteFile.of(server.url("image")), Full())
    assert len(server.log) == 1


def test_what_trickles_is_given_up_in_the_end(server: Server) -> None:
    def trickle(asked: Asked) -> bool:
        asked.handler.send_response(200)
        asked.handler.send_header("Content-Length", "1000")
        asked.handler.end_headers()
        for _ in range(40):
            asked.handler.wfile.write(b"x")
            time.sleep(0.05)
        asked.handler.close_connection = True
        return True

    server.fault = trickle
    began = time.monotonic()
    with pytest.raises(Unreachable, match=r"did not come whole within 0\.4 s"):
        download(RemoteFile.of(server.url("image")), io.BytesIO(), Bounds(within=0.4))
    assert time.monotonic() - began < 1.5


def test_attempts_end_when_the_time_is_over(server: Server) -> None:
    def slowly(asked: Asked) -> bool:
        time.sleep(0.3)
        return asked.answer(503)

    server.fault = slowly
    with pytest.raises(Unreachable, match="did not come whole"):
        download(RemoteFile.of(server.url("image")), io.BytesIO(), Bounds(within=0.2))
    assert len(server.log) == 1


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[fe80::1]",
        "[fd00::1]",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_own_network_is_asked_only_where_that_is_allowed(
    server: Server, host: str, scheme: str
) -> None:
    file = RemoteFile.of(f"{scheme}://{host}:{server.port}/image")
    with pytest.raises(Refused, match="own network"):
        download(file, io.BytesIO(), Bounds(private=False))
    assert server.log == []


def test_nor_by_a_proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url(""))
    with pytest.raises(Refused, match="own network"):
        download(RemoteFile.of("http://10.1.2.3/image"), io.BytesIO(), Bounds(private=False))
    assert server.log == []
