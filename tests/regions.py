"""Small regions that tests make for themselves: overlapping pairs with changed squares."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from affine import Affine
from rasters import texture, write_raster

GSD = 0.5
SIDE = 640
"""Height and width of an image, px."""

STEP = 512
"""From one image's corner to the next one's, px: they overlap by 128."""

ZONES = {36: (780_000.0, 4_162_000.0), 37: (240_000.0, 4_162_000.0)}
"""UTM zone to the upper left corner of its images: both in Turkey, some kilometres apart."""

CHANGED = ((100, 100), (300, 420), (150, 560), (560, 200))
"""Rows and columns of the changed squares of 40 px, counted from each image's corner."""


def write_pair(folder: Path, name: str, zone: int, column: int, seed: int = 0) -> tuple[Path, Path]:
    """A before and an after image: the `column`-th of a row of images over one piece of ground."""
    ground = texture(SIDE, SIDE + 3 * STEP, seed)
    changed = ground.copy()
    for k in range(4):
        for row, col in CHANGED:
            here = slice(row, row + 40), slice(k * STEP + col, k * STEP + col + 40)
            changed[:, here[0], here[1]] = 255 - ground[:, here[0], here[1]]
    x, y = ZONES[zone]
    cols = slice(column * STEP, column * STEP + SIDE)
    place = Affine(GSD, 0, x + column * STEP * GSD, 0, -GSD, y)
    files = []
    for when, pixels in (("pre", ground), ("post", changed)):
        file = folder / f"{name}-{when}.tif"
        write_raster(file, np.ascontiguousarray(pixels[:, :, cols]), f"EPSG:326{zone}", place)
        files.append(file)
    return files[0], files[1]


def write_region(
    folder: Path, pairs: Sequence[tuple[str, Path, Path]], name: str = "region", **tables: str
) -> Path:
    """A region file over a list of pairs, assessed by `difference`; `tables` are added as text."""
    with (folder / "pairs.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["scene_id", "pre", "post"])
        rows.writerows((scene, pre.name, post.name) for scene, pre, post in pairs)
    more = {"assess": 'method = "difference"\nchunk = 256', "cluster": 'kind = "threads"'} | tables
    text = (
        f'[region]\nname = "{name}"\nout = "out"\n\n[images]\nkind = "list"\npath = "pairs.csv"\n'
    )
    text += "".join(f"\n[{table}]\n{content}\n" for table, content in more.items())
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def digests(out: Path) -> dict[str, str]:
    """Digest of every file of a region that must not depend on how it was made."""
    free = {"run.json", "region.json", "report.html"}
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
        and path.name not in free
        and not path.name.startswith(".")
        and not (path.parent.name == "scenes" and path.suffix == ".json")
    }
