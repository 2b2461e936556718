"""What costs much is done for few at once; the others are told to come again, and hold nobody up."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from aftermap.web.downloads import written
from aftermap.web.limits import DOWNLOADS, TILES, Busy, OneEach, Places
from aftermap.web.server import create_app
from starlette.testclient import TestClient
from web_made import PASSWORD, Site


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def ana(server: Site) -> Iterator[TestClient]:
    """Ana at a server in this process, of the shared server's catalog."""
    with TestClient(create_app(server.catalog), base_url="http://localhost") as person:
        answer = person.post("/api/login", json={"name": "ana", "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        yield person


def test_who_finds_no_place_in_time_is_told_to_come_again() -> None:
    places = Places(2, "Much is done.", patience_s=0.05)
    with places, places:
        began = time.monotonic()
        with pytest.raises(Busy, match=r"Much is done\. Try again") as told, places:
            pass
        assert 0.04 < time.monotonic() - began < 1
    assert told.value.status_code == 503
    assert told.value.headers == {"Retry-After": "2"}
    with places:
        pass


def test_who_waits_gets_the_place_that_becomes_free() -> None:
    places, got = Places(1, "", patience_s=30), threading.Event()

    def wait() -> None:
        with places:
            got.set()

    with places:
        thread = threading.Thread(target=wait)
        thread.start()
        assert not got.wait(0.05)
    assert got.wait(30)
    thread.join()


def test_each_has_one_turn_whoever_else_has_one() -> None:
    turns = OneEach("One is at it.", patience_s=0)
    with (
        turns.of("ana"),
        turns.of("ben"),
        pytest.raises(Busy, match="One is at it"),
        turns.of("ana"),
    ):
        pass
    with turns.of("ana"):
        pass


def test_a_user_has_one_download_written_at_once(folders: Path) -> None:
    begun, go = threading.Event(), threading.Event()

    def slowly(path: Path) -> None:
        begun.set()
        assert go.wait(30)
        path.write_text("all")

    thread = threading.Thread(target=written, args=("ana", "a.csv", "text/csv", slowly))
    thread.start()
    assert begun.wait(30)
    try:
        with pytest.raises(Busy, match="Another file of yours"):
            written("ana", "b.csv", "text/csv", slowly)
        written("ben", "c.csv", "text/csv", lambda path: path.write_text("ben's"))
    finally:
        go.set()
        thread.join()
    written("ana", "d.csv", "text/csv", lambda path: path.write_text("later"))
    assert len(list(folders.glob("aftermap-*"))) == 3


def test_downloads_of_many_do_not_queue_for_ever(folders: Path) -> None:
    with DOWNLOADS, DOWNLOADS, pytest.raises(Busy, match="Others"):
        written("ana", "a.csv", "text/csv", lambda path: path.write_text(""))
    assert list(folders.iterdir()) == []


def test_a_tile_that_has_to_wait_too_long_says_when_to_ask_again(
    server: Site, ana: TestClient
) -> None:
    with ExitStack() as taken:
        for _ in range(8):
            taken.enter_context(TILES)
        answer = ana.get(f"/api/scenes/{server.pair}/tiles/0/0/0")
    assert (answer.status_code, answer.json()["code"]) == (503, 503)
    assert answer.headers["retry-after"] == "2"
    assert ana.get(f"/api/scenes/{server.pair}/tiles/0/0/0").status_code == 200


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (None, 200),
        ("bytes=0-9", 206),
        ("bytes=999999999-", 416),
        ("bytes=5-2", 400),
        ("lines=1", 400),
    ],
)
def test_a_download_leaves_nothing_behind(
    ana: TestClient, folders: Path, wanted: str | None, code: int
) -> None:
    headers = {} if wanted is None else {"Range": wanted}
    answer = ana.get("/api/export", params={"format": "csv"}, headers=headers)
    assert answer.status_code == code, answer.text
    assert list(folders.glob("aftermap-*")) == []


def test_a_download_that_fails_leaves_nothing_behind(folders: Path) -> None:
    def fails(path: Path) -> None:
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        written("ana", "a.csv", "text/csv", fails)
    assert list(folders.iterdir()) == []
