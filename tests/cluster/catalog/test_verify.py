"""Database and files agree, whatever happens to those who add; what is wrong is found."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.tables import Chip, LabelSet, Scene, Tag, User
from aftermap.cluster.catalog.tagging import Said, add_tag
from aftermap.cluster.catalog.verify import verify
from rasters import texture, write_raster
from sqlalchemy import func, select, text

TAGS_FOR_EVER = """
import sys, uuid
from aftermap.cluster.catalog.catalog import Catalog, local_user
from aftermap.cluster.catalog.labels import latest
from aftermap.cluster.catalog.tagging import Said, add_tag
catalog = Catalog.open(sys.argv[1], sys.argv[2] or None)
with catalog.writing() as session:
    user, labels = local_user(session), latest(session, "damage")
number = int(sys.argv[3])
while True:
    tag = add_tag(catalog, user, Said(labels.id, "damage", str(uuid.uuid4()), 1, (number % 200, number // 200, 64)))
    print(tag.id, flush=True)
    number += 1
"""


def _tag(catalog: Catalog, user: User, scene: Scene, labels: LabelSet, row: int = 0) -> Tag:
    said = Said(labels.id, "damage", str(uuid.uuid4()), scene.id, (row, 0, 64))
    return add_tag(catalog, user, said)


def test_what_is_sound_is_said_to_be(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet
) -> None:
    _tag(catalog, ana, scene, labels)
    found = verify(catalog)
    assert (found.problems, found.left_over, found.elsewhere) == ([], [], [])
    assert (found.counts["tags"], found.counts["chips"], found.counts["files"]) == (1, 1, 1)
    assert "agree" in found.text()


def test_a_file_that_is_gone_or_changed_is_found(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet
) -> None:
    first, second = (_tag(catalog, ana, scene, labels, row) for row in (0, 1))
    with catalog.reading() as session:
        names = [session.get_one(Chip, tag.chip_id).content for tag in (first, second)]
    catalog.files.path(names[0]).unlink()
    with catalog.files.path(names[1]).open("r+b") as stream:
        stream.seek(100)
        stream.write(b"x")
    problems = verify(catalog).problems
    assert [p.split(" file ")[-1] for p in problems] == [
        f"{names[0]} is gone",
        f"{names[1]} has been changed",
    ]


def test_rows_that_contradict_each_other_are_found(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet
) -> None:
    first, second = (_tag(catalog, ana, scene, labels, row) for row in (0, 1))
    with catalog.database.engine.begin() as connection:
        connection.execute(
            text("UPDATE tags SET replaces = :first WHERE id = :second"),
            {"first": first.id, "second": second.id},
        )
    assert verify(catalog).problems == [f"tag {second.id} corrects one of another place"]


def test_rasters_that_moved_or_changed_are_told_apart_from_faults(
    catalog: Catalog, scene: Scene, raster: Path, tmp_path: Path
) -> None:
    write_raster(raster, texture(300, 400, 5))
    found = verify(catalog)
    assert found.problems == []
    assert "another image now" in found.elsewhere[0]
    raster.unlink()
    assert "is gone" in verify(catalog).elsewhere[0]


def test_left_overs_are_removed_when_asked(
    catalog: Catalog, scene: Scene, ana: User, labels: LabelSet
) -> None:
    _tag(catalog, ana, scene, labels)
    stray = catalog.files.path("0" * 64 + ".png")
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"?")
    old, new = (catalog.files.folder / f".begun-{name}" for name in ("old", "new"))
    for begun, age in ((old, 4000), (new, 3000)):
        begun.write_bytes(b"?")
        os.utime(begun, (time.time() - age,) * 2)
    assert verify(catalog).left_over == [stray.name, old.name]
    found = verify(catalog, tidy=True)
    assert (found.left_over, found.problems, found.counts["files"]) == ([], [], 1)
    assert (old.exists(), new.exists()) == (False, True)  # that one may be on its way


@pytest.mark.slow
def test_killed_at_any_moment_nothing_that_was_answered_is_lost(
    catalog: Catalog, address: str, scene: Scene
) -> None:
    answered: set[str] = set()
    rng = random.Random(0)
    for attempt in range(3):
        server = address if "://" in address else ""
        process = subprocess.Popen(
            [sys.executable, "-c", TAGS_FOR_EVER, str(catalog.folder), server, str(attempt * 5000)],
            stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert process.stdout is not None
        answered.add(process.stdout.readline().strip())
        time.sleep(rng.uniform(0.05, 0.4))
        process.send_signal(signal.SIGKILL)
        answered |= {
            line.strip() for line in process.stdout.read().splitlines() if len(line.strip()) == 36
        }
        process.wait()
        found = verify(catalog)
        assert found.problems == []
    with catalog.reading() as session:
        kept = set(session.scalars(select(Tag.id)))
        chips = session.scalar(select(func.count()).select_from(Chip))
    assert answered <= kept
    assert len(kept) - len(answered) <= 3  # those that were kept and not yet answered
    assert chips == len(kept)
    assert verify(catalog, tidy=True).left_over == []
