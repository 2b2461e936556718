"""The door of the server: which hosts, how large a body, and what every answer tells the browser."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 1 << 20
"""Of a request's body. No route takes a file: images come in by `aftermap catalog add`."""

_PATIENCE_S = 30
"""How long a body may take to arrive."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Door:
    """Turns away what no route should see, before any of it is understood.

    A foreign `Host` is another site whose name was pointed at this machine (DNS rebinding): 400. A
    body above `MOST_BYTES` is 413, whether or not it says its length.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], any_address: bool = False) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._any_address = any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        if not self._known(headers.get("host", "")):
            words = "This server does not go by that name. Open it by the address it printed."
            await _turned_away(400, words)(scope, receive, answer)
            return
        body = await _whole(headers, receive)
        if body is None:
            words = (
                f"A request has at most {MOST_BYTES:,} bytes and {_PATIENCE_S} seconds to arrive."
            )
            await _turned_away(413, words)(scope, receive, answer)
            return
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, answer)

    def _known(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        # Rebinding needs a name: who typed the machine's address meant this machine.
        return name in self._hosts or (self._any_address and _is_address(name))


def hosts_of(host: str) -> tuple[set[str], bool]:
    """The names by which a server that listens on `host` is known; whether by any address too."""
    names = {"localhost", "127.0.0.1", "::1", host.lower()}
    everywhere = host in ("0.0.0.0", "::")
    return (names | {socket.gethostname().lower()} if everywhere else names), everywhere


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach a server that listens there."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _whole(headers: Headers, receive: Receive) -> bytes | None:
    """The body of a request; None where it is too large or too slow."""
    told = headers.get("content-length", "0")
    if not told.isdigit() or int(told) > MOST_BYTES:
        return None
    parts, size = [], 0
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    break
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > MOST_BYTES:
                    return None
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        return None
    return b"".join(parts)


def _turned_away(code: int, words: str) -> JSONResponse:
    return JSONResponse({"error": words, "code": code}, code, {"Connection": "close"})
