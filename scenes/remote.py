"""Images behind http and https: looked at by a few requests of our own, read by GDAL by range.

GDAL follows redirects wherever they lead and remembers what failed, and neither can be switched off
by an option. So the first bytes are always fetched here, without following anything, and each time
a file is opened GDAL knows it under another name (a fragment, which is never sent): what it has
cached of an earlier opening, or of an earlier version, is not found again.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from itertools import count
from typing import NoReturn, TypeVar
from urllib.parse import quote, unquote, urlencode, urlsplit

from .errors import Refused, UsageError

SCHEMES = ("http", "https")

HEAD = 1 << 14
"""Bytes of a file's beginning by which it is recognised; also what GDAL asks for first."""

_TAIL = 1 << 16
_PIECE = 1 << 23
_PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Answers after which it is worth asking again."""

_PLAIN = re.compile(r"[\x21\x23-\x26\x28-\x3b\x3d\x3f-\x7e]+")
"""What a URL may consist of: no space, quote, angle bracket, control or other character."""

_OPENINGS = count(1)

_Got = TypeVar("_Got")


class Unreachable(Refused):
    """A remote file that cannot be read (any more), though it may be later."""


class Again(Exception):
    """A failure that may pass."""


@dataclass(frozen=True)
class Patience:
    """How long is waited for a server; GDAL's own variables change it, on every worker."""

    connect: float = 10
    """Seconds until a connection stands (GDAL_HTTP_CONNECTTIMEOUT)."""
    request: float = 60
    """Seconds until a request is answered whole (GDAL_HTTP_TIMEOUT)."""
    retries: int = 3
    """Times that a failed request is made again (GDAL_HTTP_MAX_RETRY)."""
    delay: float = 0.5
    """Seconds before the first repetition, about twice that before each later one
    (GDAL_HTTP_RETRY_DELAY)."""

    @classmethod
    def asked(cls) -> Patience:
        """As the environment says; UsageError where it says nonsense."""
        found = {}
        for name, variable, most in (
            ("connect", "CONNECTTIMEOUT", 600),
            ("request", "TIMEOUT", 3600),
            ("retries", "MAX_RETRY", 20),
            ("delay", "RETRY_DELAY", 60),
        ):
            text = os.environ.get(f"GDAL_HTTP_{variable}")
            if text is None:
                continue
            least = 0 if name == "retries" else 0.01
            try:
                found[name] = float(text)
            except ValueError:
                found[name] = -1.0
            if not least <= found[name] <= most:
                raise UsageError(
                    f"GDAL_HTTP_{variable}={text!r} is not between {least} and {most}; "
                    "set another value or none."
                )
        return cls(**found | {"retries": int(found.get("retries", cls.retries))})  # type: ignore[arg-type]

    def persist(self, file: RemoteFile, once: Callable[[], _Got]) -> _Got:
        """What `once` gives, which is tried again where it raises Again; in the end Unreachable."""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(self.delay * 2 ** (attempt - 1))
            try:
                return once()
            except Again as error:
                reason = str(error)
        raise Unreachable(
            f"{file} cannot be read: {reason} (attempts: {self.retries + 1}). Check the address and "
            "the network, and try again; GDAL_HTTP_TIMEOUT and GDAL_HTTP_MAX_RETRY give it more time."
        )


@dataclass(frozen=True)
class RemoteFile:
    """One file behind http or https."""

    url: str
    """Without query: what is shown, logged and recorded."""
    query: str = field(default="", repr=False)
    """What is only sent: the signature of a signed URL is a secret."""

    @classmethod
    def of(cls, text: str) -> RemoteFile:
        """Take a URL apart. Refused for credentials in it and for what no URL can be."""
        try:
            parts = urlsplit(text)
            port = parts.port  # raises where it is no number
        except ValueError as error:
            raise Refused(f"{shown(text)} is no URL: {error}.") from error
        if parts.scheme.lower() not in SCHEMES or not parts.hostname:
            raise Refused(f"{shown(text)} is no http or https URL.")
        if parts.username is not None or parts.password is not None:
            raise Refused(
                f"The URL of {parts.hostname}{parts.path} carries a user name or password, which "
                "would end in logs. Give a signed URL, or download the file."
            )
        if not _PLAIN.fullmatch(text) or parts.path in ("", "/"):
            raise Refused(
                f"{parts.scheme}://{parts.hostname}{parts.path[:200]!r} is no URL of a file. "
                "Percent-encode spaces and special characters."
            )
        place = parts.hostname if ":" not in parts.hostname else f"[{parts.hostname}]"
        place += "" if port is None else f":{port}"
        return cls(f"{parts.scheme.lower()}://{place}{parts.path}", parts.query)

    def __str__(self) -> str:
        """What may be shown."""
        return self.url

    @property
    def name(self) -> str:
        """The file's name."""
        return unquote(self.url.rsplit("/", 1)[-1])

    @property
    def address(self) -> str:
        """What is asked for."""
        return f"{self.url}?{self.query}" if self.query else self.url

    def vsi(self) -> str:
        """A path under which GDAL reads the file afresh, with limits to its patience.

        Options in the path reach every thread and process that opens it, unlike those of an
        environment. No folder is listed, so nothing beside the file is looked for.
        """
        patience = Patience.asked()
        options = {
            "empty_dir": "yes",
            "use_head": "no" if self.query else "yes",  # most signatures hold for GET alone
            "max_retry": patience.retries,
            "retry_delay": patience.delay,
            "connecttimeout": patience.connect,
            "timeout": patience.request,
        }
        name = quote(f"{self.address}#{os.getpid()}-{next(_OPENINGS)}", safe="")
        return f"/vsicurl?{urlencode(options)}&url={name}"


