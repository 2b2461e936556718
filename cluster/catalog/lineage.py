"""Models in the catalog: each knows the exact chips that made it, and what was said of them then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, joinedload

from ...scenes.errors import Refused
from .catalog import Catalog, local_user, note
from .tables import Chip, Model, ModelTag, Scene, Split, Tag, User


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Where weights come from; empty for those that were made elsewhere."""

    parent: int | None = None
    """The model that they began with."""
    split: int | None = None
    learnt: Mapping[str, str] | None = None
    """Tags, and the part that each was in."""
    metrics: Mapping[str, Any] | None = None


def add_model(
    catalog: Catalog, weights: Path, lineage: Lineage | None = None, by: User | None = None
) -> tuple[Model, bool]:
    """Keep a copy of weights and their card, with what they were made from; and whether it is new.

    The same weights are one model, of the first lineage that was told. Raises Refused for what is no
    sound pair of weights and card.
    """
    from ...models.checkpoint import check_file, read_card  # takes torch's seconds

    lineage = lineage or Lineage()
    check_file(weights, weights)
    card = read_card(weights)
    facts = json.loads(card.to_json())
    with catalog.adding() as (session, adding):
        with weights.open("rb") as stream:
            content = adding.put(stream, "safetensors")
        known = session.scalars(select(Model).where(Model.digest == content[:64])).first()
        if known is not None:
            return known, False
        adding.put_card(content, card.to_json())
        user = by or local_user(session)
        model = Model(
            digest=content[:64], method=card.method, content=content, card=facts, made_by=user.id,
            parent_id=lineage.parent, split_id=lineage.split, metrics=dict(lineage.metrics or {}),
        )  # fmt: skip
        session.add(model)
        session.flush()
        session.add_all(
            ModelTag(model_id=model.id, tag_id=tag, part=part)
            for tag, part in sorted((lineage.learnt or {}).items())
        )
        note(session, user, "add", f"model {model.id}", method=card.method, digest=model.digest)
        return model, True


def weights_of(catalog: Catalog, model: Model) -> Path:
    """The file of a model, for `--weights`; Refused where it is gone."""
    path = catalog.files.path(model.content)
    if not path.is_file():
        raise Refused(f"The weights of model {model.id} are gone: there is no {path}.")
    return path


def find_model(session: Session, wanted: str) -> Model:
    """The model of a number or the beginning of a digest; Refused where there is none, or more than one."""
    if wanted.isdigit() and (found := session.get(Model, int(wanted))) is not None:
        return found
    query = select(Model).where(Model.digest.startswith(wanted, autoescape=True)).limit(2)
    models = list(session.scalars(query)) if len(wanted) >= 6 else []
    if len(models) != 1:
        raise Refused(
            f"There is no one model {wanted!r}. `aftermap catalog list models` shows all."
        )
    return models[0]


def promoted(session: Session, method: str) -> Model | None:
    """The model of a method that is in use."""
    return session.scalars(
        select(Model).where(Model.method == method, Model.state == "promoted")
    ).first()


def hold_models(session: Session, method: str) -> None:
    """Have nobody else put a model of a method in use until this transaction ends.

    What was read of them before is read again: it may have waited for somebody who has just done so.
    """
    query = select(Model).where(Model.method == method).order_by(Model.id)
    session.scalars(query.with_for_update().execution_options(populate_existing=True)).all()


def promote(session: Session, model: Model, by: User | None) -> None:
    """Put a model in use; the one before it is retired."""
    hold_models(session, model.method)
    session.execute(
        update(Model)
        .where(Model.method == model.method, Model.state == "promoted", Model.id != model.id)
        .values(state="retired")
    )
    model.state = "promoted"
    note(session, by, "promote", f"model {model.id}")


def trace(session: Session, model: Model) -> dict[str, Any]:
    """A model and all that it was made from, as plain values."""
    rows = session.execute(
        select(ModelTag.part, Tag, Chip, Scene)
        .join(Tag, Tag.id == ModelTag.tag_id)
        .join(Chip, Chip.id == Tag.chip_id, isouter=True)
        .join(Scene, Scene.id == Tag.scene_id)
        .where(ModelTag.model_id == model.id)
        .order_by(Tag.id)
        .options(joinedload(Tag.user))
    ).all()
    split = None if model.split_id is None else session.get_one(Split, model.split_id).name
    return {
        "model": model.id,
        "digest": model.digest,
        "method": model.method,
        "state": model.state,
        "made_at": model.made_at.isoformat(),
        "parent": model.parent_id,
        "split": split,
        "metrics": model.metrics,
        "scenes": sorted({scene.digest for *_, scene in rows}),
        "learnt": [
            {
                "tag": tag.id,
                "part": part,
                "label": tag.label,
                "by": tag.user.name,
                "scene": scene.id,
                "chip": None if chip is None else chip.content[:64],
                "square": None if chip is None else [chip.row, chip.col, chip.side],
            }
            for part, tag, chip, scene in rows
        ],
    }


def made_from(session: Session, chip: Chip) -> list[int]:
    """The numbers of all models that learnt from a chip or were examined on it."""
    query = (
        select(ModelTag.model_id)
        .join(Tag, Tag.id == ModelTag.tag_id)
        .where(Tag.chip_id == chip.id)
        .group_by(ModelTag.model_id)
        .order_by(func.min(ModelTag.model_id))
    )
    return list(session.scalars(query))
