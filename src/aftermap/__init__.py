"""aftermap: from gigapixel before/after images of a disaster to a damage map."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import cluster, kernels, models, scenes
    from .cluster.assess import assess
    from .cluster.run import Run
    from .kernels.methods import load_method, predict
    from .scenes.open import open_pair, open_scene

__version__ = "0.1.0"

_WHERE = {
    "open_pair": ".scenes.open",
    "open_scene": ".scenes.open",
    "load_method": ".kernels.methods",
    "predict": ".kernels.methods",
    "assess": ".cluster.assess",
    "Run": ".cluster.run",
}
_ROOMS = ("scenes", "models", "kernels", "cluster")

__all__ = [
    "Run",
    "assess",
    "cluster",
    "kernels",
    "load_method",
    "models",
    "open_pair",
    "open_scene",
    "predict",
    "scenes",
]


def __getattr__(name: str) -> Any:
    # Loaded when asked for: `import aftermap` must not cost the seconds that torch takes.
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    if name in _WHERE:
        return getattr(import_module(_WHERE[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