@dataclass(frozen=True)
class Look:
    """What the first bytes of a remote file and the answer to them say."""

    size: int
    etag: str
    modified: str
    head: bytes
    """The first bytes, at most `HEAD`."""

    @property
    def stamp(self) -> tuple[int, int]:
        """Size, and a number that changes when the file does."""
        text = f"{self.etag}\n{self.modified}\n".encode() + self.head
        return self.size, int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def is_remote(path: object) -> bool:
    """Whether a path is an http or https URL."""
    return str(path).lower().startswith(tuple(f"{scheme}://" for scheme in SCHEMES))


def look(file: RemoteFile) -> Look:
    """Fetch the first bytes of a file, bounded in time and number of attempts.

    Raises Refused for a redirect and for a server that does not answer range requests,
    Unreachable for anything else that fails.
    """
    head, size, headers = _fetch(file, 0, HEAD - 1)
    return Look(size, headers.get("ETag", ""), headers.get("Last-Modified", ""), head)


def fingerprint_remote(file: RemoteFile) -> dict[str, object]:
    """Identify a remote file: size, validators, and one SHA-256 over its size, head and tail.

    Two requests; a change in the middle that leaves size and validators alone goes unseen. (In a
    COG the head holds the offsets of all tiles, which hardly ever stay.)
    """
    found = look(file)
    tail = _fetch(file, max(0, found.size - _TAIL), found.size - 1)[0]
    digest = hashlib.sha256(str(found.size).encode() + found.head + tail)
    return {
        "path": file.url,
        "bytes": found.size,
        "etag": found.etag,
        "last_modified": found.modified,
        "sampled_sha256": digest.hexdigest(),
    }


def sha256_remote(file: RemoteFile) -> str:
    """The SHA-256 of a whole remote file, fetched piece by piece."""
    size, digest = look(file).size, hashlib.sha256()
    for start in range(0, size, _PIECE):
        digest.update(_fetch(file, start, min(start + _PIECE, size) - 1)[0])
    return digest.hexdigest()


def shown(text: str) -> str:
    """A text without what follows a URL's path, and without credentials: fit for logs.

    GDAL's errors name the path that it was given, with everything in it.
    """
    text = re.sub(r"/?vsicurl\?[^\s,'\"]*", "the file", text)
    text = re.sub(r"(?i)(\w+://)[^/\s@]*@", r"\1", text)
    return re.sub(r"(?i)(\w+://[^\s?#'\"]*)[?#][^\s'\"]*", r"\1", text)[:500]


def hush_logs() -> None:
    """Have rasterio's log name remote files as they may be shown."""
    for name in ("rasterio", *(f"rasterio.{part}" for part in ("_base", "_env", "_err", "_io"))):
        logger = logging.getLogger(name)
        if _shorten not in logger.filters:
            logger.addFilter(_shorten)


def _shorten(record: logging.LogRecord) -> bool:
    record.msg, record.args = shown(record.getMessage()), ()
    return True


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the server that was named is the one that is asked."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


ASK = urllib.request.build_opener(_Stay)


def _fetch(file: RemoteFile, first: int, last: int) -> tuple[bytes, int, Message]:
    """Bytes `first` to `last` of a file (or to its end), its size, and the answer's headers."""
    patience = Patience.asked()
    return patience.persist(file, lambda: _fetch_once(file, first, last, patience))


def _fetch_once(
    file: RemoteFile, first: int, last: int, patience: Patience
) -> tuple[bytes, int, Message]:
    asked = urllib.request.Request(
        file.address,
        headers={
            "Range": f"bytes={first}-{last}",
            "Accept-Encoding": "identity",
            "User-Agent": "aftermap",
        },
    )
    deadline = time.monotonic() + patience.request
    try:
        with ASK.open(asked, timeout=min(patience.connect, patience.request)) as answer:
            start, end, size = _range_of(answer, file)
            body = b""
            while piece := answer.read1(1 << 16):
                body += piece
                if time.monotonic() > deadline or len(body) > last - first + 1:
                    break
    except urllib.error.HTTPError as error:
        judge(error, file)
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise Again(shown(str(reason)) or type(reason).__name__) from None
    if time.monotonic() > deadline:
        raise Again(f"no whole answer within {patience.request:g} s")
    if (start, end) != (first, min(last, size - 1)) or len(body) != end - start + 1:
        raise Again(f"bytes {first}-{last} were asked for and {len(body)} from {start} on came")
    return body, size, answer.headers


def _range_of(answer: http.client.HTTPResponse, file: RemoteFile) -> tuple[int, int, int]:
    """First and last byte and size of the file, as the answer says."""
    found = re.fullmatch(
        r"bytes (\d+)-(\d+)/(\d+)", answer.headers.get("Content-Range", "").strip()
    )
    if answer.status != 206 or found is None:
        raise Refused(
            f"{file} cannot be read in parts: asked for a range of bytes, its server answers "
            f"{answer.status} {answer.reason} with no range. Download the file and give its path."
        )
    start, end, size = map(int, found.groups())
    return start, end, size


def judge(error: urllib.error.HTTPError, file: RemoteFile) -> NoReturn:
    """What an answer other than success means."""
    said = f"{error.code} {error.reason}"[:80]
    error.close()
    if error.code in _PASSING:
        raise Again(f"its server answers {said}") from None
    if 300 <= error.code < 400:
        to = shown(error.headers.get("Location", "elsewhere"))
        raise Refused(
            f"{file} sends to {to} ({said}), and redirects are not followed. Give that address, if "
            "you trust it."
        ) from None
    if error.code == 416:
        raise Refused(f"{file} is empty (0 bytes).") from None
    hint = " Has its signature run out?" if error.code == 403 and file.query else ""
    raise Unreachable(f"{file} cannot be read: its server answers {said}.{hint}") from None
