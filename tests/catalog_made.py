"""Catalogs for tests, in SQLite's file and on a real PostgreSQL where `.ci/run` has started one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

SERVER = "AFTERMAP_TEST_POSTGRES"
"""The address of a server on which tests may make databases of their own."""

KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@contextmanager
def database_address(kind: str, folder: Path) -> Iterator[str]:
    """The address of an empty database, which is removed in the end."""
    if kind == "sqlite":
        yield str(folder / "catalog.db")
        return
    server = os.environ.get(SERVER)
    if not server:
        pytest.skip(f"no PostgreSQL: {SERVER} is not set, see .ci/postgres")
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield make_url(server).set(database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
