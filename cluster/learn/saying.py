"""What the model in use says of one square, while somebody looks at it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from ...scenes.errors import Refused
from ..catalog.catalog import Catalog
from ..catalog.labels import PLAIN, latest
from ..catalog.lineage import promoted, weights_of
from ..catalog.pixels import open_pixels
from ..catalog.tables import Model, Scene
from ..catalog.tagging import check_square
from .config import METHODS
from .pictures import Square, pixels_of

if TYPE_CHECKING:
    from ...kernels.scan_network import ScanKernel


@dataclass(frozen=True)
class Saying:
    """A score, and what it means."""

    model: int
    method: str
    score: float
    """Of damage, 0-1."""
    threshold: float
    """From which on it counts as damage."""
    label: str
    """Of the label set that the model learnt from, where that has one label for damage."""


def says(catalog: Catalog, scene_id: int, square: tuple[int, int, int]) -> Saying:
    """Score a square (first row, first column, side) of a scene, px; one of another side is resampled.

    Raises Refused where no model is in use and for a scene that is not there, UsageError for a square
    that could not be tagged.
    """
    with catalog.reading() as session:
        model = next(filter(None, (promoted(session, method) for method in METHODS)), None)
        if model is None:
            raise Refused("No model is in use yet. Learn one from tags with `aftermap learn`.")
        scene = session.get(Scene, scene_id)
        if scene is None:
            raise Refused(f"There is no scene number {scene_id}.")
        labels = _labels(session, model)
    kernel = _kernel(model.method, str(weights_of(catalog, model)))
    score = _score(catalog, scene, square, kernel)
    found = score >= kernel.threshold
    return Saying(model.id, model.method, score, kernel.threshold, labels[found])


def _score(
    catalog: Catalog, scene: Scene, place: tuple[int, int, int], kernel: ScanKernel
) -> float:
    import numpy as np

    pixels = open_pixels(catalog.files, scene)
    check_square(scene, place, pixels.shape)
    size = kernel.window.scan
    image = pixels_of(pixels, Square(scene.id, *place), size)[None]
    return float(kernel.scores(image, np.ones((1, size, size), bool))[0])


def _labels(session: Session, model: Model) -> dict[bool, str]:
    """What stands for damage and for none: the label of the set that a model learnt from, if it has one
    of the kind, else a plain word."""
    labels = latest(session, str(model.metrics.get("label_set", PLAIN))).labels
    found = {}
    for kind, word in ((True, "damage"), (False, "no-damage")):
        names = [str(one["name"]) for one in labels if one["damaged"] is kind]
        found[kind] = names[0] if len(names) == 1 else word
    return found


@lru_cache(maxsize=2)
def _kernel(method: str, weights: str) -> ScanKernel:
    """Read and checked once: a file of the catalog never changes."""
    from ...kernels.scan_network import scan_kernel

    return scan_kernel(method, weights)
