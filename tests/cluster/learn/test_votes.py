"""What a chip shows is what most of those who tagged it say."""

from __future__ import annotations

import uuid

from aftermap.cluster.catalog.labels import change_labels, names
from aftermap.cluster.catalog.tables import LabelSet
from aftermap.cluster.catalog.tagging import Said, add_tag
from aftermap.cluster.learn.votes import Votes, counted
from learn_town import Town


def _votes(town: Town) -> Votes:
    with town.catalog.reading() as session:
        return counted(session, "damage")


def test_the_majority_counts_and_ties_are_told(town: Town) -> None:
    cells = [(0, 0), (0, 1), (0, 2)]
    for name, labels in (
        ("ana", ("damage", "damage", "damage")),
        ("ben", ("damage", "no-damage", "cannot-tell")),
        ("cem", ("no-damage", "cannot-tell", "cannot-tell")),
    ):
        for cell, label in zip(cells, labels, strict=True):
            town.tag([cell], name, label)
    found = _votes(town)
    assert [(v.chip.col, v.damaged, len(v.tags)) for v in found.chips] == [
        (0, True, 3),
        (96, True, 1),
    ]
    assert len(found.ties) == 1
    assert (found.tags, found.people, found.silent, len(found.tagged)) == (4, 3, 0, 3)


def test_of_one_person_the_newest_tag_counts(town: Town) -> None:
    for label in ("damage", "no-damage"):
        town.tag([(1, 1)], "ana", label)
    town.tag([(1, 2)], "ana", "damage")
    town.tag([(1, 2)], "ana", "cannot-tell")
    found = _votes(town)
    assert [(v.damaged, len(v.tags)) for v in found.chips] == [(False, 1)]
    assert found.silent == 1


def test_tags_that_were_replaced_or_taken_back_do_not_count(plain: Town) -> None:
    ana = plain.user("ana")
    first, second = plain.tag([(2, 2), (2, 3)], "ana", "damage")
    for old, label in ((first, "no-damage"), (second, None)):
        said = Said(plain.labels.id, label, str(uuid.uuid4()), replaces=old)
        add_tag(plain.catalog, ana, said)
    found = _votes(plain)
    assert [v.damaged for v in found.chips] == [False]
    assert first not in found.chips[0].tags
    assert len(found.tagged) == 1


def test_all_versions_of_a_label_set_count_and_no_other_set(plain: Town) -> None:
    with plain.catalog.writing() as session:
        newer = change_labels(session, "damage", [*plain.labels.labels, {"name": "ruin", "damaged": True, "key": "4"}])  # fmt: skip
        other = session.query(LabelSet).filter_by(name="levels").one()
        levels = other.id
        assert "ruin" in names(newer)
    plain.tag([(3, 3)], "ana", "no-damage")
    ana = plain.user("ana")
    scene = plain.scene.id
    add_tag(plain.catalog, ana, Said(newer.id, "ruin", str(uuid.uuid4()), scene, (0, 0, 48)))
    add_tag(plain.catalog, ana, Said(levels, "destroyed", str(uuid.uuid4()), scene, (48, 0, 48)))
    found = _votes(plain)
    assert sorted(v.damaged for v in found.chips) == [False, True]
    assert found.labels.version == 2
    with plain.catalog.reading() as session:
        assert [v.damaged for v in counted(session, "levels").chips] == [True]


def test_polygons_are_counted_but_not_learnt_from(plain: Town) -> None:
    lon, lat = plain.scene.west, plain.scene.south
    assert lon is not None
    assert lat is not None
    ring = [[lon, lat], [lon + 0.001, lat], [lon + 0.001, lat + 0.001], [lon, lat]]
    said = Said(
        plain.labels.id,
        "damage",
        str(uuid.uuid4()),
        plain.scene.id,
        polygon={"type": "Polygon", "coordinates": [ring]},
    )
    add_tag(plain.catalog, plain.user("ana"), said)
    found = _votes(plain)
    assert (found.polygons, found.chips) == (1, ())
