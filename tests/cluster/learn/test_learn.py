"""A model from tags: how right it is, what it is made from, when it comes into use, what to tag next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from aftermap.cluster.catalog.imagery import add_images
from aftermap.cluster.catalog.lineage import promote, promoted, trace, weights_of
from aftermap.cluster.catalog.tables import Chip, Model, ModelTag, Scene, SplitChip, Suggestion, Tag
from aftermap.cluster.catalog.verify import verify
from aftermap.cluster.learn.config import LearnConfig
from aftermap.cluster.learn.figures import Figures
from aftermap.cluster.learn.learn import _better, learn
from aftermap.models.checkpoint import load
from aftermap.models.photos.decode import squared
from aftermap.scenes.errors import Refused
from learn_town import SIDE, Town
from photos_made import put, rubble
from PIL import Image
from rasters import texture, write_raster
from sqlalchemy import func, select

Quick = Callable[..., LearnConfig]


def test_a_model_knows_what_it_was_made_from_and_what_to_tag_next(town: Town, quick: Quick) -> None:
    town.tag(town.cells(110))
    told: list[float] = []
    found = learn(town.catalog, quick(), town.user("ana"), lambda done, words: told.append(done))
    assert (found.new, found.promoted) == (True, True)
    assert found.figures is not None
    assert found.figures.auc > 0.95
    assert found.figures.f1 > 0.85
    assert told == sorted(told)
    assert told[-1] == 1.0
    with town.catalog.reading() as session:
        model = session.get_one(Model, found.model)
        learnt = trace(session, model)["learnt"]
        parts = {one["part"] for one in learnt}
        assert parts == {"train", "test"}
        assert len(learnt) + found.tags.counts["buffer"][0] == 110
        assert model.metrics["test"] == found.figures.to_dict()
        assert model.made_by == town.user("ana").id
        _, card = load(weights_of(town.catalog, model), method="inception-window")
        assert card.nominal_resolution == pytest.approx(0.5, rel=0.01)
        rows = list(session.scalars(select(Suggestion).order_by(Suggestion.id)))
        assert [(r.row, r.col, r.reason, r.score) for r in rows] == [
            (s.square.row, s.square.col, s.reason, s.score) for s in found.suggestions
        ]
        assert {row.model_id for row in rows} == {model.id}
        tagged = {tuple(row) for row in session.execute(select(Chip.row, Chip.col))}
    assert not tagged & {(row.row, row.col) for row in rows}
    assert {row.reason for row in rows} == {"uncertain", "diverse", "disagreement", "audit"}
    assert verify(town.catalog).problems == []

    again = learn(town.catalog, quick(), town.user("ana"))
    assert (again.model, again.new, again.digest) == (found.model, False, found.digest)
    assert again.in_use == (found.model, found.figures)
    with town.catalog.reading() as session:
        assert session.scalar(select(func.count()).select_from(Suggestion)) == len(
            again.suggestions
        )
        assert promoted(session, "inception-window").id == found.model  # type: ignore[union-attr]


def test_what_is_tested_on_teaches_nothing(plain: Town, quick: Quick) -> None:
    tags = plain.tag(plain.cells(110))
    first = learn(plain.catalog, quick(promote="never"))
    with plain.catalog.writing() as session:
        query = select(Tag).join(ModelTag, ModelTag.tag_id == Tag.id).where(ModelTag.part == "test")
        for tag in session.scalars(query.where(Tag.id.in_(tags))):
            tag.label = "damage" if tag.label == "no-damage" else "no-damage"
    second = learn(plain.catalog, quick(promote="never"))
    assert second.digest == first.digest
    assert first.figures is not None
    assert second.figures is not None
    assert second.figures.threshold == first.figures.threshold
    assert second.figures.auc == pytest.approx(1 - first.figures.auc)
    assert not second.promoted


def test_chips_never_change_their_part(plain: Town, quick: Quick) -> None:
    plain.tag(plain.cells(110))
    learn(plain.catalog, quick())
    with plain.catalog.reading() as session:
        before = dict(
            tuple(row) for row in session.execute(select(SplitChip.chip_id, SplitChip.part))
        )
    plain.tag(plain.cells(160)[110:])
    learn(plain.catalog, quick(held_out=0.1))
    with plain.catalog.reading() as session:
        after = dict(
            tuple(row) for row in session.execute(select(SplitChip.chip_id, SplitChip.part))
        )
    assert len(after) == 160
    assert before.items() <= after.items()


def test_the_scene_is_not_needed_to_learn_again(plain: Town, quick: Quick) -> None:
    plain.tag(plain.cells(110))
    first = learn(plain.catalog, quick())
    plain.file.unlink()
    second = learn(plain.catalog, quick())
    assert second.digest == first.digest
    assert second.suggestions == []
    assert any("town.tif is not where it was" in reason for reason in second.left_out)


def test_too_few_tags_are_refused_but_squares_are_suggested(plain: Town, quick: Quick) -> None:
    with pytest.raises(Refused, match=r"Nobody has tagged squares with the label set 'damage'"):
        learn(plain.catalog, quick())
    plain.tag(plain.cells(12))
    with pytest.raises(
        Refused, match=r"too few tagged squares: \d+ to learn from \(\d+ with damage"
    ):
        learn(plain.catalog, quick(), dry_run=True)
    with plain.catalog.reading() as session:
        assert session.scalars(select(Suggestion)).first() is None
    with pytest.raises(Refused, match=r"5 of each kind .* 20 squares to tag next are suggested"):
        learn(plain.catalog, quick())
    with plain.catalog.reading() as session:
        rows = list(session.scalars(select(Suggestion)))
        assert {(row.score, row.model_id) for row in rows} == {(None, None)}
        assert {row.reason for row in rows} == {"diverse", "audit"}
        assert session.scalars(select(Model)).first() is None
        assert session.scalars(select(SplitChip)).first() is None
    with pytest.raises(Refused, match=r"no label set 'houses'. There is damage, levels"):
        learn(plain.catalog, quick(label_set="houses"))


def test_a_dry_run_writes_nothing(plain: Town, quick: Quick) -> None:
    plain.tag(plain.cells(110))
    found = learn(plain.catalog, quick(), dry_run=True)
    assert found.model is None
    assert "Nothing was learnt or written" in found.text()
    with plain.catalog.reading() as session:
        for table in (Model, SplitChip, Suggestion):
            assert session.scalars(select(table)).first() is None
    assert not (plain.catalog.folder / "cache").exists()


def test_photos_and_squares_with_data_are_suggested_and_nothing_else(
    plain: Town, quick: Quick, tmp_path: Path
) -> None:
    half = texture(480, 480, seed=3)
    half[:, :, 240:] = 0
    place = {"nodata": 0, "transform": plain_transform(10_000)}
    after = write_raster(tmp_path / "half.tif", half, **place)  # type: ignore[arg-type]
    before = write_raster(tmp_path / "before.tif", texture(480, 480, seed=4), **place)  # type: ignore[arg-type]
    coarse = write_raster(
        tmp_path / "coarse.tif", texture(200, 200, seed=5), transform=plain_transform(30_000, 8.0)
    )
    photo = put(tmp_path / "photo.png", rubble(300, 9)[:, :200])
    scenes = add_images(plain.catalog, [str(p) for p in (after, before, coarse, photo)]).new
    with plain.catalog.writing() as session:
        session.get_one(Scene, scenes[0].id).before_id = scenes[1].id
    plain.tag(plain.cells(110))
    found = learn(plain.catalog, quick(candidates=200, count=400))
    by_scene = {scene.id: [] for scene in (*scenes, plain.scene)}
    for one in found.suggestions:
        by_scene[one.square.scene].append(one.square)
    assert len(by_scene[plain.scene.id]) == 200
    assert len(by_scene[scenes[0].id]) == 50
    assert max(square.col for square in by_scene[scenes[0].id]) < 240
    assert by_scene[scenes[1].id] == []
    assert by_scene[scenes[2].id] == []
    assert any("coarse.tif has pixels of 8" in reason for reason in found.left_out)
    (square,) = by_scene[scenes[3].id]
    assert (square.row, square.col, square.side) == (0, 50, 200)
    # The same squares again, but for those that were tagged since.
    plain.tag([(s.row // SIDE, s.col // SIDE) for s in by_scene[plain.scene.id][:10]])
    again = learn(plain.catalog, quick(candidates=200, count=400))
    kept = [s.square for s in again.suggestions if s.square.scene == plain.scene.id]
    assert len(kept) == 200
    assert set(by_scene[plain.scene.id][10:]) < set(kept)


def plain_transform(east: float, gsd: float = 0.5) -> object:
    """Of a raster away from the town."""
    from affine import Affine

    return Affine(gsd, 0, 300_000 + east, 0, -gsd, 4_100_000)


def test_the_backbone_of_the_model_in_use_goes_on(plain: Town, quick: Quick) -> None:
    plain.tag(plain.cells(110))
    first = learn(plain.catalog, quick(backbone="test_efficientnet"))
    plain.tag(plain.cells(130)[110:])
    second = learn(plain.catalog, quick(backbone=None))
    assert second.begins.startswith(f"test_efficientnet of model {first.model}")
    with plain.catalog.reading() as session:
        model = session.get_one(Model, second.model)
        assert model.parent_id == first.model
        networks = [
            load(weights_of(plain.catalog, session.get_one(Model, n)))[0]
            for n in (first.model, second.model)
        ]
    one, other = (network.state_dict() for network in networks)
    assert all(bool((one[k] == other[k]).all()) for k in one if k.startswith("encoder."))
    assert not bool((one["head.weight"] == other["head.weight"]).all())


def test_scores_are_those_of_the_kept_chips(plain: Town, quick: Quick) -> None:
    import torch
    from aftermap.models.batches import normalised

    plain.tag(plain.cells(110))
    found = learn(plain.catalog, quick())
    with plain.catalog.reading() as session:
        network, card = load(weights_of(plain.catalog, session.get_one(Model, found.model)))
        rows = session.execute(
            select(Chip, Tag.label)
            .join(Tag, Tag.chip_id == Chip.id)
            .join(ModelTag, ModelTag.tag_id == Tag.id)
            .where(ModelTag.part == "test")
        ).all()
    scores = []
    for chip, _ in rows:
        with Image.open(plain.catalog.files.path(chip.content)) as image:
            pixels = torch.from_numpy(squared(image.convert("RGB"), SIDE))[None]
        with torch.inference_mode():
            scores.append(float(network.scores(normalised(pixels, card.mean, card.std))[0]))
    truth = np.array([label == "damage" for _, label in rows])
    expected = Figures.of(np.array(scores), truth, card.threshold)
    assert found.figures is not None
    assert expected.auc == pytest.approx(found.figures.auc)
    assert expected.f1 == pytest.approx(found.figures.f1)


@pytest.mark.parametrize(
    ("rule", "mine", "other", "expected"),
    [
        ("if-better", 0.8, None, (True, "none was in use")),
        ("if-better", 0.5, None, (False, "no better than chance")),
        ("if-better", 0.8, 0.7, (True, "above the 0.700 of model 3")),
        ("if-better", 0.8, 0.8, (False, "not above the 0.800 of model 3")),
        ("always", 0.3, 0.9, (True, "--promote always")),
        ("never", 0.9, 0.3, (False, "--promote never")),
    ],
)
def test_a_model_comes_into_use_where_it_is_better(
    rule: str, mine: float, other: float | None, expected: tuple[bool, str]
) -> None:
    def figures(area: float) -> Figures:
        return Figures(10, 5, 0.5, area, area, 0.5, 0.5, 0.5)

    yes, why = _better(rule, figures(mine), None if other is None else (3, figures(other)))
    assert (yes, expected[1] in why) == (expected[0], True)


def test_a_model_that_was_not_compared_with_what_is_in_use_stays_a_candidate(
    town: Town, quick: Quick
) -> None:
    town.tag(town.cells(110))
    first = learn(town.catalog, quick(promote="never"))
    town.tag(town.cells(130)[110:])
    changed = threading.Event()

    def by_hand() -> None:
        with town.catalog.writing() as session:
            promote(session, session.get_one(Model, first.model), None)
            session.flush()
            changed.set()
            # On PostgreSQL the learning comes to its decision before this is over.
            time.sleep(1.0)

    with ThreadPoolExecutor(1) as somebody:

        def tell(done: float, words: str) -> None:
            if words == "learning":
                somebody.submit(by_hand)
                assert changed.wait(10)

        second = learn(town.catalog, quick(), tell=tell)
    assert second.in_use is None
    assert second.figures is not None
    assert second.figures.auc > 0.9  # else it would be no better than chance, and stay one anyway
    assert not second.promoted
    assert f"now model {first.model} is" in second.why
    with town.catalog.reading() as session:
        assert promoted(session, "inception-window").id == first.model  # type: ignore[union-attr]
        assert session.get_one(Model, second.model).state == "candidate"


def test_a_model_that_came_into_use_while_it_was_learnt_again_is_in_use(
    plain: Town, quick: Quick
) -> None:
    plain.tag(plain.cells(110))
    first = learn(plain.catalog, quick(promote="never"))

    def tell(done: float, words: str) -> None:
        if words == "learning":
            with plain.catalog.writing() as session:
                promote(session, session.get_one(Model, first.model), None)

    again = learn(plain.catalog, quick(), tell=tell)
    assert (again.model, again.promoted, again.why) == (first.model, True, "it is in use already")
    assert "also decide what comes into use" in again.text()
