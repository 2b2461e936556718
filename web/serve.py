"""`aftermap serve`: the app on a port of this machine, until somebody stops it."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio.to_thread
import uvicorn
from fastapi import FastAPI
from sqlalchemy import select

from ..cluster.catalog.catalog import Catalog
from ..cluster.catalog.tables import User
from ..scenes.errors import Refused, UsageError
from .door import is_loopback
from .server import ServerOptions, create_app

PORT = 8765

_THREADS = 64
"""Requests that are worked on at once: those that wait for the disk hold up nobody else's tag."""


@dataclass(frozen=True, kw_only=True)
class Listening:
    """Where and how a server listens."""

    host: str = "127.0.0.1"
    port: int = PORT
    """0 for any that is free."""
    allow_remote_users: bool = False
    """Without it only this machine is listened to."""
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise UsageError(f"--port {self.port} is no port: give one up to 65535.")
        if (self.certificate is None) != (self.key is None):
            raise UsageError("--certificate and --key belong together. Give both, or none.")
        if not is_loopback(self.host) and not self.allow_remote_users:
            raise UsageError(
                f"--host {self.host} lets other machines in. Add --allow-remote-users if they shall be."
            )

    @property
    def address(self) -> str:
        """What a browser is to open."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.certificate else 'http'}://{shown}:{self.port}/"


def serve(
    folder: str | Path,
    address: str | None = None,
    listening: Listening | None = None,
    runs: Sequence[Path] = (),
    private_services: bool = False,
) -> None:
    """Serve a catalog until Ctrl-C or SIGTERM; what was answered for is kept, whenever it ends.

    The progress of what works in the folders `runs` is shown, by default of what works beside the catalog.
    Images of services on this machine or in the own network are fetched with `private_services` only.
    Raises Refused where there is no catalog, nobody who could log in, or the port is in use.
    """
    listening = listening or Listening()
    options = ServerOptions(listening.host, tuple(runs))
    catalog = Catalog.open(folder, address, private_services=private_services)
    try:
        _check_somebody(catalog, folder)
        _check_certificate(listening)
        app = create_app(catalog, options, _lifespan)
        with _listen(listening) as sock:
            server = uvicorn.Server(_config(app, listening))
            _announce(catalog, replace(listening, port=sock.getsockname()[1]))
            with suppress(KeyboardInterrupt):
                server.run(sockets=[sock])
            app.state.decoder.close()
        print("stopped", flush=True)
    finally:
        catalog.close()


def run_serve(options: Mapping[str, Any]) -> int:
    """Carry out `aftermap serve`."""
    listening = Listening(
        host=options["host"], port=options["port"],
        allow_remote_users=options["allow_remote_users"],
        certificate=options["certificate"], key=options["key"],
    )  # fmt: skip
    serve(
        options["catalog"], options["database"], listening, options["runs"] or (),
        options["allow_private_services"],
    )  # fmt: skip
    return 0


def _check_somebody(catalog: Catalog, folder: str | Path) -> None:
    """Refuse to serve what nobody can use: a password that the server makes up would be in its log."""
    with catalog.reading() as session:
        query = select(User.id).where(User.active, User.password.is_not(None)).limit(1)
        if session.scalars(query).first() is None:
            raise Refused(
                f"Nobody can log in to the catalog {catalog.folder} yet. Make an admin first:\n"
                f"  aftermap catalog user NAME --role admin --catalog {folder}"
            )


def _check_certificate(listening: Listening) -> None:
    """Refuse what https cannot be spoken with, before anybody connects."""
    certificate, key = listening.certificate, listening.key
    if certificate is None or key is None:
        return
    for option, file in (("--certificate", certificate), ("--key", key)):
        if not file.is_file():
            raise Refused(f"There is no file {file}. Check {option}.")
    try:
        # Without a passphrase at hand OpenSSL would ask for one on the terminal, and a service waits for ever.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        # OpenSSL gives no reason for what is no PEM, nor for a key that it cannot decrypt.
        why = (error.reason or "no PEM, or a key with a passphrase").replace("_", " ")
        raise Refused(
            f"The certificate {certificate} and the key {key} cannot be used together: {why}. "
            "Give --certificate its own --key, both as PEM, the key without a passphrase."
        ) from error
    except OSError as error:
        raise Refused(
            f"The certificate {certificate} or the key {key} cannot be read: {error.strerror}. "
            "Check --certificate and --key."
        ) from error


def _listen(listening: Listening) -> socket.socket:
    """The open port; Refused where it is in use or cannot be had."""
    try:
        family = socket.getaddrinfo(listening.host, listening.port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise Refused(f"--host {listening.host} is no address of this machine: {error}.") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((listening.host, listening.port))
        sock.listen(512)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise Refused(
                f"Port {listening.port} of {listening.host} is in use, perhaps by another `aftermap serve`. "
                "Stop that, or give another --port."
            ) from error
        raise Refused(
            f"Port {listening.port} of {listening.host} cannot be opened: {error.strerror}. Change --host or --port."
        ) from error
    return sock


def _config(app: FastAPI, listening: Listening) -> uvicorn.Config:
    return uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        ws="none", timeout_keep_alive=75, timeout_graceful_shutdown=10, ssl_certfile=listening.certificate,
        ssl_keyfile=listening.key,
    )  # fmt: skip


def _announce(catalog: Catalog, listening: Listening) -> None:
    print(f"catalog    {catalog.folder} ({catalog.database.shown})")
    print(f"open       {listening.address}")
    if not is_loopback(listening.host) and listening.certificate is None:
        print(
            "warning    passwords and pictures go over the network unencrypted. Give --certificate and --key."
        )
    print("Ctrl-C stops it.", flush=True)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
    yield
