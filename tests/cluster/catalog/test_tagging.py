"""Tags: kept once, with their pixels; corrected and taken back by one person at a time."""

from __future__ import annotations

import io
import threading
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.labels import latest
from aftermap.cluster.catalog.tables import Chip, LabelSet, Scene, Tag, User
from aftermap.cluster.catalog.tagging import Outrun, Said, add_tag, current_tags
from aftermap.scenes.errors import AftermapError, UsageError
from PIL import Image
from rasters import texture
from sqlalchemy import func, select


def _said(labels: LabelSet, scene: Scene, **more: object) -> Said:
    plain: dict[str, object] = {"label": "damage", "square": (10, 20, 64)} | more
    return Said(label_set=labels.id, id=str(uuid.uuid4()), scene=scene.id, **plain)  # type: ignore[arg-type]


def _ground(scene: Scene, tip: float = 0.5) -> dict[str, Any]:
    """A triangle in degrees, whose tip lies at a share of the scene's height and width."""
    west, south, east, north = scene.west, scene.south, scene.east, scene.north
    middle = [west + tip * (east - west), south + tip * (north - south)]
    ring = [[west, south], [east, south], middle, [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def _current(catalog: Catalog) -> list[Tag]:
    with catalog.reading() as session:
        return list(session.scalars(current_tags()))


def test_a_tag_keeps_the_pixels_that_were_seen(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet, raster: Path
) -> None:
    tag = add_tag(catalog, ana, _said(labels, scene))
    raster.unlink()
    with catalog.reading() as session:
        chip = session.get_one(Chip, tag.chip_id)
    pixels = np.asarray(Image.open(io.BytesIO(catalog.files.read(chip.content))))
    np.testing.assert_array_equal(pixels.transpose(2, 0, 1), texture(300, 400)[:, 10:74, 20:84])
    assert tag.user.name == "ana"
    assert scene.west < chip.lon < scene.east
    assert scene.south < chip.lat < scene.north


def test_sent_twice_it_is_one_tag(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet
) -> None:
    said = _said(labels, scene)
    assert add_tag(catalog, ana, said).id == add_tag(catalog, ana, said).id
    assert len(_current(catalog)) == 1
    with catalog.reading() as session:
        levels = latest(session, "levels")
    other: list[dict[str, Any]] = [
        {"label": "no-damage"},
        {"square": (11, 20, 64)},
        {"scene": scene.id + 1},
        {"square": None, "polygon": _ground(scene)},
        {"label_set": levels.id},
    ]
    for more in other:
        with pytest.raises(UsageError, match="says something else"):
            add_tag(catalog, ana, replace(said, **more))


def test_a_correction_replaces_and_keeps_what_was_said(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet
) -> None:
    first = add_tag(catalog, ana, _said(labels, scene))
    second = add_tag(
        catalog, ana, _said(labels, scene, label="no-damage", square=None, replaces=first.id)
    )
    assert [(t.id, t.label, t.chip_id) for t in _current(catalog)] == [
        (second.id, "no-damage", first.chip_id)
    ]
    add_tag(catalog, ana, _said(labels, scene, label=None, square=None, replaces=second.id))
    assert _current(catalog) == []
    with catalog.reading() as session:
        assert session.scalar(select(func.count()).select_from(Tag)) == 3


def test_of_two_who_correct_the_same_tag_the_second_is_told(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet
) -> None:
    first = add_tag(catalog, ana, _said(labels, scene))
    add_tag(catalog, ana, _said(labels, scene, label="no-damage", square=None, replaces=first.id))
    with pytest.raises(Outrun, match="ana called it no-damage"):
        add_tag(
            catalog, ana, _said(labels, scene, label="cannot-tell", square=None, replaces=first.id)
        )


def test_at_once_one_correction_wins(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet
) -> None:
    first = add_tag(catalog, ana, _said(labels, scene))
    ends: list[str] = []

    def correct(label: str) -> None:
        try:
            add_tag(catalog, ana, _said(labels, scene, label=label, square=None, replaces=first.id))
            ends.append("won")
        except Outrun:
            ends.append("outrun")
        except Exception as error:
            ends.append(repr(error))

    threads = [
        threading.Thread(target=correct, args=(label,))
        for label in ("no-damage", "cannot-tell", "damage", "no-damage")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["outrun"] * 3 + ["won"]


def test_many_at_once_lose_nothing(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet
) -> None:
    failures: list[Exception] = []

    def tag_some(number: int) -> None:
        try:
            for k in range(5):
                add_tag(catalog, ana, _said(labels, scene, square=(k, number, 32)))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=tag_some, args=(n % 4,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(_current(catalog)) == 40
    with catalog.reading() as session:
        assert session.scalar(select(func.count()).select_from(Chip)) == 20


def test_polygons_are_tagged_too(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet
) -> None:
    said = _said(labels, scene, square=None, polygon=_ground(scene))
    tag = add_tag(catalog, ana, said)
    assert (tag.chip_id, tag.polygon["type"]) == (None, "Polygon")
    assert add_tag(catalog, ana, said).id == tag.id
    with pytest.raises(UsageError, match="says something else"):
        add_tag(catalog, ana, replace(said, polygon=_ground(scene, 0.4)))
    with pytest.raises(UsageError, match="says something else"):
        add_tag(catalog, ana, replace(said, square=(0, 0, 64), polygon=None))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"square": (250, 0, 64)}, "outside"),
        ({"square": (-1, 0, 64)}, "outside"),
        ({"square": (0, 0, 8)}, "16 to 4096"),
        ({"square": (0, 0, 10**9)}, "16 to 4096"),
        ({"label": "burnt"}, "has no 'burnt'"),
        ({"label": None}, "which it replaces"),
        ({"square": None}, "square or of a polygon"),
        ({"id": "1"}, "UUID"),
        ({"label_set": 99}, "no label set number 99"),
        ({"scene": 99}, "no scene number 99"),
        ({"replaces": "nothing", "square": None}, "no tag 'nothing'"),
        (
            {"square": None, "polygon": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}},
            "GeoJSON",
        ),
        ({"square": None, "polygon": {"type": "Point", "coordinates": [0, 0]}}, "GeoJSON"),
        (
            {
                "square": None,
                "polygon": {
                    "type": "Polygon",
                    "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]],
                },
            },
            "crosses itself",
        ),
        (
            {
                "square": None,
                "polygon": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]},
            },
            "outside",
        ),
    ],
)
def test_what_cannot_be_said_is_refused_and_nothing_kept(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet, more: dict[str, object], words: str
) -> None:
    with pytest.raises(AftermapError, match=words):
        add_tag(catalog, ana, replace(_said(labels, scene), **more))  # type: ignore[arg-type]
    assert _current(catalog) == []
    assert list(catalog.files.names()) == []
