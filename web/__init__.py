"""The tagging and review app."""

from __future__ import annotations

from importlib import import_module

from ..scenes.errors import UsageError

for _name in ("fastapi", "uvicorn", "rio_tiler", "sqlalchemy"):
    try:
        import_module(_name)
    except ImportError as error:
        raise UsageError(
            f'The app needs {_name} ({error}). It comes with\n  pip install "aftermap[web]"'
        ) from error
