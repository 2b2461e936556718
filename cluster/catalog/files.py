"""Files that the catalog keeps, each under the SHA-256 of its bytes: the same content lies there once."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedRandom
from pathlib import Path
from typing import IO

from ...scenes.atomic import write_atomically
from ...scenes.errors import Refused

_NAME = re.compile(r"[0-9a-f]{64}\.[a-z]{1,12}")
_BEGUN = ".begun-"
"""How the names of files begin that are not whole yet."""


@dataclass(frozen=True)
class Files:
    """A folder of files that never change; `name` is "<sha-256>.<suffix>" everywhere."""

    folder: Path

    def path(self, name: str) -> Path:
        """Where a file is or would be. Raises ValueError for what is no name: nothing else is opened."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a file of the catalog")
        return self.folder / name[:2] / name

    def holds(self, name: str) -> bool:
        """Whether a file is there."""
        return self.path(name).is_file()

    def read(self, name: str) -> bytes:
        """The content of a file; raises Refused if it is gone."""
        try:
            return self.path(name).read_bytes()
        except OSError as error:
            raise Refused(
                f"The catalog's file {self.path(name)} cannot be read ({error.strerror}). "
                "`aftermap catalog verify` tells what else is missing."
            ) from error

    @contextmanager
    def temporary(self) -> Iterator[tuple[BufferedRandom, Path]]:
        """A file that is on the same disk, and its path; it is gone in the end unless `Adding.move` took it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=_BEGUN)
        try:
            with os.fdopen(handle, "w+b") as stream:
                yield stream, Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def names(self) -> Iterator[str]:
        """The names of all files, in order."""
        for folder in sorted(self.folder.glob("[0-9a-f][0-9a-f]")):
            yield from sorted(p.name for p in folder.iterdir() if _NAME.fullmatch(p.name))

    def begun(self, idle_s: float = 0) -> Iterator[Path]:
        """Files that are not whole, of those that nobody has written to for so many seconds."""
        before = time.time() - idle_s
        for path in sorted(self.folder.glob(f"{_BEGUN}*")):
            with suppress(FileNotFoundError):  # it was finished meanwhile
                if path.stat().st_mtime <= before:
                    yield path

    def sound(self, name: str) -> bool:
        """Whether a file's bytes are those that its name says."""
        with self.path(name).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == name[:64]


@dataclass
class Adding:
    """Files that are added together, see `Catalog.adding`."""

    files: Files
    new: list[str] = field(default_factory=list)
    """Names of those that were not there before."""

    def put(self, content: bytes | IO[bytes], suffix: str) -> str:
        """Keep a file and give its name; it is on the disk, whole, when this returns."""
        with self.files.temporary() as (stream, begun):
            if isinstance(content, bytes):
                stream.write(content)
            else:
                shutil.copyfileobj(content, stream, 1 << 20)
            return self.move(begun, settled(stream), suffix)

    def move(self, begun: Path, digest: str, suffix: str) -> str:
        """Keep a file of `Files.temporary` by a rename, and give its name; `digest` is what `settled` gave."""
        name = f"{digest}.{suffix}"
        target = self.files.path(name)
        if not target.exists():
            if not target.parent.exists():
                target.parent.mkdir(exist_ok=True)
                _sync(target.parent.parent)
            os.chmod(begun, 0o644)
            os.replace(begun, target)
            _sync(target.parent)
            self.new.append(name)
        return name

    def put_card(self, name: str, text: str) -> None:
        """Write what belongs to a file beside it, as `<sha-256>.json`."""
        card = self.files.path(name).with_suffix(".json")
        if not card.exists():
            self.new.append(card.name)
        write_atomically(card, text.encode())
        _sync(card.parent)


def settled(stream: BufferedRandom) -> str:
    """The SHA-256 of a file's bytes, once all of them are on the disk."""
    stream.flush()
    os.fsync(stream.fileno())
    stream.seek(0)
    return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    """Have the disk know a folder's new entry: else it may be lost with the power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
