"""Every model is traced to the chips that made it, and back."""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from pathlib import Path

import pytest
from aftermap.cluster.catalog.catalog import Catalog, local_user
from aftermap.cluster.catalog.lineage import (
    Lineage,
    add_model,
    find_model,
    made_from,
    promote,
    promoted,
    trace,
    weights_of,
)
from aftermap.cluster.catalog.tables import Chip, LabelSet, Model, Scene, Split, SplitChip, User
from aftermap.cluster.catalog.tagging import Said, add_tag
from aftermap.cluster.catalog.verify import verify
from aftermap.models.checkpoint import bundled, load
from aftermap.scenes.errors import Refused
from sqlalchemy import select


def _weights() -> Path:
    path = bundled("fc-siam-diff")
    assert path is not None
    return path


def test_a_model_is_traced_to_its_chips_and_back(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet
) -> None:
    tags = [
        add_tag(catalog, ana, Said(labels.id, label, str(uuid.uuid4()), scene.id, (0, k, 32)))
        for k, label in enumerate(["damage", "no-damage", "damage"])
    ]
    with catalog.writing() as session:
        split = Split(name="main")
        session.add(split)
        session.flush()
        for tag, part in zip(tags, ("train", "train", "test"), strict=True):
            session.add(SplitChip(split_id=split.id, chip_id=tag.chip_id, part=part))
    learnt = dict(zip([t.id for t in tags], ("train", "train", "test"), strict=True))
    model, new = add_model(
        catalog, _weights(), Lineage(split=split.id, learnt=learnt, metrics={"auc": 0.9}), ana
    )
    assert new
    with catalog.reading() as session:
        found = trace(session, session.get_one(Model, model.id))
        assert {one["tag"]: one["part"] for one in found["learnt"]} == learnt
        assert {one["label"] for one in found["learnt"]} == {"damage", "no-damage"}
        assert (found["scenes"], found["split"]) == ([scene.digest], "main")
        assert made_from(session, session.get_one(Chip, tags[0].chip_id)) == [model.id]
    assert verify(catalog).problems == []
    with catalog.writing() as session:
        session.get_one(SplitChip, (split.id, tags[2].chip_id)).part = "train"
    assert verify(catalog).problems == [
        f"model {model.id}: its tag {tags[2].id} is in another part of its split"
    ]


def test_the_weights_can_be_used_from_the_catalog(catalog: Catalog) -> None:
    model, _ = add_model(catalog, _weights())
    _, card = load(weights_of(catalog, model))
    assert card.method == "fc-siam-diff"
    assert add_model(catalog, _weights())[1] is False


def test_a_card_that_was_changed_is_found(catalog: Catalog) -> None:
    model, _ = add_model(catalog, _weights())
    card = weights_of(catalog, model).with_suffix(".json")
    card.write_text(card.read_text().replace('"fc-siam-diff"', '"fc-ef"'))
    assert "its card" in verify(catalog).problems[0]


def test_weights_without_their_card_are_refused(catalog: Catalog, tmp_path: Path) -> None:
    shutil.copy(_weights(), tmp_path / "w.safetensors")
    with pytest.raises(Refused, match="has no card"):
        add_model(catalog, tmp_path / "w.safetensors")
    assert list(catalog.files.names()) == []


def test_one_model_of_a_method_is_in_use(catalog: Catalog) -> None:
    model, _ = add_model(catalog, _weights())
    with catalog.writing() as session:
        assert promoted(session, "fc-siam-diff") is None
        promote(session, session.get_one(Model, model.id), None)
    with catalog.reading() as session:
        assert promoted(session, "fc-siam-diff").id == model.id
        assert find_model(session, model.digest[:12]).id == model.id
        with pytest.raises(Refused, match="no one model"):
            find_model(session, "abc")


def test_of_two_that_are_put_in_use_at_once_one_is(catalog: Catalog) -> None:
    with catalog.writing() as session:
        user = local_user(session)
        models = [
            Model(digest=f"{k:064x}", method="m", content=f"{k:064x}.x", card={}, made_by=user.id)
            for k in range(2)
        ]
        session.add_all(models)
    failures = []

    def promote_other() -> None:
        try:
            with catalog.writing() as session:
                promote(session, session.get_one(Model, models[1].id), None)
        except Exception as error:
            failures.append(error)

    other = threading.Thread(target=promote_other)
    with catalog.writing() as session:
        promote(session, session.get_one(Model, models[0].id), None)
        session.flush()
        other.start()
        time.sleep(0.3)
    other.join()
    assert failures == []
    with catalog.reading() as session:
        states = session.execute(select(Model.id, Model.state).order_by(Model.id)).all()
    assert [tuple(row) for row in states] == [(models[0].id, "retired"), (models[1].id, "promoted")]
