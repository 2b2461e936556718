"""What a batch job takes with it from whoever submits it, and what its workers must know."""

from __future__ import annotations

import shlex

from ..machine import CONFIG, WORKER_ENVIRONMENT

KEPT = ("HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "MODULEPATH")
"""Variables that a job takes from the environment it was submitted in. All others stay behind,
tokens and passwords among them: scripts and logs are read by more people than shells are."""


def worker_exports() -> list[str]:
    """Shell lines that set up a worker's process before it starts; its nanny hands them on."""
    settings = {
        f"DASK_{name.upper().replace('.', '__').replace('-', '_')}": value
        for name, value in CONFIG.items()
        if not isinstance(value, dict)
    }
    variables = WORKER_ENVIRONMENT | settings
    return [f"export {name}={shlex.quote(str(value))}" for name, value in variables.items()]
