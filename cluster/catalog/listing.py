"""What a catalog holds, as rows for a terminal or for JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text
from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from .tables import Chip, Entry, LabelSet, Model, ModelTag, Review, Run, Scene, Tag, User

Row = dict[str, Any]


def print_table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows: a table on a terminal, plain aligned columns into a pipe."""
    if not rows:
        print(f"no {title}")
        return
    names = list(rows[0])
    cells = [[_cell(row[name]) for name in names] for row in rows]
    if sys.stdout.isatty():
        table = RichTable(*names)
        for row in cells:
            table.add_row(*map(Text, row))  # not markup: names of files are anybody's
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    for line in [names, *cells]:
        print("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip())


def printed(text: str) -> str:
    """A text without what would move a terminal's cursor or change its colours."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _scenes(session: Session, limit: int | None) -> list[Row]:
    from .tagging import current_tags

    tags = current_tags().subquery()
    counted = select(tags.c.scene_id, func.count().label("n")).group_by(tags.c.scene_id).subquery()
    query = (
        select(Scene, counted.c.n)
        .join(counted, counted.c.scene_id == Scene.id, isouter=True)
        .order_by(Scene.id)
        .limit(limit)
    )
    return [
        {
            "id": scene.id, "kind": scene.kind, "name": scene.name, "width": scene.width,
            "height": scene.height, "gsd_m": scene.gsd_m, "taken_at": _when(scene.taken_at),
            "town": scene.town, "event": scene.event, "before": scene.before_id, "tags": n or 0,
        }
        for scene, n in session.execute(query)
    ]  # fmt: skip


def _tags(session: Session, limit: int | None) -> list[Row]:
    from .tagging import current_tags

    query = current_tags().order_by(Tag.made_at.desc(), Tag.id).limit(limit)
    return [
        {
            "id": tag.id, "scene": tag.scene_id, "name": tag.scene.name,
            "place": "polygon" if tag.chip is None else f"{tag.chip.row} {tag.chip.col} {tag.chip.side}",
            "label": tag.label, "label_set": f"{tag.label_set.name}:{tag.label_set.version}",
            "user": tag.user.name, "made_at": _when(tag.made_at), "origin": tag.origin,
        }
        for tag in session.scalars(query)
    ]  # fmt: skip


def _chips(session: Session, limit: int | None) -> list[Row]:
    query = select(Chip).options(joinedload(Chip.scene)).order_by(Chip.id).limit(limit)
    return [
        {
            "id": chip.id, "scene": chip.scene_id, "name": chip.scene.name, "row": chip.row,
            "col": chip.col, "side": chip.side, "lon": chip.lon, "lat": chip.lat,
            "before": chip.before is not None, "pixels": chip.content[:12],
        }
        for chip in session.scalars(query)
    ]  # fmt: skip


def _models(session: Session, limit: int | None) -> list[Row]:
    learnt = select(ModelTag.model_id, func.count().label("n")).group_by(ModelTag.model_id)
    counted = learnt.subquery()
    query = (
        select(Model, counted.c.n, User.name)
        .join(User, User.id == Model.made_by)
        .join(counted, counted.c.model_id == Model.id, isouter=True)
        .order_by(Model.id)
        .limit(limit)
    )
    return [
        {
            "id": model.id, "method": model.method, "state": model.state, "tags": n or 0,
            "parent": model.parent_id, "digest": model.digest[:12], "by": by,
            "made_at": _when(model.made_at),
        }
        for model, n, by in session.execute(query)
    ]  # fmt: skip


def _runs(session: Session, limit: int | None) -> list[Row]:
    query = select(Run).order_by(Run.id).limit(limit)
    return [
        {
            "id": run.id, "run_id": run.run_id[:12], "method": run.method, "scene": run.scene_id,
            "before": run.before_id, "path": run.path,
        }
        for run in session.scalars(query)
    ]  # fmt: skip


def _reviews(session: Session, limit: int | None) -> list[Row]:
    query = select(Review).options(joinedload(Review.user))
    query = query.order_by(Review.made_at.desc(), Review.id).limit(limit)
    return [
        {
            "id": one.id, "run": one.run_id, "building_id": one.building_id, "number": one.number,
            "verdict": one.verdict, "predicted": one.predicted, "damage_class": one.damage_class,
            "user": one.user.name, "made_at": _when(one.made_at),
        }
        for one in session.scalars(query)
    ]  # fmt: skip


def _users(session: Session, limit: int | None) -> list[Row]:
    return [
        {
            "name": user.name, "role": user.role, "active": user.active,
            "can_log_in": user.active and user.password is not None, "made_at": _when(user.made_at),
        }
        for user in session.scalars(select(User).order_by(User.name).limit(limit))
    ]  # fmt: skip


def _labels(session: Session, limit: int | None) -> list[Row]:
    query = select(LabelSet).order_by(LabelSet.name, LabelSet.version).limit(limit)
    return [
        {
            "id": one.id, "name": one.name, "version": one.version,
            "labels": ", ".join(str(label["name"]) for label in one.labels),
        }
        for one in session.scalars(query)
    ]  # fmt: skip


def _audit(session: Session, limit: int | None) -> list[Row]:
    query = select(Entry, User.name).join(User, User.id == Entry.user_id, isouter=True)
    query = query.order_by(Entry.id.desc()).limit(limit)
    return [
        {
            "at": _when(one.at), "user": name, "action": one.action, "subject": one.subject,
            "details": one.details,
        }
        for one, name in session.execute(query)
    ]  # fmt: skip


LISTS: dict[str, Callable[[Session, int | None], list[Row]]] = {
    "scenes": _scenes,
    "tags": _tags,
    "chips": _chips,
    "models": _models,
    "runs": _runs,
    "reviews": _reviews,
    "users": _users,
    "labels": _labels,
    "audit": _audit,
}
"""What can be listed; tags, reviews and the audit trail newest first."""


def _when(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, dict):
        return printed(", ".join(f"{name}={one}" for name, one in value.items()))
    return printed(str(value))
