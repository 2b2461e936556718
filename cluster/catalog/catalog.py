"""The catalog as a whole: its folder, its database, and how both change together."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from ...scenes.errors import Refused
from .database import Database
from .files import Adding, Files
from .labels import plain_labels
from .tables import Chip, Entry, LabelSet, Model, Scene, User

DATABASE = "catalog.db"
"""SQLite's file in the catalog's folder."""

ADDRESS = "AFTERMAP_DATABASE"
"""Variable with the address of a PostgreSQL database: there its password is in nobody's history."""

_LOCK = 0x66696C65
"""Number of the lock of those who add files on PostgreSQL, against those who remove left-overs."""


@dataclass(frozen=True, eq=False)
class Catalog:
    """A folder with files and, in it or on a server, a database that names them."""

    folder: Path
    database: Database
    private_services: bool = True
    """Whether images are fetched of services on this machine or in the own network."""

    @classmethod
    def open(
        cls,
        folder: str | Path,
        address: str | None = None,
        create: bool = False,
        private_services: bool = True,
    ) -> Catalog:
        """Open the catalog of a folder; `create` makes it where there is none, for its owner alone.

        `address` is that of a PostgreSQL database, else `AFTERMAP_DATABASE`, else the folder's own
        file is used. Raises Refused where there is no catalog, or its database cannot be used.
        """
        root = Path(folder).absolute()
        address = address or os.environ.get(ADDRESS) or None
        there = (root / DATABASE).exists() if address is None else (root / "files").is_dir()
        if not there and not create:
            raise Refused(
                f"There is no catalog in {root}. Give its folder with --catalog, or begin one with "
                f"`aftermap catalog add IMAGE --catalog {folder}`."
            )
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            (root / "files").mkdir(exist_ok=True)
        except OSError as error:
            raise Refused(
                f"The catalog's folder {root} cannot be made: {error.strerror}. Change --catalog."
            ) from error
        catalog = cls(root, Database.open(address or root / DATABASE), private_services)
        with catalog.tidying() as session:
            if session.scalars(select(LabelSet).limit(1)).first() is None:
                session.add_all(plain_labels())
        return catalog

    @property
    def files(self) -> Files:
        """The files that it keeps."""
        return Files(self.folder / "files")

    @property
    def reading(self) -> Any:
        """See `Database.reading`."""
        return self.database.reading

    @property
    def writing(self) -> Any:
        """See `Database.writing`."""
        return self.database.writing

    @contextmanager
    def adding(self) -> Iterator[tuple[Session, Adding]]:
        """Change tables and add files: all of it on leaving, nothing of it after an exception.

        Files are whole before the tables name them. A process that is killed in between leaves a file that
        nobody names, which `verify` finds and removes; never a name without its file.
        """
        adding = Adding(self.files)
        try:
            with self.database.writing() as session:
                self._hold_files(session, shared=True)
                yield session, adding
        except BaseException:
            self._take_back(adding)
            raise

    @contextmanager
    def tidying(self) -> Iterator[Session]:
        """Look at tables and files while nobody adds any."""
        with self.database.writing() as session:
            self._hold_files(session, shared=False)
            yield session

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def _take_back(self, adding: Adding) -> None:
        """Remove the files of an addition that failed; of those, others may name some by now."""
        if not adding.new:
            return
        with suppress(SQLAlchemyError), self.tidying() as session:
            named = {name[:64] for name, _ in named_files(session)}
            for name in adding.new:
                if name[:64] not in named:
                    self.files.path(name).unlink(missing_ok=True)

    def _hold_files(self, session: Session, shared: bool) -> None:
        if not self.database.is_file:  # a writer of SQLite is alone anyway
            kind = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
            session.execute(text(f"SELECT {kind}(:lock)"), {"lock": _LOCK})


def named_files(session: Session) -> Iterator[tuple[str, str]]:
    """Every file that a row names, and which row."""
    for scene in session.execute(select(Scene.id, Scene.name, Scene.content).order_by(Scene.id)):
        if scene.content is not None:
            yield scene.content, f"scene {scene.id} ({scene.name})"
    for chip in session.execute(select(Chip.id, Chip.content, Chip.before).order_by(Chip.id)):
        for name in (chip.content, chip.before):
            if name is not None:
                yield name, f"chip {chip.id}"
    for model in session.execute(select(Model.id, Model.content).order_by(Model.id)):
        yield model.content, f"model {model.id}"


def local_user(session: Session) -> User:
    """Who works at the command line, by the name of the system's account; an admin who cannot log in."""
    return user_called(session, getpass.getuser(), "admin")


def user_called(session: Session, name: str, role: str) -> User:
    """The user of a name; one of this role, who cannot log in, is made where there is none."""
    query = select(User).where(User.name == name)
    found = session.scalars(query).first()
    if found is not None:
        return found
    user = User(name=name, role=role)
    try:
        with session.begin_nested():
            session.add(user)
    except IntegrityError:  # somebody else has made the same user at the same moment
        return session.scalars(query).one()
    return user


def note(session: Session, user: User | None, action: str, subject: str, **details: Any) -> None:
    """Add to the audit trail; it becomes true with what it tells of."""
    session.add(
        Entry(
            user_id=None if user is None else user.id,
            action=action,
            subject=subject,
            details=details,
        )
    )
