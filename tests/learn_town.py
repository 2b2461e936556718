"""A catalogued town whose damage is hard noise on smooth ground, and people who tag it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.imagery import add_images
from aftermap.cluster.catalog.labels import latest
from aftermap.cluster.catalog.people import add_user
from aftermap.cluster.catalog.pixels import as_png, open_pixels
from aftermap.cluster.catalog.tables import Chip, LabelSet, Scene, Tag, User
from photos_made import rubble
from rasters import texture, write_raster
from sqlalchemy import select

SIDE, CELLS = 48, 24
"""Of a square, px; squares along a side of the town, which is 576 m wide."""

Cell = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Town:
    """A raster in a catalog, and the truth."""

    catalog: Catalog
    scene: Scene
    labels: LabelSet
    struck: np.ndarray
    """bool (CELLS, CELLS)."""
    file: Path

    def cells(self, count: int, seed: int = 0) -> list[Cell]:
        """Some by chance."""
        order = np.random.default_rng(seed).permutation(CELLS**2)[:count]
        return [divmod(int(number), CELLS) for number in order]

    def user(self, name: str) -> User:
        """Somebody who tags."""
        with self.catalog.writing() as session:
            found = session.scalars(select(User).where(User.name == name)).first()
            return found or add_user(session, name, "tagger", "a long password")

    def tag(self, cells: Sequence[Cell], name: str = "ana", label: str | None = None) -> list[str]:
        """Say of cells what is true, or a label; the ids of the tags. As `add_tag`, all at once."""
        user, pixels, made = self.user(name), open_pixels(self.catalog.files, self.scene), []
        with self.catalog.adding() as (session, adding):
            for row, col in cells:
                place = {"row": row * SIDE, "col": col * SIDE, "side": SIDE}
                query = select(Chip).filter_by(scene_id=self.scene.id, **place)
                chip = session.scalars(query).first()
                if chip is None:
                    png = as_png(pixels.square(*place.values())[0])
                    middle = pixels.lonlat((row + 0.5) * SIDE, (col + 0.5) * SIDE)
                    assert middle is not None
                    chip = Chip(
                        scene_id=self.scene.id,
                        **place,
                        content=adding.put(png, "png"),
                        lon=middle[0],
                        lat=middle[1],
                    )
                    session.add(chip)
                    session.flush()
                said = label or ("damage" if self.struck[row, col] else "no-damage")
                tag = Tag(
                    id=str(uuid.uuid4()),
                    scene_id=self.scene.id,
                    chip_id=chip.id,
                    label_set_id=self.labels.id,
                    label=said,
                    user_id=user.id,
                )
                session.add(tag)
                made.append(tag.id)
        return made


def make_town(folder: Path, address: str | None) -> Town:
    """A town of its own."""
    rng = np.random.default_rng(0)
    struck = rng.random((CELLS, CELLS)) < 0.4
    pixels = texture(CELLS * SIDE, CELLS * SIDE)
    for number, (row, col) in enumerate(zip(*np.nonzero(struck), strict=True)):
        top, left = row * SIDE, col * SIDE
        pixels[:, top : top + SIDE, left : left + SIDE] = rubble(SIDE, number)
    file = write_raster(folder / "town.tif", pixels)
    catalog = Catalog.open(folder / "catalog", address, create=True)
    scene = add_images(catalog, [str(file)]).new[0]
    with catalog.reading() as session:
        return Town(catalog, scene, latest(session, "damage"), struck, file)
