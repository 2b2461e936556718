"""Tiny studies of papers: carried out, killed, refused."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aftermap.cluster.studies.paper import Studied
from aftermap.cluster.studies.study import study
from killed import kill


def carried_out(name: str, out: Path, settings: Mapping[str, Any], seeds: int = 1) -> Studied:
    """A study by one thread of this process."""
    return study(name, out, seeds, settings, cluster="threads", workers=1)


def killed(
    name: str, out: Path, settings: Mapping[str, Any], begun: Callable[[], bool], seeds: int = 1
) -> None:
    """The same in a process of its own, which is killed once `begun`."""
    code = (
        "from aftermap.cluster.studies.study import study\n"
        f"study({name!r}, {str(out)!r}, {seeds}, {dict(settings)!r}, cluster='threads', workers=1)"
    )
    kill([sys.executable, "-c", code], begun)
    assert not (out / "study.html").exists()


def refused(
    name: str, out: Path, settings: Mapping[str, Any], kind: type[Exception], told: str
) -> None:
    """A study that is refused in words, before anything is made."""
    with pytest.raises(kind, match=told):
        carried_out(name, out, settings)
    assert not out.exists()
