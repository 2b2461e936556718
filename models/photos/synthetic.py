"""Photos cut from synthetic scenes: towns of which each has a light of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...scenes.errors import Refused, UsageError
from ...scenes.layer import NOT_ANALYSED

INTACT, DESTROYED = 1, 4
"""Codes of buildings without damage and of destroyed ones."""

_LEAST = 0.1
"""Share of a square that is destroyed buildings, or undamaged ones, from which it counts as such."""

_EXTENT = 1400.0
"""Side of a town, m, about."""

_BLOCK = 8
"""Squares along the side of what is rendered at once."""

_CLASSES = {False: "no_damage", True: "damage"}


@dataclass(frozen=True)
class PhotoRecipe:
    """What to cut. Raises UsageError where that is nothing."""

    towns: tuple[tuple[str, int], ...]
    """Names of the towns, and the seeds of their scenes."""
    intact: int = 100
    """Squares of each town that show undamaged buildings and no damage."""
    damaged: int = 100
    """Squares of each town that show destroyed buildings."""
    bare: bool = False
    """Whether squares without buildings show no damage, too; else they are passed over."""
    parts: tuple[tuple[str, float], ...] = ()
    """Parts of the data set, as folders, and their shares; of a town each is ground of its own."""
    side: int = 96
    """Of a photo, px."""
    gsd: float = 0.3
    """Pixel size, m."""

    def __post_init__(self) -> None:
        # Read back from JSON, pairs are lists.
        for name in ("towns", "parts"):
            object.__setattr__(self, name, tuple((a, b) for a, b in getattr(self, name)))
        if not self.towns or min(self.intact, self.damaged) < 1 or self.side < 8:
            raise UsageError(
                f"Synthetic photos need a town, a photo of each class and 8 px; asked for "
                f"{len(self.towns)} towns, {self.intact} and {self.damaged} photos of {self.side} px."
            )


def synthetic_photos(folder: str | os.PathLike[str], recipe: PhotoRecipe) -> Path:
    """Cut the photos of a recipe, unless they are there; the folder that `open_photos` reads.

    Squares of the images after the event that do not overlap: those of which a tenth or more are
    destroyed buildings show damage; those with as much of undamaged ones (`bare`: with any or none), and
    nothing damaged or hidden, show none. The same recipe gives the same files. The folder appears by rename. Raises
    Refused where a town has too few squares of a kind.
    """
    digest = hashlib.sha256(json.dumps(asdict(recipe)).encode()).hexdigest()[:10]
    target = Path(folder) / f"synthetic-{digest}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    begun = Path(tempfile.mkdtemp(dir=target.parent, prefix=".synthetic-"))
    try:
        for town, seed in recipe.towns:
            _write_town(begun / town, seed, recipe)
        begun.chmod(0o755)
        try:
            begun.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was quicker, with the same photos
                raise
    finally:
        shutil.rmtree(begun, ignore_errors=True)
    return target


def _write_town(folder: Path, seed: int, recipe: PhotoRecipe) -> None:
    wanted = {False: recipe.intact, True: recipe.damaged}
    found = dict.fromkeys(wanted, 0)
    for name, image, damaged in _squares(seed, recipe):
        if found[damaged] < wanted[damaged]:
            part = _part(recipe, found[damaged] / wanted[damaged])
            place = folder / part / _CLASSES[damaged]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(place / f"{name}.png")
            found[damaged] += 1
        if found == wanted:
            return
    raise Refused(
        f"The synthetic town of seed {seed} has {found[False]} squares without damage and "
        f"{found[True]} with; {recipe.intact} and {recipe.damaged} are wanted. Choose another seed."
    )


def _squares(seed: int, recipe: PhotoRecipe) -> Iterator[tuple[str, np.ndarray, bool]]:
    """Names, images and classes of a town's squares, from north to south block by block."""
    from ...scenes.synth import Synth, render

    side, reach = recipe.side, _BLOCK * recipe.side
    blocks = max(1, round(_EXTENT / (reach * recipe.gsd)))
    scene = Synth(size=blocks * reach, seed=seed, gsd=recipe.gsd)
    for top in range(0, blocks * reach, reach):
        for left in range(0, blocks * reach, reach):
            image = np.ascontiguousarray(render(scene, "post", top, left, reach, reach))
            codes = render(scene, "truth", top, left, reach, reach)
            for row in range(0, reach, side):
                for col in range(0, reach, side):
                    cut = np.s_[row : row + side, col : col + side]
                    damaged = _shows_damage(codes[cut], recipe.bare)
                    if damaged is not None:
                        name = f"{seed}-{top + row:05}-{left + col:05}"
                        yield name, image[:, *cut], damaged


def _shows_damage(codes: np.ndarray, bare: bool) -> bool | None:
    """Whether a square shows damage; None where it shows too little of either kind."""
    if (codes == NOT_ANALYSED).any():
        return None
    if (codes == DESTROYED).mean() >= _LEAST:
        return True
    if (codes > INTACT).any() or ((codes == INTACT).mean() < _LEAST and not bare):
        return None
    return False


def _part(recipe: PhotoRecipe, place: float) -> str:
    """The part that a square belongs to, by how many of its kind came before it, 0-1."""
    for name, share in recipe.parts:
        if place < share - 1e-9:
            return name
        place -= share
    return recipe.parts[-1][0] if recipe.parts else ""
