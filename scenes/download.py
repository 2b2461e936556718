"""Whole files behind http and https, such as the images that a map service draws."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from .errors import Refused
from .remote import ASK, Again, Patience, RemoteFile, Unreachable, judge, shown

MOST_BYTES = 2 << 30
"""Larger files are refused: a raster of that size is read in place, by ranges."""

_PIECE = 1 << 18


@dataclass(frozen=True)
class Bounds:
    """What a download may take, and where it may go."""

    most: int = MOST_BYTES
    """Bytes."""
    within: float = 3600
    """Seconds for all attempts together: `MOST_BYTES` at 5 Mbit/s."""
    private: bool = True
    """Whether it may lie on this machine or in the own network. Where it may not, proxies of the
    environment are not used either: they would reach what we must not."""


def download(file: RemoteFile, stream: IO[bytes], bounds: Bounds | None = None) -> int:
    """Write a whole remote file to a stream, from its beginning; returns its bytes.

    Nothing is followed to another address; a failed request is made again as `Patience` says, and
    the stream is then written anew. Raises Unreachable, also for what does not come in time, or Refused
    for too large or empty a file and for one that lies where it may not.
    """
    bounds, patience = bounds or Bounds(), Patience.asked()
    until = time.monotonic() + bounds.within
    return patience.persist(file, lambda: _download_once(file, stream, bounds, until))


def _download_once(file: RemoteFile, stream: IO[bytes], bounds: Bounds, until: float) -> int:
    _check_time(file, bounds, until)
    stream.seek(0)
    stream.truncate()
    size = 0
    for piece in _pieces(file, bounds.private):
        size += len(piece)
        if size > bounds.most:
            raise Refused(
                f"{file} has more than {bounds.most:,} bytes. Fetch it and give its path."
            )
        stream.write(piece)
        _check_time(file, bounds, until)
    if size == 0:
        raise Refused(f"{file} is empty (0 bytes).")
    return size


def _check_time(file: RemoteFile, bounds: Bounds, until: float) -> None:
    if time.monotonic() > until:
        raise Unreachable(
            f"{file} did not come whole within {bounds.within:g} s. Fetch it and give its path."
        )


def _pieces(file: RemoteFile, private: bool) -> Iterator[bytes]:
    patience = Patience.asked()
    asked = urllib.request.Request(
        file.address, headers={"Accept-Encoding": "identity", "User-Agent": "aftermap"}
    )
    size = 0
    try:
        ask = ASK if private else _OUTSIDE
        with ask.open(asked, timeout=min(patience.connect, patience.request)) as answer:
            told = answer.headers.get("Content-Length", "")
            last = time.monotonic()
            while piece := answer.read1(_PIECE):
                size += len(piece)
                yield piece
                # A large file may take long; one that trickles is given up.
                if time.monotonic() - last > patience.request:
                    raise Again(f"no more than {len(piece)} bytes came in {patience.request:g} s")
                last = time.monotonic()
    except _Inside as error:
        raise Refused(
            f"{file} lies inside the own network ({error}), where a server fetches nothing unasked. "
            "Start it with --allow-private-services if it may."
        ) from None
    except urllib.error.HTTPError as error:
        judge(error, file)
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise Again(shown(str(reason)) or type(reason).__name__) from None
    if told.isdigit() and size != int(told):
        raise Again(f"{size} bytes of {told} came")


class _Inside(Exception):
    """An address that is not everybody's."""


def _check_name(host: str, port: int) -> None:
    for *_, there in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        _check_address(str(there[0]))


def _check_address(text: str) -> None:
    found = ipaddress.ip_address(text)
    if not found.is_global or found.is_multicast:
        raise _Inside(text)


# A name may lead elsewhere a moment after it was looked up: who answers is looked at once more
# before anything is asked.


class _Plain(http.client.HTTPConnection):
    def connect(self) -> None:
        _check_name(self.host, self.port)
        super().connect()
        _check_address(self.sock.getpeername()[0])


class _Secure(http.client.HTTPSConnection):
    def connect(self) -> None:
        _check_name(self.host, self.port)
        super().connect()
        _check_address(self.sock.getpeername()[0])


class _Http(urllib.request.HTTPHandler):
    def http_open(self, asked: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Plain, asked)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, asked: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Secure, asked)


def _outside() -> urllib.request.OpenerDirector:
    """Asks addresses that are everybody's, by no proxy, and follows nothing."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        _Http(),
        _Https(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


_OUTSIDE = _outside()
