"""An import that is killed leaves a sound catalog; done again, it is as if nothing had happened."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.interchange.importing import import_tags
from aftermap.cluster.catalog.tables import Scene, Tag
from aftermap.cluster.catalog.tagging import current_tags
from aftermap.cluster.catalog.verify import verify
from killed import kill
from PIL import Image
from rasters import texture
from sqlalchemy import func, select

PAIRS = 220
CODES = [1, 2, 3, 4]


def _folders(root: Path) -> Path:
    """Images before and after, and masks of one label all over: a square each."""
    for name in ("A", "B", "label"):
        (root / name).mkdir(parents=True)
    for number in range(PAIRS):
        for name, seed in (("A", number), ("B", PAIRS + number)):
            image = Image.fromarray(texture(64, 64, seed).transpose(1, 2, 0))
            image.save(root / name / f"{number:03}.png")
        mask = np.full((64, 64), CODES[number % len(CODES)], np.uint8)
        Image.fromarray(mask).save(root / "label" / f"{number:03}.png")
    return root


def _count(catalog: Catalog, table: Any) -> int:
    with catalog.reading() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def _held(catalog: Catalog) -> tuple[list[tuple[Any, ...]], list[str]]:
    """All that an import brings, whatever numbers it has here: tags, images, and files."""
    with catalog.reading() as session:
        digests = dict(session.execute(select(Scene.id, Scene.digest)).all())
        scenes = [
            (one.digest, one.content, digests.get(one.before_id))
            for one in session.scalars(select(Scene))
        ]
        tags = [
            (
                tag.id, tag.label, digests[tag.scene_id], tag.user.name,
                (tag.chip.row, tag.chip.col, tag.chip.side, tag.chip.content, tag.chip.before),
            )
            for tag in session.scalars(current_tags())
        ]  # fmt: skip
    return sorted(map(repr, scenes)), sorted(map(repr, tags))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_killed_and_done_again_it_is_one_import(
    catalog: Catalog, address: str, tmp_path: Path
) -> None:
    source = _folders(tmp_path / "x")
    command = [sys.executable, "-m", "aftermap", "catalog", "import", str(source), "--labels", "levels",
               "--as", "ben", "--catalog", str(catalog.folder)]  # fmt: skip
    if "://" in address:
        command += ["--database", address]
    # Between images, between images and tags, and between tags.
    for table, least in ((Scene, 1), (Scene, 2 * PAIRS), (Tag, 1)):
        kill(command, lambda table=table, least=least: _count(catalog, table) >= least)
        assert verify(catalog).problems == []
    assert _count(catalog, Tag) < PAIRS
    told = import_tags(catalog, source, "levels", "ben")
    assert (told.new + told.known, told.left_out) == (PAIRS, [])
    assert told.known >= 100
    undisturbed = Catalog.open(tmp_path / "other", create=True)
    import_tags(undisturbed, source, "levels", "ben")
    assert _held(catalog) == _held(undisturbed)
    found = verify(catalog, tidy=True)
    assert (found.problems, found.left_over) == ([], [])
    undisturbed.close()
