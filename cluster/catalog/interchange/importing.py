"""Tags into the catalog."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from ....scenes.errors import Refused, UsageError
from ...fingerprint import fingerprint_file
from ..catalog import Catalog, local_user, note, user_called
from ..imagery import add_images
from ..labels import PLAIN
from ..tables import LabelSet, Scene, User
from ..tag_batches import add_tags
from ..tagging import Said
from .formats import FORMATS, format_of
from .found import Problems
from .grounds import Placed, placed
from .marks import find_labels


@dataclass
class Imported:
    """What an import did."""

    format: str
    path: Path
    labels: str
    """Label set and version."""
    new: int = 0
    known: int = 0
    """Tags of this file that were there already."""
    images: int = 0
    """Images that were not in the catalog before."""
    left_out: list[str] = field(default_factory=list)
    """What could not be imported, with counts."""

    def text(self) -> str:
        """As told to a person."""
        lines = [
            f"{self.format:<10} {self.path}: {self.new} new tags, {self.known} known, {self.images} new "
            f"images; label set {self.labels}"
        ]
        return "\n".join([*lines, *(f"left out   {one}" for one in self.left_out)])

    def facts(self) -> dict[str, Any]:
        """Plain values."""
        return self.__dict__ | {"path": str(self.path)}


def import_tags(
    catalog: Catalog,
    source: Path,
    labels: str | None = None,
    name: str | None = None,
    partly: bool = False,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> Imported:
    """Take over the tags of a file or folder in one of `FORMATS`, and the images that come along.

    `labels` is the label set, by default the one that the file names, else `damage`; `name` is who
    is said to have made the tags, by default the one at the command line. Imported again, nothing
    is added. Raises Refused for a file that is none, and, unless `partly`, where anything in it cannot be
    imported, with what and how often; then nothing has been added.
    """
    source = Path(source).absolute()
    kind = format_of(source)
    reader = FORMATS[kind].read(source)
    problems = Problems()
    with catalog.reading() as session:
        chosen = find_labels(session, labels or reader.labels or PLAIN)
        tags = list(placed(session, reader.found(chosen, problems), problems))
    done = Imported(kind, source, f"{chosen.name} version {chosen.version}")
    done.left_out = problems.lines()
    if done.left_out and not partly:
        raise Refused(_told(source, done.left_out, chosen))
    by, user = _people(catalog, name)
    scenes = _with_images(catalog, tags, done, by)
    said = [_said(tag, scenes, chosen, source) for tag in tags]
    kept = add_tags(catalog, user, said, tell, by)
    done.new, done.known = kept.new, kept.known
    if kept.empty:
        done.left_out.append(f"{len(kept.empty)} × no data in a square, first {kept.empty[0]}")
    return done


def _told(source: Path, problems: list[str], labels: LabelSet) -> str:
    words = ", ".join(str(label["name"]) for label in labels.labels)
    return "\n".join(
        [
            f"{source} cannot be imported as it is; nothing was added:",
            *(f"  {problem}" for problem in problems),
            f"The label set {labels.name} has {words}; another one is chosen with --labels. Images are found "
            "once they are catalogued. With --partly the rest is imported.",
        ]
    )


def _with_images(
    catalog: Catalog, tags: Iterable[Placed], done: Imported, by: User
) -> dict[Path, Scene]:
    """The scenes of all images that came along; one without an image before gets the one that came along.

    Whether it was added now says nothing: an earlier import may have ended in between.
    """
    pairs = {tag.ground.path: tag.ground.before for tag in tags if tag.ground.path is not None}
    paths = [*pairs, *(before for before in pairs.values() if before is not None)]
    if not paths:
        return {}
    added = add_images(catalog, [str(path) for path in dict.fromkeys(paths)])
    done.images = len(added.new)
    with catalog.writing() as session:
        scenes = {path: _scene_of(session, path) for path in paths}
        for path, before in pairs.items():
            scene = scenes[path]
            if before is None or scene.before_id is not None or scenes[before].id == scene.id:
                continue
            scene.before_id = scenes[before].id
            note(session, by, "pair", f"scene {scene.id}", before=scene.before_id)
    return scenes


def _scene_of(session: Any, path: Path) -> Scene:
    with path.open("rb") as stream:
        whole = hashlib.file_digest(stream, "sha256").hexdigest()
    digests = [whole, str(fingerprint_file(path)["sampled_sha256"])]
    found = session.scalars(select(Scene).where(Scene.digest.in_(digests))).first()
    if found is None:
        raise Refused(f"{path} changed while it was added. Import again.")
    scene: Scene = found
    return scene


def _said(tag: Placed, scenes: dict[Path, Scene], labels: LabelSet, source: Path) -> Said:
    found, ground = tag.found, tag.ground
    scene = ground.scene if ground.path is None else scenes[ground.path]
    return Said(
        label_set=labels.id,
        label=found.label,
        id=found.id,
        scene=scene.id,
        square=tag.square,
        polygon=tag.polygon(scene),
        origin=source.name.encode("utf-8", "replace").decode()[:255],
        made_at=found.made_at,
    )


def _people(catalog: Catalog, name: str | None) -> tuple[User, User]:
    """Who imports, and who is said to have made the tags; one who is new here cannot log in."""
    with catalog.writing() as session:
        local = local_user(session)
        if name is None:
            return local, local
        found = session.scalars(select(User).where(User.name == name)).first()
        if found is None:
            if not re.fullmatch(r"[\w.@+-]{1,80}", name):
                raise UsageError(
                    f"{name[:80]!r} is no name: letters, digits, . @ + - and _, at most 80."
                )
            found = user_called(session, name, "tagger")
            note(session, local, "user", name, role=found.role)
        return local, found
