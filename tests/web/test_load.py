"""Forty taggers at once, and a server that is killed in the midst: nothing that was answered is lost.

In SQLite's file and, where one is named, on PostgreSQL.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest
from aftermap.cluster.catalog.catalog import ADDRESS, Catalog
from aftermap.cluster.catalog.tables import Entry, Tag
from aftermap.cluster.catalog.verify import verify
from catalog_made import KINDS, database_address
from sqlalchemy import select
from web_made import client, free_port, made, start

TAGGERS = 40
SECONDS = float(os.environ.get("AFTERMAP_LOAD_SECONDS", "4"))
"""A minute is what docs/app.md tells of."""


@dataclass
class Said:
    """What all have sent, and what was answered."""

    sent: dict[str, int] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def _tag(person: httpx.Client, k: int, scene: int, labels: int, until: float, said: Said) -> None:
    """Tag square after square, each sent twice now and then, as a bad connection would."""
    rng = np.random.default_rng(k)
    while time.monotonic() < until:
        row, col = rng.integers(0, 600), rng.integers(40, 800)
        body = {
            "id": str(uuid.uuid4()), "scene": scene, "square": [int(row), int(col), 64],
            "label_set": labels, "label": str(rng.choice(["damage", "no-damage"])),
        }  # fmt: skip
        with said.lock:
            said.sent[body["id"]] = k
        for _ in range(1 + int(rng.random() < 0.2)):
            began = time.monotonic()
            answer = _sent(person, body)
            if answer is None:
                return
            with said.lock:
                said.seconds.append(time.monotonic() - began)
                if answer.status_code in (200, 201):
                    said.answered[body["id"]] = k
                else:
                    said.failed.append(f"{answer.status_code} {answer.text}")


def _sent(person: httpx.Client, body: dict[str, object]) -> httpx.Response | None:
    """The answer; None where the server is gone.

    Sent again, as the app does, where the server has closed an idle connection at that very moment.
    """
    for _ in range(2):
        with suppress(httpx.TransportError):
            return person.post("/tags", json=body)
    return None


def _all_at_once(
    address: str, numbers: dict[str, int], seconds: float, said: Said
) -> list[threading.Thread]:
    with ThreadPoolExecutor(8) as pool:
        people = list(pool.map(lambda k: client(address, f"tagger-{k}"), range(TAGGERS)))
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(
            target=_tag, args=(person, k, numbers["pair"], numbers["labels"], until, said)
        )
        for k, person in enumerate(people)
    ]
    for thread in threads:
        thread.start()
    return threads


def _check(folder: Path, said: Said) -> None:
    """Every tag that was answered is there once, with its entry in the audit trail and its pixels."""
    catalog = Catalog.open(folder)
    with catalog.reading() as session:
        kept = list(session.scalars(select(Tag.id)))
        noted = list(session.scalars(select(Entry.subject).where(Entry.action == "tag")))
    assert set(said.answered) <= set(kept) <= set(said.sent)
    assert sorted(noted) == sorted(f"tag {number}" for number in kept)
    found = verify(catalog)
    assert found.problems == []
    catalog.close()


@pytest.fixture(params=KINDS)
def numbers(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, int]]:
    with database_address(request.param, tmp_path, empty=True) as address:
        if "://" in address:
            monkeypatch.setenv(ADDRESS, address)
        yield made(tmp_path, [f"tagger-{k}" for k in range(TAGGERS)])


@pytest.mark.slow
def test_forty_taggers_lose_and_double_nothing(tmp_path: Path, numbers: dict[str, int]) -> None:
    port, said = free_port(), Said()
    server = start(tmp_path / "catalog", port)
    try:
        for thread in _all_at_once(f"http://127.0.0.1:{port}", numbers, SECONDS, said):
            thread.join(60)
        server.send_signal(signal.SIGINT)
        server.wait(30)
    finally:
        server.kill()
    assert said.failed == []
    assert set(said.answered) == set(said.sent)
    assert len(said.sent) > TAGGERS
    print(f"\n{len(said.sent)} tags, 95th percentile {np.percentile(said.seconds, 95):.2f} s")
    _check(tmp_path / "catalog", said)


@pytest.mark.slow
def test_a_server_that_is_killed_keeps_what_it_answered(
    tmp_path: Path, numbers: dict[str, int]
) -> None:
    port, said = free_port(), Said()
    server = start(tmp_path / "catalog", port)
    threads = _all_at_once(f"http://127.0.0.1:{port}", numbers, 60, said)
    while len(said.answered) < 2 * TAGGERS:
        time.sleep(0.02)
    server.kill()
    server.wait()
    for thread in threads:
        thread.join(60)
    assert said.failed == []
    assert set(said.answered) < set(said.sent)
    _check(tmp_path / "catalog", said)
    again = start(tmp_path / "catalog", port)
    try:
        person = client(f"http://127.0.0.1:{port}", "tagger-0")
        assert len(person.get("/tags?limit=5000").json()["tags"]) >= len(said.answered)
    finally:
        again.kill()
        again.wait()
