"""A real HTTP server on loopback that serves a folder by range, and fails as it is told to."""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType


@dataclass
class Server:
    """The server's address, what it was asked for, and the fault that it is to show."""

    folder: Path
    port: int
    scheme: str = "http"
    fault: Callable[[Asked], bool] = lambda _: False
    """Told of each request; answers it itself and returns True, or leaves it by returning False."""
    log: list[tuple[str, str, int, int]] = field(default_factory=list)
    """Method, path with query, and first and last byte of each request."""

    def url(self, name: str, query: str = "") -> str:
        """The address of a file of the folder."""
        return f"{self.scheme}://127.0.0.1:{self.port}/{name}" + (f"?{query}" if query else "")


@dataclass(frozen=True)
class Asked:
    """One request for a part of a file."""

    handler: BaseHTTPRequestHandler
    content: bytes
    first: int
    last: int
    etag: str
    modified: str

    @property
    def pixels(self) -> bool:
        """Whether more is asked for than the file's head."""
        return self.handler.command == "GET" and self.first > 0

    def answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, cut: int = 0
    ) -> bool:
        """Send an answer; `cut` bytes of the body that was announced never come."""
        self.handler.send_response(status)
        self.handler.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        if self.handler.command == "GET":
            self.handler.wfile.write(body[: len(body) - cut])
        if cut:
            self.handler.close_connection = True
        return True

    def part(self, shift: int = 0, cut: int = 0, claim: bool = True) -> bool:
        """Send the part asked for; or one `shift` bytes earlier, said to be the one or the other."""
        first, last = self.first - shift, self.last - shift
        told = (self.first, self.last) if claim else (first, last)
        headers = {
            "Content-Range": f"bytes {told[0]}-{told[1]}/{len(self.content)}",
            "ETag": self.etag,
            "Last-Modified": self.modified,
            "Accept-Ranges": "bytes",
        }
        return self.answer(206, self.content[first : last + 1], headers, cut)


@contextmanager
def served(folder: Path, certificate: Path | None = None) -> Iterator[Server]:
    """Serve a folder for the length of a block; by https with a file of certificate and key."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_GET(self) -> None:
            name = self.path.partition("?")[0].lstrip("/")
            file = folder / name
            found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            content = file.read_bytes() if file.is_file() else b""
            first = int(found[1]) if found else 0
            last = min(int(found[2]) if found and found[2] else len(content), len(content) - 1)
            server.log.append((self.command, self.path, first, last))
            if not file.is_file():
                Asked(self, b"", 0, 0, "", "").answer(404)
                return
            at = file.stat().st_mtime_ns
            asked = Asked(self, content, first, last, f'"{at:x}"', formatdate(at / 1e9))
            try:
                if server.fault(asked):
                    return
                if found:
                    asked.part()
                else:
                    asked.answer(200, content, {"Accept-Ranges": "bytes", "ETag": asked.etag})
            except OSError:  # whoever asked has gone
                self.close_connection = True

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that hangs up is no error here."""

    http = Quiet(("127.0.0.1", 0), Handler)
    server = Server(folder, http.server_address[1], "https" if certificate else "http")
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        http.socket = context.wrap_socket(http.socket, server_side=True)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def unavailable(asked: Asked) -> bool:
    """503, and come back later."""
    return asked.answer(503)


def truncated(asked: Asked) -> bool:
    """Half of what was promised."""
    return asked.part(cut=(asked.last - asked.first) // 2 + 1)


def hanging(asked: Asked) -> bool:
    """Nothing for longer than anyone waits."""
    time.sleep(2)
    asked.handler.close_connection = True
    return True


def shorter(asked: Asked) -> bool:
    """A whole answer, and well-formed, but of fewer bytes than were asked for."""
    headers = {"Content-Range": f"bytes {asked.first}-{asked.last}/{len(asked.content)}"}
    return asked.answer(206, asked.content[asked.first : (asked.first + asked.last) // 2], headers)


def elsewhere(asked: Asked) -> bool:
    """Another part of the file than the one asked for, and it says so."""
    return asked.part(shift=777, claim=False)


FAULTS = MappingProxyType(
    {f.__name__: f for f in (unavailable, truncated, hanging, shorter, elsewhere)}
)
