"""What the model in use says of one square, while somebody looks at it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from sqlalchemy.orm import Session

from ...models.photos.decode import squared
from ...scenes.errors import Refused
from ..catalog.catalog import Catalog
from ..catalog.labels import PLAIN, latest
from ..catalog.lineage import promoted, weights_of
from ..catalog.tables import Model, Scene
from ..catalog.tagging import Look, Square, square_of
from .config import METHODS

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


def says(
    catalog: Catalog, scene_id: int, square: tuple[int, int, int], look: Look = square_of
) -> Saying:
    """Score a square (first row, first column, side) of a scene, px; one of another side is resampled.

    The pixels are read by `look`. Raises Refused where no model is in use, for a scene that is not there
    and a square without data, UsageError for a square that could not be tagged.
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
    score = _score(look(catalog.files, scene, None, square), kernel)
    found = score >= kernel.threshold
    return Saying(model.id, model.method, score, kernel.threshold, labels[found])


def _score(square: Square, kernel: ScanKernel) -> float:
    size = kernel.window.scan
    with Image.open(io.BytesIO(square.post)) as image:
        pixels = squared(image, size)
    return float(kernel.scores(pixels[None], np.ones((1, size, size), bool))[0])


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
