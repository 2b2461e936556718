"""Whole files behind http: whole or in words, whatever the server does."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from aftermap.scenes.download import download
from aftermap.scenes.errors import Refused
from aftermap.scenes.remote import RemoteFile
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
    download(RemoteFile.of(server.url("image")), stream, most)
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
        (lambda asked: asked.answer(200, asked.content, cut=1), "cannot be fetched"),
        (hanging, "cannot be fetched"),
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
