"""Chips of the xBD data set as its challenge hands it out: images, and labels as JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely

from ...scenes.errors import Refused
from ...scenes.layer import NOT_ANALYSED
from ...scenes.legend import LEVELS
from ...scenes.places import Box, Place
from ...scenes.xbd import XbdLabel, read_xbd
from .chipset import After, ChipSet, Record
from .names import XBD
from .picture import FilePicture, is_image
from .polygons import blank, burn, label_of

TRAINING = ("train", "tier3")
HELD_OUT = ("test", "hold")
"""The folders of the challenge: those to learn from, and those to be judged by."""

_SURE = 2.0
"""Px by which a corner of a tile may be off for its ground to count as known."""


@dataclass(frozen=True)
class XbdMask:
    """The damage codes of a label after the event, drawn when they are read."""

    path: Path

    def read(self, bands: int) -> np.ndarray:
        """See Picture: one band of 0 background, 1-4 levels, 255 un-classified or without a level."""
        return drawn(read_xbd(self.path))[None]

    def __str__(self) -> str:
        return str(self.path)


def read_challenge(root: Path) -> ChipSet | None:
    """The tiles of a folder with images/ and labels/ or targets/, or of such folders in it.

    None if there are none. Masks are drawn from the labels after the event; where there is none, the
    target is taken. Where train/ or tier3/ lies beside test/ or hold/ these are the parts:
    test/ for validation and hold/ for testing, or for validation the only one of the two.
    Otherwise tiles belong to no part, and are divided by their ground.

    Places are labelled damaged where a level of 2 to 4 is, intact where neither that nor 255 is.
    Those whose ground is not known (the labels of a tile without buildings do not tell) are kept
    together by disaster. Raises Refused where an image has no partner, or no label where others do.
    """
    found = {outer: tiles for outer in _outers(root) if (tiles := _tiles(outer))}
    if not found:
        return None
    parts = _parts([outer.name for outer in found if outer != root])
    records: list[Record] = []
    for outer, tiles in found.items():
        prefix = "" if outer == root else f"{outer.name}/"
        split = parts.get(outer.name, "") if prefix else ""
        for tile, images in tiles.items():
            records.append(_record(outer, tile, images, prefix, split))
    return ChipSet(records, source=str(root))


def drawn(label: XbdLabel) -> np.ndarray:
    """A label's mask, uint8 (h, w): background, then the levels upwards, then un-classified over them.

    Buildings without a level count as un-classified. Raises Refused for an absurd size.
    """
    mask = blank(label.size, str(label.path))
    shapes = defaultdict(list)
    for building in label.buildings:
        code = building.damage_class
        if building.xy is not None:
            shapes[NOT_ANALYSED if code is None else code].append(building.xy)
    for code in (*LEVELS, NOT_ANALYSED):
        burn(mask, shapes[code], code)
    return mask


def ground(label: XbdLabel) -> Box | None:
    """West, south, east, north of a tile in degrees, a pixel wide of it so that neighbours touch.

    No label says where its image lies: the affine map from pixels to degrees that fits the
    buildings' corners best says so. None where they are too few, or too close together, to tell.
    """
    pixels, degrees = _corners(label)
    if len(pixels) < 3:
        return None
    centre = pixels.mean(axis=0)
    spread = np.linalg.svd(pixels - centre, compute_uv=False)[-1] / np.sqrt(len(pixels))
    if spread < 1:
        return None
    fitted = np.column_stack([pixels - centre, np.ones(len(pixels))])
    affine = np.linalg.lstsq(fitted, degrees, rcond=None)[0]
    step = np.sqrt(abs(np.linalg.det(affine[:2])))
    off = np.sqrt(np.mean((fitted @ affine - degrees) ** 2))
    height, width = label.size
    if not off * max(height, width) <= _SURE * step * spread:
        return None
    frame = np.array([(x, y) for x in (-1, width + 1) for y in (-1, height + 1)])
    corners = (frame - centre) @ affine[:2] + affine[2]
    (west, south), (east, north) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return west, south, east, north


def _corners(label: XbdLabel) -> tuple[np.ndarray, np.ndarray]:
    """Corners of buildings in pixels and in degrees, each (n, 2)."""
    both = [(b.xy, b.lng_lat) for b in label.buildings if b.xy is not None and b.lng_lat]
    pairs = [(shapely.get_coordinates(xy), shapely.get_coordinates(at)) for xy, at in both]
    alike = [(xy, at) for xy, at in pairs if len(xy) == len(at)]
    if not alike:
        return np.empty((0, 2)), np.empty((0, 2))
    pixels, degrees = (np.concatenate(corners) for corners in zip(*alike, strict=True))
    return pixels, degrees


def _outers(root: Path) -> Iterator[Path]:
    """The folder itself and those in it; the challenge's parts, or a folder per disaster."""
    if root.is_dir():
        yield root
        yield from sorted(path for path in root.iterdir() if path.is_dir())


def _parts(names: list[str]) -> dict[str, str]:
    """The part of the main training that each of the challenge's folders is."""
    training = [name for name in TRAINING if name in names]
    held = [name for name in HELD_OUT if name in names]
    if not training or not held:
        return {}
    return dict.fromkeys(training, "train") | dict(zip(held, ("validation", "test"), strict=False))


def _tiles(outer: Path) -> dict[str, dict[str, Path]]:
    """Images before and after of each tile, by its name."""
    tiles: dict[str, dict[str, Path]] = defaultdict(dict)
    folder = outer / "images"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        found = XBD.fullmatch(path.stem)
        if found and is_image(path):
            images = tiles[found["tile"]]
            if found["when"] in images:
                raise Refused(
                    f"{path} and {images[found['when']].name} are the same image twice. Remove "
                    f"one of them from --data."
                )
            images[found["when"]] = path
    return tiles


def _record(outer: Path, tile: str, images: dict[str, Path], prefix: str, split: str) -> Record:
    if len(images) < 2:
        (here,) = images
        raise Refused(
            f"The tile {tile!r} of {outer / 'images'} has an image {here} but none "
            f"{'post' if here == 'pre' else 'pre'} the event. Give --data a complete folder."
        )
    pres, post = (FilePicture(images["pre"]),), images["post"]
    place = Place(prefix + tile, group=tile.rpartition("_")[0], split=split)
    label = outer / "labels" / f"{post.stem}.json"
    if label.is_file():
        found = read_xbd(label)
        values = frozenset(np.unique(drawn(found)).tolist())
        place = replace(place, label=label_of(values))
        if (box := ground(found)) is not None:
            place = replace(place, crs="EPSG:4326", box=box, group="")
        return Record(place, pres, (After(FilePicture(post), XbdMask(label)),), values)
    target = outer / "targets" / f"{post.stem}_target.png"
    labelled = [f"{f}/" for f in ("labels", "targets") if (outer / f).is_dir()]
    if labelled and not target.is_file():
        raise Refused(
            f"The tile {tile!r} of {outer / 'images'} has neither {label.name} in labels/ nor "
            f"{target.name} in targets/. Give --data a complete folder, or one without "
            f"{' and '.join(labelled)}."
        )
    return Record(
        place, pres, (After(FilePicture(post), FilePicture(target) if labelled else None),)
    )
