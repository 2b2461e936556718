"""`aftermap serve --certificate --key`: https with the office's own certificate, and words for one that is none."""

from __future__ import annotations

import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.scenes.errors import Refused
from aftermap.web.serve import Listening, serve
from web_made import add_people, client, made

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")

_SERVE = (
    "import sys; from aftermap.ending import carry_out; from aftermap.serve_command import serve_app; "
    "carry_out(lambda: serve_app(sys.argv[1:]))"
)


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates and keys: two that fit each other twice, and one whose key has a passphrase."""
    folder = tmp_path_factory.mktemp("pems")
    for name, sealed in (
        ("here", "-nodes"),
        ("other", "-nodes"),
        ("sealed", "-passout=pass:secret"),
    ):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", "/CN=office",
             "-addext", "subjectAltName=IP:127.0.0.1", *sealed.split("=")],
            cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
    (folder / "junk.pem").write_text("junk\n")
    return folder


@contextmanager
def _served(folder: Path, *more: str) -> Iterator[str]:
    """The address that the command tells; in the end it has said nothing on standard error."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, "--catalog", str(folder), "--port", "0", *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    timer = threading.Timer(120, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(3)]
        shown = re.fullmatch(r"open       (\S+)/\n", told[1])
        assert shown is not None, told
        yield shown[1]
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("stopped\n", "")
    finally:
        timer.cancel()
        process.kill()


def test_people_log_in_and_tag_over_https(tmp_path: Path, pems: Path) -> None:
    numbers = made(tmp_path)
    trusted = ssl.create_default_context(cafile=pems / "here.pem")
    options = "--certificate", str(pems / "here.pem"), "--key", str(pems / "here.key")
    with _served(tmp_path / "catalog", *options) as address:
        assert address.startswith("https://127.0.0.1:")
        with closing(client(address, "tagger", verify=trusted)) as person:
            (cookie,) = person.cookies.jar
            assert cookie.secure
            assert cookie.get_nonstandard_attr("SameSite").lower() == "strict"
            assert "HttpOnly" in cookie.__dict__["_rest"]
            body = {
                "id": "0b7a6c3c-5ed5-4a1b-9b75-1f6d5a8a2f10", "scene": numbers["pair"],
                "square": [100, 100, 64], "label_set": numbers["labels"], "label": "damage",
            }  # fmt: skip
            assert person.post("/tags", json=body, headers={"Origin": address}).status_code == 201
            assert [tag["id"] for tag in person.get("/tags").json()["tags"]] == [body["id"]]
        with pytest.raises(httpx.TransportError):
            httpx.get(address.replace("https", "http"), timeout=20)
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            httpx.get(address, timeout=20)
        assert httpx.get(f"{address}/api/docs", verify=trusted, timeout=20).status_code == 200


@pytest.mark.parametrize(
    ("certificate", "key", "words"),
    [
        ("here.pem", "other.key", "KEY VALUES MISMATCH"),
        ("sealed.pem", "sealed.key", "passphrase"),
        ("junk.pem", "here.key", "no PEM"),
        ("here.pem", "junk.pem", "no PEM"),
        ("here.key", "here.pem", "no PEM"),
    ],
)
def test_what_https_cannot_be_spoken_with_is_refused(
    tmp_path: Path, pems: Path, certificate: str, key: str, words: str
) -> None:
    catalog = Catalog.open(tmp_path / "catalog", create=True)
    add_people(catalog)
    catalog.close()
    listening = Listening(port=0, certificate=pems / certificate, key=pems / key)
    with pytest.raises(Refused, match=words) as refused:
        serve(tmp_path / "catalog", listening=listening)
    assert refused.value.exit_code == 3
    assert "--certificate" in str(refused.value)
