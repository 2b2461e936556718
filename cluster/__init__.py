"""Processes and the run itself: connecting to a cluster, and assessing a pair into a run folder."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import connect
    from .exports import export
    from .regions.plan import plan
    from .regions.region import run_region
    from .submission import submit

__all__ = ["connect", "export", "plan", "run_region", "submit"]

_WHERE = {
    "connect": ".client",
    "export": ".exports",
    "plan": ".regions.plan",
    "run_region": ".regions.region",
    "submit": ".submission",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: `distributed` and torch take seconds to import.
    if name in _WHERE:
        return getattr(import_module(_WHERE[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
