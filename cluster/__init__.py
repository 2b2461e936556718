"""Processes and the run itself: connecting to a cluster, and assessing a pair into a run folder."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import connect

__all__ = ["connect"]


def __getattr__(name: str) -> Any:
    # Loaded when asked for: `distributed` and torch take seconds to import.
    if name == "connect":
        from .client import connect

        return connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
