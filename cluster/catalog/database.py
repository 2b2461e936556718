"""The database of the catalog: a file by default, a PostgreSQL server by its address."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from ...scenes.errors import AftermapError, Refused, UsageError

_WAIT_MS = 30_000
"""How long a writer waits for another one, ms."""

_LOCK = 0x61667465
"""Number of the lock under which a PostgreSQL database is brought up to date."""

_SERVERS = {"postgresql": "postgresql+psycopg", "postgresql+psycopg": "postgresql+psycopg"}


@dataclass(frozen=True, eq=False)
class Database:
    """A database that has the tables of this version."""

    engine: Engine
    _turn: Lock = field(default_factory=Lock)
    """Whose turn it is to write into a file: SQLite lets those who wait longest wait on."""

    @classmethod
    def open(cls, address: str | Path) -> Database:
        """Connect, and bring the tables up to date: a path of SQLite's file, or postgresql://….

        Raises UsageError for another kind of address, Refused for a file that is no catalog, for one
        that a later version has written, and for a server that does not answer.
        """
        url = _url(address)
        database = cls(_engine(url))
        try:
            with database._writer.begin() as connection:
                _bring_up_to_date(connection, url)
        except SQLAlchemyError as error:
            database.close()
            raise Refused(f"The catalog's database {told(url)} {_reason(error)}.") from error
        except AftermapError:
            database.close()
            raise
        return database

    @property
    def shown(self) -> str:
        """Where it is, without a password."""
        return told(self.engine.url)

    @property
    def is_file(self) -> bool:
        """Whether it is SQLite's."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Look at one state of the tables."""
        with Session(self._reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Change the tables: all of it on leaving, nothing of it after an exception."""
        with (
            self._turn if self.is_file else nullcontext(),
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()

    @property
    def _reader(self) -> Engine:
        # By itself each of PostgreSQL's statements sees what others have changed since the one before.
        if self.is_file:
            return self.engine
        return self.engine.execution_options(isolation_level="REPEATABLE READ")

    @property
    def _writer(self) -> Engine:
        return self.engine.execution_options(writes=True)


def told(url: URL) -> str:
    """An address as it may be shown and logged."""
    return url.render_as_string(hide_password=True) if url.host else str(url.database)


def _url(address: str | Path) -> URL:
    if isinstance(address, Path) or "://" not in address:
        return URL.create("sqlite", database=str(address))
    try:
        url = make_url(address)
    except ArgumentError as error:
        raise UsageError(
            "The address of the database cannot be understood. Give --database "
            "postgresql://user@host/name."
        ) from error
    if url.drivername not in _SERVERS:
        raise UsageError(
            f"The catalog is kept in SQLite's file or on PostgreSQL, not by {url.drivername}. Give "
            "--database postgresql://user@host/name, or leave it out."
        )
    return url.set(drivername=_SERVERS[url.drivername])


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        try:
            return create_engine(
                url, hide_parameters=True, pool_pre_ping=True, pool_size=10, max_overflow=20
            )
        except ImportError as error:
            raise UsageError(
                f'A PostgreSQL database needs psycopg ({error}). It comes with\n  pip install "aftermap[web]"'
            ) from error
    _begin_file(Path(str(url.database)))
    engine = create_engine(
        url,
        hide_parameters=True,
        connect_args={"check_same_thread": False, "timeout": _WAIT_MS / 1000},
    )
    event.listen(engine, "connect", _opened)
    event.listen(engine, "begin", _begun)
    return engine


def _begin_file(path: Path) -> None:
    """Make SQLite's file where there is none, for its owner alone: it holds passwords' hashes."""
    # One that is there is not opened: to close it again would drop the locks of all who have it open in
    # this process, and what they write later would be lost once another process had come and gone.
    with suppress(OSError):  # SQLite says what is wrong
        os.close(os.open(path.resolve(), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _opened(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions begin when we say so
    cursor = connection.cursor()
    # The order matters: a second process may be switching the file to WAL just now.
    cursor.execute(f"PRAGMA busy_timeout = {_WAIT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # a tag that was answered for outlives a power cut
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begun(connection: Connection) -> None:
    # A reader that turns writer half-way is refused at once, however long others may wait: writers
    # say so from the beginning.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _bring_up_to_date(connection: Connection, url: URL) -> None:
    """Take the steps that are still to take, one process at a time."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
    found = MigrationContext.configure(connection).get_current_heads()
    if strange := set(found) - known:
        raise Refused(
            f"The catalog's database {told(url)} is of a later version of aftermap (step "
            f"{', '.join(sorted(strange))}). Install that version."
        )
    command.upgrade(config, "head")


def _reason(error: SQLAlchemyError) -> str:
    words = " ".join(str(getattr(error, "orig", None) or error).split())
    if isinstance(error, OperationalError):
        return f"cannot be opened: {words}. Check --catalog and --database"
    if isinstance(error, DatabaseError):
        return f"is no catalog: {words}. Check --catalog and --database"
    return f"cannot be used: {words}"
