"""Where tags of a file belong: which scene, and where in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry import mapping
from sqlalchemy import select
from sqlalchemy.orm import Session

from ....scenes.errors import Refused, UsageError
from ..tables import Scene
from ..tagging import check_square, polygon_in
from .found import Found, Problems, Shown
from .image_files import image_size
from .places import Square, box, moved, to_pixels, to_stored

_NEAR = 0.5
"""px; what the outline of a square may be off, after degrees were rounded, and still be it."""

_FAR = 1e7
"""px; no outline in an image is anywhere near as far from its corner."""

_UNKNOWN = 2**31 - 1
"""Side of an image that was not yet fetched, px."""


@dataclass(frozen=True, eq=False)
class Ground:
    """A scene, or an image that will be one."""

    scene: Scene
    """Of an image that is still to be added: its name and size, in no database."""
    row: int = 0
    col: int = 0
    """Where the file's image begins in it, px."""
    path: Path | None = None
    """The image that is still to be added."""
    before: Path | None = None


@dataclass(frozen=True, eq=False)
class Placed:
    """A tag that can be kept."""

    found: Found
    ground: Ground
    square: Square | None
    """px of the scene."""
    outline: shapely.Geometry | None
    """px of the scene."""

    def polygon(self, scene: Scene) -> dict[str, Any] | None:
        """Its outline as the catalog keeps it."""
        return None if self.outline is None else to_stored(scene, self.outline)


def placed(session: Session, tags: Iterable[Found], problems: Problems) -> Iterator[Placed]:
    """The tags that lie somewhere in an image that is known or came along; the others go to `problems`."""
    grounds: dict[Shown, Ground | str] = {}
    for found in tags:
        if found.image not in grounds:
            grounds[found.image] = _ground(session, found.image)
        ground = grounds[found.image]
        if isinstance(ground, str):
            problems.add(ground, f"{found.image.name[:80]!r} {found.where}")
            continue
        try:
            yield _placed(found, ground)
        except UsageError as error:
            problems.add(str(error).rstrip("."), found.where)


def _ground(session: Session, image: Shown) -> Ground | str:
    """The scene of an image by its digest, else the image that came along, else a scene of its name."""
    if not all(map(_storable, (image.scene, image.digest))):
        return "an image that is not there"
    row, col, _ = image.square or (0, 0, 0)
    if max(abs(row), abs(col)) > _FAR:
        return "an image that lies outside every scene"
    if image.digest:
        scene = session.scalars(select(Scene).where(Scene.digest == image.digest)).first()
        if scene is not None:
            return Ground(scene, row, col)
    if image.path is not None:
        return _new(image, image.path)
    named = list(session.scalars(select(Scene).where(Scene.name == image.scene).limit(2)))
    if len(named) != 1 or not image.scene:
        return "several images of one name" if named else "an image that is not there"
    scene = named[0]
    if image.square is None and image.size not in (None, (scene.height, scene.width)):
        return "an image of another size than the one of its name"
    return Ground(scene, row, col)


def _storable(text: str) -> bool:
    """Whether a database can look for a text: PostgreSQL knows no NUL, and none knows half a character."""
    return "\0" not in text and text.encode("utf-8", "replace").decode() == text


def _new(image: Shown, path: Path) -> Ground | str:
    try:
        height, width = image_size(path)
        before = None if image.before is None else image_size(image.before)
    except Refused:
        return "an unreadable image"
    if image.size not in (None, (height, width)):
        return "an image of another size than the file says"
    if before not in (None, (height, width)):
        return "an image of another size than the one before"
    scene = Scene(kind="photo", name=path.name, height=height, width=width)
    return Ground(scene, path=path, before=image.before)


def _placed(found: Found, ground: Ground) -> Placed:
    """Raises UsageError for a place that cannot be tagged."""
    scene, square, outline = ground.scene, found.square, found.outline
    if outline is not None:
        _check_near(outline, 360.0 if found.in_degrees else _FAR)
    if outline is not None and found.in_degrees:
        if scene.crs:
            outline = to_pixels(scene, outline)
            whole = square is not None and shapely.hausdorff_distance(outline, box(square)) < _NEAR
            square = square if whole else None
        elif square is None:
            raise UsageError(
                f"{scene.name} lies nowhere on the earth, and the outline is in degrees."
            )
    if square is not None:
        row, col, side = square
        square = row + ground.row, col + ground.col, side
        check_square(scene, square, (scene.height or _UNKNOWN, scene.width or _UNKNOWN))
        return Placed(found, ground, square, None)
    if outline is None:
        raise UsageError("there is no polygon and no square.")
    outline = moved(outline, ground.row, ground.col)
    stored = to_stored(scene, outline) if scene.crs else dict(mapping(outline))
    polygon_in(stored, scene)
    return Placed(found, ground, None, outline)


def _check_near(outline: shapely.Geometry, most: float) -> None:
    bounds = np.abs(outline.bounds)
    if not (np.isfinite(bounds).all() and bounds.max(initial=0) <= most):
        raise UsageError(
            f"an outline reaches further than {most:g} or has coordinates that are no numbers"
        )
