"""The catalog's database: its steps, what it refuses, and who may write when."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.database import Database
from aftermap.cluster.catalog.tables import Table, User
from aftermap.scenes.errors import Refused, UsageError
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from catalog_made import KINDS, database_address
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError


@pytest.fixture(params=KINDS)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database_address(request.param, tmp_path, empty=True) as found:
        yield found


@pytest.fixture
def database(address: str) -> Iterator[Database]:
    opened = Database.open(address)
    yield opened
    opened.close()


def test_its_steps_make_the_tables_that_the_program_knows(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []


def test_opened_again_it_is_as_it_was(address: str, database: Database) -> None:
    with database.writing() as session:
        session.add(User(name="ana", role="tagger"))
    again = Database.open(address)
    with again.reading() as session:
        assert session.scalars(select(User.name)).all() == ["ana"]
    again.close()


NAMES = """
import sys
from aftermap.cluster.catalog.database import Database
from sqlalchemy import text
database = Database.open(sys.argv[1])
with database.reading() as session:
    print(*session.scalars(text("SELECT name FROM users ORDER BY name")))
database.close()
"""


def test_opened_twice_here_it_loses_nothing_when_others_come_and_go(
    address: str, database: Database
) -> None:
    """To close a file of SQLite's by any other hand drops this process's locks on it."""
    told = []
    for name in ("ana", "ben"):
        with database.writing() as session:
            session.add(User(name=name, role="tagger"))
        Database.open(address).close()
        words = [sys.executable, "-c", NAMES, address]
        done = subprocess.run(words, capture_output=True, text=True)
        told.append(done.stdout.strip() or done.stderr)
    assert told == ["ana", "ana ben"]


def test_several_processes_may_make_it_at_once(address: str) -> None:
    opened, failures = [], []

    def open_it() -> None:
        try:
            opened.append(Database.open(address))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(opened) == 6
    for database in opened:
        database.close()


def test_nothing_of_a_change_that_failed_is_kept(database: Database) -> None:
    def add_two() -> None:
        with database.writing() as session:
            session.add(User(name="ana", role="tagger"))
            session.flush()
            session.add(User(name="ana", role="viewer"))

    with pytest.raises(IntegrityError):
        add_two()
    with database.reading() as session:
        assert session.scalars(select(User)).all() == []


def test_roles_that_do_not_exist_are_refused_by_the_database(database: Database) -> None:
    with pytest.raises(IntegrityError), database.writing() as session:
        session.add(User(name="ana", role="king"))


def test_moments_come_back_in_utc(database: Database) -> None:
    noon = datetime(2017, 9, 8, 12, tzinfo=timezone(timedelta(hours=-5)))
    with database.writing() as session:
        session.add(User(name="ana", role="tagger", made_at=noon))
    with database.reading() as session:
        found = session.scalars(select(User)).one().made_at
    assert (found, found.tzinfo) == (noon, UTC)


def test_writers_wait_for_each_other(database: Database) -> None:
    def count_up() -> None:
        for _ in range(10):
            with database.writing() as session:
                user = session.scalars(select(User).with_for_update()).one()
                user.role = "viewer"
                user.name = str(int(user.name) + 1)

    with database.writing() as session:
        session.add(User(name="0", role="viewer"))
    threads = [threading.Thread(target=count_up) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as session:
        assert session.scalars(select(User.name)).one() == "80"


def test_a_database_of_a_later_version_is_refused(address: str, database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Refused, match=r"later version of aftermap \(step 9999\)"):
        Database.open(address)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "catalog.db"
    file.write_bytes(b"holiday photos" * 100)
    with pytest.raises(Refused, match="no catalog"):
        Database.open(file)
    assert file.read_bytes() == b"holiday photos" * 100


@pytest.mark.parametrize("address", ["mysql://root@127.0.0.1/x", "sqlite:///x.db", "://"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(UsageError, match="--database"):
        Database.open(address)


def test_a_server_that_does_not_answer_is_told_without_its_password() -> None:
    with pytest.raises(Refused) as failure:
        Database.open("postgresql://ana:geheim@127.0.0.1:1/catalog")
    assert "geheim" not in str(failure.value)
    assert "127.0.0.1" in str(failure.value)


def test_who_reads_sees_one_state(database: Database) -> None:
    with database.reading() as session:
        assert session.scalars(select(User.name)).all() == []
        with database.writing() as other:
            other.add(User(name="ana", role="tagger"))
        assert session.scalars(select(User.name)).all() == []
    with database.reading() as session:
        assert session.scalars(select(User.name)).all() == ["ana"]


def test_what_fails_does_not_tell_the_values(database: Database) -> None:
    user = {"name": "ana", "role": "tagger", "password": "$argon2id$secret"}
    with database.writing() as session:
        session.add(User(**user))
    with pytest.raises(IntegrityError) as failure, database.writing() as session:
        session.add(User(**user))
    assert "secret" not in str(failure.value)


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "catalog.db")
    with database.writing() as session:
        session.add(User(name="ana", role="tagger"))
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    database.close()
    assert modes == dict.fromkeys(("catalog.db", "catalog.db-wal", "catalog.db-shm"), 0o600)


def test_the_folder_is_its_owners_alone_where_it_is_made(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    for folder, mode in ((tmp_path / "new", 0o700), (shared, 0o755)):
        Catalog.open(folder, create=True).close()
        assert folder.stat().st_mode & 0o777 == mode
