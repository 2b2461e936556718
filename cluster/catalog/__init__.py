"""The catalog: imagery, chips, tags, models, runs and reviews in a database, and the files beside it."""

from __future__ import annotations

from importlib import import_module

from ...scenes.errors import UsageError

for _name in ("sqlalchemy", "alembic", "argon2"):
    try:
        import_module(_name)
    except ImportError as error:
        raise UsageError(
            f'The catalog needs {_name} ({error}). It comes with\n  pip install "aftermap[web]"'
        ) from error
