"""`aftermap serve`: what it refuses before it listens, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.request import urlopen

import pytest
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.people import add_user
from aftermap.scenes.errors import Refused, UsageError
from aftermap.web.serve import Listening, serve
from aftermap.web.server import ServerOptions
from typer.testing import CliRunner
from web_made import PASSWORD, add_people, free_port

from aftermap.serve_command import serve_app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    catalog = Catalog.open(tmp_path / "catalog", create=True)
    add_people(catalog)
    catalog.close()
    return tmp_path / "catalog"


def test_a_port_in_use_is_refused(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Refused, match=f"Port {port} of 127.0.0.1 is in use"):
            serve(folder, listening=Listening(port=port))


def test_a_catalog_that_nobody_can_use_is_refused(tmp_path: Path) -> None:
    Catalog.open(tmp_path / "catalog", create=True).close()
    with pytest.raises(Refused, match="aftermap catalog user NAME --role admin"):
        serve(tmp_path / "catalog")
    with pytest.raises(Refused, match="no catalog"):
        serve(tmp_path / "nothing")


def test_other_machines_are_let_in_only_when_told(folder: Path) -> None:
    with pytest.raises(UsageError, match="--allow-remote-users"):
        Listening(host="0.0.0.0")
    assert Listening(host="0.0.0.0", allow_remote_users=True).address == "http://0.0.0.0:8765/"
    assert Listening(host="::1").address == "http://[::1]:8765/"
    with pytest.raises(Refused, match=r"no address of this machine|cannot be opened"):
        serve(folder, listening=Listening(host="203.0.113.7", allow_remote_users=True))


def test_a_certificate_needs_its_key(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="belong together"):
        Listening(certificate=tmp_path / "a.pem")
    both = Listening(certificate=tmp_path / "a.pem", key=tmp_path / "a.key")
    assert both.address.startswith("https")
    with pytest.raises(Refused, match="Check --certificate"):
        serve(folder, listening=both)


def test_folders_of_runs_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--runs"):
        ServerOptions(runs=(tmp_path / "none",))


def test_the_command_explains_itself() -> None:
    told = CliRunner().invoke(serve_app, ["--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert told.exit_code == 0
    for word in ("--catalog", "--port", "--allow-remote-users", "--certificate", "Examples"):
        assert word in told.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly(folder: Path, number: signal.Signals) -> None:
    """By both signals, on a port that was asked for and on any that is free, which it tells."""
    port = free_port() if number == signal.SIGINT else 0
    code = (
        "import sys; from aftermap.ending import carry_out; from aftermap.serve_command import serve_app; "
        "carry_out(lambda: serve_app(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--catalog", str(folder), "--port", str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(3)]
        shown = re.fullmatch(r"open       (http://127\.0\.0\.1:([1-9]\d*)/)\n", told[1])
        assert shown is not None, told
        assert port in (0, int(shown[2]))
        timer = threading.Timer(60, process.kill)
        timer.start()
        with urlopen(f"{shown[1]}api/openapi.json", timeout=30) as answer:
            assert json.load(answer)["info"]["title"] == "aftermap"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        timer.cancel()
        assert (process.returncode, out, err) == (0, "stopped\n", "")
    finally:
        process.kill()


def test_what_it_prints_holds_no_password(folder: Path) -> None:
    catalog = Catalog.open(folder)
    with catalog.writing() as session:
        user = add_user(session, "zoe", "viewer", PASSWORD)
        assert user.password is not None
        assert PASSWORD not in user.password
    assert PASSWORD.encode() not in (folder / "catalog.db").read_bytes()
    catalog.close()


_WITHOUT = """
import sys
from aftermap.ending import carry_out
for name in sys.argv[1].split(","):
    sys.modules[name] = None
from aftermap.cli import app
carry_out(lambda: app(sys.argv[2:]))
"""


def _without(names: str, *command: str) -> subprocess.CompletedProcess[str]:
    """A command where packages are not installed."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _WITHOUT, names, *command],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["fastapi", "uvicorn", "rio_tiler", "sqlalchemy", "argon2"])
def test_without_its_packages_it_names_the_extra(folder: Path, name: str) -> None:
    ended = _without(name, "serve", "--catalog", str(folder))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.match(rf"aftermap: The (app|catalog) needs {name} ", ended.stderr)
    assert ended.stderr.endswith('  pip install "aftermap[web]"\n')


def test_without_the_servers_packages_everything_else_works(folder: Path) -> None:
    ended = _without(
        "fastapi,uvicorn,rio_tiler", "catalog", "list", "users", "--catalog", str(folder)
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "reviewer" in ended.stdout
    extra = "fastapi,uvicorn,rio_tiler,sqlalchemy,alembic,argon2,psycopg"
    for command in (["--help"], ["plan", "--help"], ["serve", "--help"], ["doctor"]):
        ended = _without(extra, *command)
        assert (ended.returncode, ended.stderr) == (0, "")
