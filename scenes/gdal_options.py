"""Options of GDAL's vector side that hold for a while, whichever threads want them at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pyogrio

_lock = threading.Lock()
_holders: dict[str, int] = {}
_before: dict[str, str | None] = {}


@contextmanager
def vector_options(options: Mapping[str, str]) -> Iterator[None]:
    """Set options for the length of a block: the first holder sets them, the last one restores.

    They belong to the process, so that all who hold an option at the same time must want the same
    value of it; two scenes of a region that are written at once do.
    """
    with _lock:
        for name, value in options.items():
            if not _holders.get(name):
                _before[name] = pyogrio.get_gdal_config_option(name)
                pyogrio.set_gdal_config_options({name: value})
            _holders[name] = _holders.get(name, 0) + 1
    try:
        yield
    finally:
        with _lock:
            for name in options:
                _holders[name] -= 1
                if not _holders[name]:
                    pyogrio.set_gdal_config_options({name: _before.pop(name)})
