"""A folder that one process works in at a time, and that tells who does."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import Refused

LOCK, OWNER = ".lock", ".owner"
_PROBE = ".probe-"


class InUse(Refused):
    """Another living process holds the folder."""


@contextmanager
def holding(folder: Path, work: str) -> Iterator[None]:
    """Hold a folder for some work ("run", "training"), made where there is none.

    The lock is the operating system's and dies with its holder, so none is ever stale. A folder in
    which nothing was begun is left as it was found. Raises InUse while another process lives that
    holds the folder, Refused where it cannot be written to.
    """
    made = not folder.exists()
    _make(folder)
    new, before = not (folder / LOCK).exists(), _names(folder)
    with file_held(folder / LOCK) as mine:
        if not mine:
            raise InUse(
                f"{folder} is in use by another {work} ({_holder(folder)}). Wait for it, or give "
                "another folder with -o."
            )
        try:
            _own(
                folder,
                {
                    "work": work,
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                    "since": time.strftime("%F %T"),
                },
            )
            yield
        finally:
            (folder / OWNER).unlink(missing_ok=True)
            if new and _names(folder) == before:
                (folder / LOCK).unlink(missing_ok=True)
                if made:
                    with suppress(OSError):  # something else is in it by now, or it was removed
                        folder.rmdir()


@contextmanager
def file_held(path: Path) -> Iterator[bool]:
    """Whether the lock of a file could be had, for the length of a block; nobody is waited for.

    Raises Refused where its folder cannot be written to.
    """
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise _unwritable(path.parent, error) from error
    try:
        yield _is_there(lock, path)
    finally:
        lock.release()


def watched(folder: Path, dashboard: str) -> None:
    """Tell others, while a folder is held, where the cluster that works on it can be watched."""
    with suppress(OSError, ValueError):
        _own(folder, json.loads((folder / OWNER).read_text()) | {"dashboard": dashboard})


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f"{_PROBE}{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> Refused:
    return Refused(
        f"{folder} cannot be written to ({error.strerror}). Give another folder with -o."
    )


def _names(folder: Path) -> set[str]:
    """What is in a folder, but for who holds it or tries to."""
    with suppress(OSError):
        return {name for name in os.listdir(folder) if not name.startswith((LOCK, OWNER, _PROBE))}
    return set()


def _is_there(lock: FileLock, path: Path) -> bool:
    """Whether the locked file is the one that others will find: its last holder may have removed it."""
    held = lock._context.lock_file_fd
    try:
        return held is not None and os.path.samestat(os.fstat(held), os.stat(path))
    except OSError:
        return False


def _own(folder: Path, owner: Mapping[str, Any]) -> None:
    with suppress(OSError):  # only told to whoever asks; a full disk shows later
        part = folder / f"{OWNER}.part"
        part.write_text(json.dumps(owner))
        os.replace(part, folder / OWNER)


def _holder(folder: Path) -> str:
    try:
        owner = json.loads((folder / OWNER).read_text())
        return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    except (OSError, ValueError, KeyError):
        return "its process is not known"
