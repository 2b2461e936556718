"""Catalogs for tests, in SQLite's file and on a real PostgreSQL where `.ci/run` has started one."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psycopg
import pytest
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.database import Database
from aftermap.cluster.catalog.tables import Table
from argon2 import PasswordHasher
from sqlalchemy import make_url

SERVER = "AFTERMAP_TEST_POSTGRES"
"""The address of a server on which tests may make databases of their own."""

KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@contextmanager
def new_catalog(folder: Path, address: str) -> Iterator[Catalog]:
    """A catalog without anything in it, in a folder and a database of `database_address`."""
    if "://" not in address:
        (folder / "files").mkdir(parents=True)
        shutil.copy(_file_with_tables() / "catalog.db", folder / "catalog.db")
    opened = Catalog.open(folder, address if "://" in address else None, create=True)
    yield opened
    opened.close()


@cache
def password_hash(password: str) -> str:
    """As a user's row keeps it; to make one takes as long as it should."""
    return PasswordHasher().hash(password)


@cache
def _file_with_tables() -> Path:
    """As `_with_tables`, of SQLite."""
    folder = Path(tempfile.mkdtemp(prefix="aftermap-tables-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Catalog.open(folder, create=True).close()
    return folder


@cache
def _with_tables(server: str) -> str:
    """The address of a database of this process that has all tables, for one test after the other."""
    name = f"tables_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name}")
    address = make_url(server).set(database=name).render_as_string(hide_password=False)
    Database.open(address).close()
    return address


@contextmanager
def database_address(kind: str, folder: Path, empty: bool = False) -> Iterator[str]:
    """The address of a database with nothing in its tables; `empty`, of one without tables, removed in the end."""
    if kind == "sqlite":
        yield str(folder / "catalog.db")
        return
    server = os.environ.get(SERVER)
    if not server:
        pytest.skip(f"no PostgreSQL: {SERVER} is not set, see .ci/postgres")
    if not empty:
        address = _with_tables(server)
        tables = ", ".join(table.name for table in Table.metadata.sorted_tables)
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")
        yield address
        return
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield make_url(server).set(database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
