"""Whether database and files agree, and what each model was made from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session, aliased

from ..fingerprint import fingerprint_file
from .catalog import Catalog, named_files
from .tables import Chip, Model, ModelTag, Run, Scene, SplitChip, Tag

_IDLE_S = 3600
"""Files that are not whole and younger than this may be downloads on their way."""


@dataclass
class Verified:
    """What was looked at and found."""

    counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """What is wrong: a file that is gone or changed, a row that names nothing."""
    left_over: list[str] = field(default_factory=list)
    """Files that nobody names, left by an interruption; harmless, and removed by `tidy`."""
    elsewhere: list[str] = field(default_factory=list)
    """Rasters and runs outside the catalog that are not where they were."""

    def text(self) -> str:
        """As told to a person."""
        lines = ["looked at  " + ", ".join(f"{n} {name}" for name, n in self.counts.items())]
        lines += [f"wrong      {problem}" for problem in self.problems]
        lines += [f"not there  {problem}" for problem in self.elsewhere]
        if self.left_over:
            lines.append(
                f"left over  {len(self.left_over)} files of interrupted additions, which nobody names; "
                "--tidy removes them"
            )
        if not self.problems:
            lines.append("Database and files agree.")
        return "\n".join(lines)

    def facts(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "agree": not self.problems,
            "counts": self.counts,
            "problems": self.problems,
            "left_over": self.left_over,
            "elsewhere": self.elsewhere,
        }


def verify(
    catalog: Catalog,
    tidy: bool = False,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> Verified:
    """Compare the database with the files, byte by byte, and rows with each other.

    `tidy` removes files that nobody names; it waits for those who are adding some.
    """
    found = Verified()
    if tidy:
        with catalog.tidying() as session:
            for name in _left_over(catalog, session):
                (catalog.files.path(name)).unlink(missing_ok=True)
            for path in catalog.files.begun(_IDLE_S):
                path.unlink(missing_ok=True)
    with catalog.reading() as session:
        for table in (Scene, Chip, Tag, Model, Run):
            found.counts[table.__tablename__] = (
                session.scalar(select(func.count()).select_from(table)) or 0
            )
        named = list(named_files(session))
        for done, (name, who) in enumerate(named, 1):
            if not catalog.files.holds(name):
                found.problems.append(f"{who}: its file {name} is gone")
            elif not catalog.files.sound(name):
                found.problems.append(f"{who}: its file {name} has been changed")
            tell(done, len(named))
        found.counts["files"] = len({name for name, _ in named})
        found.problems += [*_rows(session), *_cards(catalog, session)]
        found.elsewhere += _elsewhere(session)
        begun = (path.name for path in catalog.files.begun(_IDLE_S))
        found.left_over = [*_left_over(catalog, session), *begun]
    return found


def _left_over(catalog: Catalog, session: Session) -> list[str]:
    # By digest: the card of a model lies beside its weights under the same one.
    named = {name[:64] for name, _ in named_files(session)}
    return [name for name in catalog.files.names() if name[:64] not in named]


def _rows(session: Session) -> Iterator[str]:
    """What no foreign key can say."""
    later = aliased(Tag)
    query = select(Tag).where(Tag.label.is_(None), Tag.replaces.is_(None))
    yield from (f"tag {tag.id} takes nothing back" for tag in session.scalars(query))
    moved = select(later.id).join(Tag, later.replaces == Tag.id)
    moved = moved.where(
        (later.scene_id != Tag.scene_id)
        | (func.coalesce(later.chip_id, -1) != func.coalesce(Tag.chip_id, -1))
    )
    yield from (f"tag {number} corrects one of another place" for number in session.scalars(moved))
    parts = (
        select(ModelTag.model_id, ModelTag.tag_id)
        .join(Model, Model.id == ModelTag.model_id)
        .join(Tag, Tag.id == ModelTag.tag_id)
        .where(
            Model.split_id.is_not(None),
            ~exists().where(
                SplitChip.split_id == Model.split_id,
                SplitChip.chip_id == Tag.chip_id,
                SplitChip.part == ModelTag.part,
            ),
        )
    )
    for model, tag in session.execute(parts):
        yield f"model {model}: its tag {tag} is in another part of its split"


def _cards(catalog: Catalog, session: Session) -> Iterator[str]:
    for model in session.scalars(select(Model).order_by(Model.id)):
        if model.digest != model.content[:64]:
            yield f"model {model.id}: its weights are {model.content}, not {model.digest}"
        path = catalog.files.path(model.content).with_suffix(".json")
        try:
            same = json.loads(path.read_text(encoding="utf-8")) == model.card
        except (OSError, ValueError):
            same = False
        if not same:
            yield f"model {model.id}: its card {path.name} is gone or not the database's"


def _elsewhere(session: Session) -> Iterator[str]:
    query = select(Scene).where(Scene.kind == "raster", Scene.content.is_(None)).order_by(Scene.id)
    for scene in session.scalars(query):
        path = Path(str(scene.path))
        if not path.is_file():
            yield f"scene {scene.id}: {path} is gone; add it again from where it is now"
        elif fingerprint_file(path)["sampled_sha256"] != scene.digest:
            yield f"scene {scene.id}: {path} is another image now; its tags keep their own pixels"
    for run in session.scalars(select(Run).order_by(Run.id)):
        if not (Path(run.path) / "run.json").is_file():
            yield f"run {run.id}: {run.path} is gone"
