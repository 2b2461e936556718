"""A catalog with a pair, a photo, a run and users of every role, a server of it on loopback, and clients."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from affine import Affine
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.imagery import About, add_images
from aftermap.cluster.catalog.labels import latest
from aftermap.cluster.catalog.people import add_user
from aftermap.cluster.catalog.runs import add_run
from aftermap.cluster.catalog.tables import ROLES, User
from PIL import Image
from rasters import texture, write_raster
from runs import CORNER, CRS, GSD, buildings, finished_run

PASSWORD = "a long password"

_SERVE = (
    "import sys; from aftermap.web.serve import Listening, serve; "
    "serve(sys.argv[1], listening=Listening(port=int(sys.argv[2])))"
)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def add_people(catalog: Catalog, *more: str) -> None:
    """One user of each role, called like it, and further taggers."""
    with catalog.writing() as session:
        # To hash one password for forty people would take longer than most tests.
        known = add_user(session, "viewer", "viewer", PASSWORD).password
        for name, role in [(role, role) for role in ROLES[1:]] + [
            (name, "tagger") for name in more
        ]:
            session.add(User(name=name, role=role, password=known))


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """A server that answers."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(folder), str(port)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None, "the server ended"
        try:
            httpx.get(f"http://127.0.0.1:{port}/api/docs", timeout=5)
            return process
        except httpx.TransportError:
            time.sleep(0.1)
    process.kill()
    raise AssertionError("the server does not answer")


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server, which ends in the end."""
    port = free_port()
    process = start(folder, port)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def client(
    address: str, name: str, password: str = PASSWORD, verify: ssl.SSLContext | bool = True
) -> httpx.Client:
    """Somebody who is logged in."""
    found = httpx.Client(base_url=f"{address}/api", timeout=60, verify=verify)
    answer = found.post("/login", json={"name": name, "password": password})
    assert answer.status_code == 200, answer.text
    found.headers["X-CSRF-Token"] = answer.json()["token"]
    return found


MARKUP = "<script>alert('x')</script>&\"'"


@dataclass
class Site:
    """A server and what it serves."""

    address: str
    catalog: Catalog
    folder: Path
    pair: int
    photo: int
    run: int
    labels: int
    people: dict[str, httpx.Client] = field(default_factory=dict)

    def as_(self, name: str) -> httpx.Client:
        """Somebody who is logged in."""
        if name not in self.people:
            self.people[name] = client(self.address, name)
        return self.people[name]

    def tag(
        self, name: str, square: tuple[int, int, int], label: str = "damage", **more: object
    ) -> httpx.Response:
        """Say something of a square of the pair."""
        said = {
            "id": str(uuid.uuid4()),
            "scene": self.pair,
            "square": square,
            "label_set": self.labels,
            "label": label,
        }
        return self.as_(name).post("/tags", json=said | more)


def made(folder: Path, taggers: Sequence[str] = ()) -> dict[str, int]:
    """A catalog; the numbers of what is in it."""
    here = Affine(GSD, 0, CORNER[0], 0, -GSD, CORNER[1])
    catalog = Catalog.open(folder / "catalog", create=True)
    before, after = texture(700, 900, 1), texture(700, 900, 2)
    after[:, :, :40] = 0
    pre = write_raster(folder / "pre_20230101.tif", before, CRS, here)
    post = write_raster(folder / "post_20230208.tif", after, CRS, here, nodata=0)
    add_images(catalog, [str(pre)])
    pair = add_images(catalog, [str(post)], About(town=MARKUP, event="quake", before=pre.name)).new[
        0
    ]
    photo = folder / "photo.png"
    Image.fromarray(np.moveaxis(texture(500, 600, 3), 0, 2)).save(photo)
    street = add_images(catalog, [str(photo)]).new[0]
    path = finished_run(folder / "run", buildings())
    record = json.loads((path / "run.json").read_text())
    record["facts"]["inputs"]["post"] = [{"path": str(post), "sampled_sha256": pair.digest}]
    (path / "run.json").write_text(json.dumps(record))
    run = add_run(catalog, path)[0]
    add_people(catalog, "ana", "ben", *taggers)
    with catalog.reading() as session:
        labels = latest(session, "damage").id
    catalog.close()
    return {"pair": pair.id, "photo": street.id, "run": run.id, "labels": labels}
