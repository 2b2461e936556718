"""A learning as a process of its own, so that whoever asks for it need not wait."""

from __future__ import annotations

import os
import subprocess
import sys

from ..catalog.catalog import ADDRESS, Catalog
from .config import LearnConfig
from .jobs import LEARN, begin, belongs


def start_learning(catalog: Catalog, user_name: str, config: LearnConfig) -> int:
    """Start `aftermap learn` in the background; returns the number of its job.

    What the process says goes into `cache/jobs/<number>.log` in the catalog's folder. Raises Running
    where a learning runs.
    """
    job = begin(catalog, LEARN, user_name)
    folder = catalog.folder
    log = folder / "cache" / "jobs" / f"{job.id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "aftermap", "learn", "--catalog", str(folder)]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "--job", str(job.id), *config.arguments()],
            env=os.environ | _address(catalog),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    belongs(catalog, job.id, process.pid)
    return job.id


def _address(catalog: Catalog) -> dict[str, str]:
    """Of a PostgreSQL database, for the environment: a command line shows its password to everybody."""
    if catalog.database.is_file:
        return {}
    return {ADDRESS: catalog.database.engine.url.render_as_string(hide_password=False)}
