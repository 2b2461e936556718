"""What keeps a cluster private: TLS credentials, and files that nobody else may read."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path

from distributed.security import Security

from ..scenes.errors import Refused

CERTIFICATE, KEY = "tls.crt", "tls.key"
"""The credentials of a scheduler-file cluster, in the folder of its scheduler file."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def temporary_security() -> Security:
    """Fresh TLS credentials, kept in memory: whoever has them may join, and nobody else.

    Raises Refused where the package that makes them is missing.
    """
    try:
        return Security.temporary()
    except ImportError as error:
        raise Refused(
            f"Private connections between machines need cryptography ({error}). Install it with "
            'pip install "aftermap[hpc]".'
        ) from error


def security_of(folder: str | Path) -> Security:
    """The TLS credentials in a folder; made there, for its owner's eyes only, if there are none.

    The folder (0700) holds `tls.crt` and `tls.key` (0600), and lies where all nodes see it.
    Scheduler, workers and client use the same pair, and each refuses whoever does not have it.
    Raises Refused where others could read the folder or its files.
    """
    place = Path(folder).expanduser().absolute()
    if not (place / KEY).exists():
        _write(place)
    check_private(place)
    for name in (CERTIFICATE, KEY):
        check_private(place / name)
    certificate, key = str(place / CERTIFICATE), str(place / KEY)
    return Security(
        require_encryption=True,
        tls_ca_file=certificate,
        **{
            f"tls_{role}_{what}": path
            for role in ("scheduler", "worker", "client")
            for what, path in (("cert", certificate), ("key", key))
        },
    )


def security_beside(scheduler_file: str | Path) -> Security | None:
    """The credentials that lie beside a scheduler file; None where there are none.

    Raises Refused for a scheduler file that others may change (Dask writes it so that they may read
    it, which tells them no more than the scheduler's port does), and for credentials that they may
    read or change.
    """
    file = Path(scheduler_file)
    check_private(file, stat.S_IWGRP | stat.S_IWOTH)
    return security_of(file.parent) if (file.parent / KEY).exists() else None


def check_private(path: str | Path, forbidden: int = _OTHERS) -> None:
    """Refuse a file or folder with which others may do what is forbidden: anything, by default.

    Whoever can write a scheduler file decides to which machine this process connects, and whoever
    can read a key can run code on the cluster.
    """
    place = Path(path)
    try:
        found = place.stat()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}.") from error
    if hasattr(os, "geteuid") and found.st_uid not in (os.geteuid(), 0):
        raise Refused(
            f"{path} belongs to user {found.st_uid}, and this process runs as {os.geteuid()}. "
            "Connect only to a cluster of your own."
        )
    open_to = stat.S_IMODE(found.st_mode) & forbidden
    if open_to:
        wanted = "700" if stat.S_ISDIR(found.st_mode) else "600"
        raise Refused(
            f"{path} can be used by others (mode {stat.S_IMODE(found.st_mode):03o}): they could "
            f"run programs as you on this cluster. Close it with: chmod {wanted} {path}"
        )


def _write(folder: Path) -> None:
    """Make a pair of credentials, and put it into its place whole."""
    made = temporary_security().get_tls_config_for_role("client")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The key last: that it is there says that both are.
        for name, content in ((CERTIFICATE, made["cert"]), (KEY, made["key"])):
            handle, part = tempfile.mkstemp(dir=folder, prefix=f".{name}.")  # 0600 from birth
            with os.fdopen(handle, "w") as file:
                file.write(content)
            os.replace(part, folder / name)
    except OSError as error:
        raise Refused(
            f"TLS credentials cannot be written into {folder}: {error.strerror}."
        ) from error


if __name__ == "__main__":  # what a job script calls: make the credentials of its cluster
    security_of(sys.argv[1])
