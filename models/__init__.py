"""Networks, losses, metrics, checkpoints and training."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import losses, metrics
    from .registry import build

__all__ = ["build", "losses", "metrics"]


def __getattr__(name: str) -> Any:
    # Torch takes about two seconds to import: wait until somebody asks for something.
    if name == "build":
        return import_module(".registry", __name__).build
    if name in __all__:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
