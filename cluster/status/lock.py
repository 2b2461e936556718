"""Who holds a folder, told without touching its lock."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...scenes.holding import LOCK, OWNER


@dataclass(frozen=True)
class Holder:
    """Who has a run folder."""

    host: str
    pid: int
    since: str
    dashboard: str | None = None
    """Where the cluster that works on it can be watched, while it lives."""
    work: str = ""
    """What it does there, as "run" or "training"; earlier versions did not say."""

    def text(self) -> str:
        """As told to a person."""
        return f"process {self.pid} on {self.host} since {self.since}"


def holder_of(path: Path) -> Holder | None:
    """Who has a folder, or had it last, as far as it is said in it."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        owner = json.loads((path / OWNER).read_text())
        dashboard = owner.get("dashboard")
        return Holder(
            str(owner["host"]),
            int(owner["pid"]),
            str(owner["since"]),
            None if dashboard is None else str(dashboard),
            str(owner.get("work", "")),
        )
    return None


def by(holder: Holder | None, running: bool) -> str:
    """Who holds a folder, or left it, after its state; empty where nobody is known."""
    if holder is None:
        return ""
    return f", {holder.text()}" if running else f", left by {holder.text()}"


def held_by(folder: Path) -> tuple[bool, Holder | None]:
    """Whether a living process holds a folder, and who that is, or had it last."""
    holder = holder_of(folder)
    return is_held(folder / LOCK, holder), holder


def is_held(lock: Path, holder: Holder | None) -> bool:
    """Whether a living process holds a lock.

    The kernel's table tells it without touching the lock. A lock held on another machine is not in
    it, so where the owner says it is there, the lock is tried, shared and without waiting: that
    fails while it is held, and is undone at once where not.
    """
    try:
        handle = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        found = os.fstat(handle)
        listed = _listed(found, holder)
        if listed is not None and (listed or holder is None or holder.host == socket.gethostname()):
            return listed
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(handle, fcntl.LOCK_UN)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _listed(file: os.stat_result, holder: Holder | None) -> bool | None:
    """Whether this machine's kernel knows of a lock on a file; None where it cannot be asked."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    place = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    for line in lines:
        words = line.split()
        if len(words) < 8 or "->" in words:  # the latter only waits for a lock
            continue
        pid, where = words[-4:-2]
        # Layered file systems tell another device here; process and file number are then enough.
        same = where.rpartition(":")[2] == str(file.st_ino)
        if where == place or (same and holder is not None and pid == str(holder.pid)):
            return True
    return False
