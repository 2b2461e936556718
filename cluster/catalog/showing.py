"""One thing of a catalog, with all that is known of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import func, inspect, select
from sqlalchemy.orm import Session

from ...scenes.errors import Refused, UsageError
from ...scenes.remote import RemoteFile
from .listing import printed
from .tables import Chip, Review, Run, Tag, User


def show(session: Session, what: str, which: str) -> dict[str, Any]:
    """A scene, tag, model or run as plain values; Refused where there is none of that number or name."""
    if what not in SHOWN:
        raise UsageError(f"{what!r} cannot be shown: {', '.join(SHOWN)}.")
    return SHOWN[what](session, which)


def told_facts(facts: Mapping[str, Any]) -> str:
    """Plain values as told to a person: a line each."""
    width = max(map(len, facts))
    lines = []
    for name, value in facts.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{name.ljust(width)}  {len(value)}")
            lines += ["  " + ", ".join(f"{k}={v}" for k, v in one.items()) for one in value]
        else:
            plain = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            lines.append(f"{name.ljust(width)}  {plain}")
    return printed("\n".join(lines))


def _scene(session: Session, which: str) -> dict[str, Any]:
    from .imagery import find_scene
    from .tagging import current_tags

    scene = find_scene(session, which)
    tags = current_tags().where(Tag.scene_id == scene.id).subquery()
    labels = session.execute(select(tags.c.label, func.count()).group_by(tags.c.label))
    by = session.get_one(User, scene.added_by).name
    # Of a signed address the signature is a secret.
    source = None if scene.source is None else RemoteFile.of(scene.source).url
    told = {"source": source, "added_by": by, "tags": {str(label): n for label, n in labels}}
    return _columns(scene) | told


def _tag(session: Session, which: str) -> dict[str, Any]:
    tag = session.get(Tag, which)
    if tag is None:
        raise Refused(f"There is no tag {which[:60]!r}. `aftermap catalog list tags` shows all.")
    history, one = [], tag
    while (later := session.scalars(select(Tag).where(Tag.replaces == one.id)).first()) is not None:
        history.append(_said(later))
        one = later
    one = tag
    while one.replaces is not None:
        one = session.get_one(Tag, one.replaces)
        history.append(_said(one))
    chip = None if tag.chip is None else _chip(tag.chip)
    return _said(tag) | {
        "scene": {"id": tag.scene_id, "name": tag.scene.name},
        "chip": chip,
        "polygon": tag.polygon,
        "label_set": f"{tag.label_set.name}:{tag.label_set.version}",
        "origin": tag.origin,
        "history": sorted(history, key=lambda said: str(said["made_at"])),
    }


def _model(session: Session, which: str) -> dict[str, Any]:
    from .lineage import find_model, trace

    return trace(session, find_model(session, which))


def _run(session: Session, which: str) -> dict[str, Any]:
    from .runs import standing_reviews

    query = select(Run).where((Run.run_id == which) | (Run.path == which))
    run = session.get(Run, int(which)) if which.isdigit() else session.scalars(query).first()
    if run is None:
        raise Refused(f"There is no run {which[:60]!r}. `aftermap catalog list runs` shows all.")
    standing = standing_reviews(run.id).subquery()
    counts = session.execute(select(standing.c.verdict, func.count()).group_by(standing.c.verdict))
    said = session.scalar(select(func.count()).where(Review.run_id == run.id)) or 0
    by = session.get_one(User, run.added_by).name
    reviews = {str(verdict): n for verdict, n in counts}
    return _columns(run) | {"added_by": by, "standing": reviews, "reviews": said}


SHOWN: dict[str, Callable[[Session, str], dict[str, Any]]] = {
    "scene": _scene,
    "tag": _tag,
    "model": _model,
    "run": _run,
}
"""What can be shown."""


def _said(tag: Tag) -> dict[str, Any]:
    return {
        "id": tag.id,
        "label": tag.label,
        "user": tag.user.name,
        "made_at": tag.made_at.isoformat(),
        "replaces": tag.replaces,
    }


def _chip(chip: Chip) -> dict[str, Any]:
    square = [chip.row, chip.col, chip.side]
    return {"id": chip.id, "square": square, "pixels": chip.content, "before": chip.before}


def _columns(row: Any) -> dict[str, Any]:
    """All columns of a row as JSON has them."""
    values = {column.key: getattr(row, column.key) for column in inspect(type(row)).columns}
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in values.items()
    }
