"""A learning as a process of its own, so that whoever asks for it need not wait."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ..catalog.catalog import ADDRESS, Catalog
from .config import LearnConfig
from .jobs import LEARN, begin, belongs


def start_learning(
    catalog_folder: str | Path, address: str | None, user_name: str, config: LearnConfig
) -> int:
    """Start `aftermap learn` in the background; returns the number of its job.

    `address` is that of a PostgreSQL database, None for the folder's own file. What the process says
    goes into `cache/jobs/<number>.log` in the catalog's folder. Raises Running where a learning runs.
    """
    folder = Path(catalog_folder).absolute()
    catalog = Catalog.open(folder, address)
    try:
        job = begin(catalog, LEARN, user_name)
        log = folder / "cache" / "jobs" / f"{job.id}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "aftermap", "learn", "--catalog", str(folder)]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*command, "--job", str(job.id), *config.arguments()],
                # The address may hold a password, which a command line shows to everybody.
                env=os.environ | ({ADDRESS: address} if address else {}),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        belongs(catalog, job.id, process.pid)
        return job.id
    finally:
        catalog.close()
