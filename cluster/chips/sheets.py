"""Sheets: the grids that images are cut on, and all dates at which each is shown."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from ...scenes.ard import ArdCell
from ...scenes.catalog import CatalogImage
from ...scenes.catalog_files import Placing, read_list
from ...scenes.errors import Refused
from ...scenes.grid import at_resolution
from ...scenes.pair import acquisition_date, make_pair
from ...scenes.pairing import slug
from ...scenes.patches import PatchGrid, whole_tile
from ...scenes.reading import Reading
from ...scenes.scene import Scene, open_tiles
from ...scenes.sift import Limits, good_enough, local_copies, without_duplicates
from ..regions.file import Images
from ..regions.pairs import copies_root, from_catalog, from_folders, wanted_area
from .request import ChipsRequest, ReadAs

When = Literal["pre", "post"]
_UNDATED = "undated"
_AT_ONCE = 16
"""Headers that are read at a time: those of remote images take a while."""


@dataclass(frozen=True)
class Shot:
    """An image of the ground at one date: one file, or several that are one mosaic."""

    when: When
    date: str
    """YYYY-MM-DD; empty where nothing tells."""
    name: str
    """The acquisition's id: where two tiles show one ground, the same name is the same picture."""
    files: tuple[str, ...]

    @property
    def key(self) -> tuple[When, str, str]:
        """What makes two images of one ground the same."""
        return self.when, self.date, self.name


@dataclass(frozen=True, eq=False)
class Sheet:
    """A grid of patches, and the images that are cut on it."""

    name: str
    """A tile's quadkey, or the name of the image whose grid it is."""
    patches: PatchGrid
    shots: tuple[Shot, ...]
    """Before the event first, then by date and name."""

    def stem(self, index: int, shot: Shot) -> str:
        """What the file of a patch is called, in the manner of the study of paper 001."""
        return f"{self.name}_{shot.date or _UNDATED}_{shot.name}-visual_{index}"


@dataclass(frozen=True)
class Found:
    """The sheets of a request, and what is worth knowing about how they came about."""

    sheets: tuple[Sheet, ...]
    area: shapely.Geometry | None
    """What is wanted, EPSG:4326; None for all."""
    notes: tuple[str, ...]
    unreadable: tuple[str, ...]
    """Images whose header cannot be read, with the reason."""


def sheets_of_pair(request: ChipsRequest) -> Found:
    """One sheet of a before and an after image, each a file, a folder of tiles or a list of them."""
    assert request.pre is not None
    assert request.post is not None
    pair = make_pair(
        request.pre, request.post, resolution=request.resolution, **vars(request.read_as)
    )
    assert pair.pre is not None
    _check_bytes(pair.post)
    shots = (_shot("pre", pair.pre), _shot("post", pair.post))
    sheet = Sheet(slug(pair.post.name), PatchGrid(pair.grid, request.size), shots)
    return _checked(Found((sheet,), None, (), ()), request.size)


def sheets_of_images(request: ChipsRequest, images: Images) -> Found:
    """The sheets of a region's `[images]` table, with every image within its limits.

    Images of a fixed tiling are cut on their tile's own grid. Of all others each after image is a
    sheet, the earliest first, on whose grid whatever shows some of it is cut.
    """
    reading = Reading(images.asset, images.event_date)
    area = wanted_area(images.bbox, images.aoi)
    befores, afters = _images(request, images, reading, area)
    dated = {"pre": befores, "post": afters}
    shots = _shots(dated)  # type: ignore[arg-type]
    sheets, unreadable = _sheets(request, befores, afters, shots)
    found = Found(tuple(sheets), area, reading.lines(), tuple(unreadable))
    return _checked(found, request.size)


def open_shot(shot: Shot, read_as: ReadAs) -> Scene:
    """The image of a shot; raises Refused for what cannot be read or is not uint8 RGB."""
    scene = open_tiles(shot.files, **vars(read_as))
    _check_bytes(scene)
    return scene


def _images(
    request: ChipsRequest, images: Images, reading: Reading, area: shapely.Geometry | None
) -> tuple[list[CatalogImage], list[CatalogImage]]:
    """The images before and after that are within the limits and at hand."""
    placing = Placing(request.read_as.crs, request.read_as.gcps)
    if images.kind == "list":
        rows = read_list(str(images.path), reading, placing)
        # A scene's name in the list is its after image's.
        named = [replace(post, name=scene or post.name) for scene, _, post in rows]
        befores, afters = [pre for _, pre, _ in rows if pre is not None], named
        befores, afters = (without_duplicates(group)[0] for group in (befores, afters))
    elif images.kind == "folder":
        befores, afters, _ = from_folders(images, reading, placing)
    else:
        befores, afters, _ = from_catalog(images, reading, area)
    limits = Limits(area, images.max_cloud, images.max_off_nadir)
    befores, afters = (good_enough(g, limits, reading.left_out) for g in (befores, afters))
    root = copies_root(images, [*befores, *afters])
    befores, afters = (local_copies(g, root, reading.left_out) for g in (befores, afters))
    for name, group in (("before", befores), ("after", afters)):
        if not group:
            why = "; ".join(list(reading.lines())[:4])
            raise Refused(
                f"[images] has no image from {name} the event among the {reading.found} found, and "
                f"chips need one from before and one from after. {why}"
            )
    return befores, afters


def _shots(dated: dict[When, list[CatalogImage]]) -> dict[str, Shot]:
    """The shot of each image, by its address; images of no tiling with one name are told apart."""
    shots: dict[str, Shot] = {}
    seen: set[tuple[str, str, str]] = set()
    for when, images in dated.items():
        for image in sorted(images, key=lambda image: image.href):
            date = f"{image.time:%Y-%m-%d}" if image.time else ""
            shot = Shot(when, date, slug(image.name), (image.href,))
            if image.place is None and shot.key in seen:
                digest = hashlib.sha256(image.href.encode(errors="surrogateescape")).hexdigest()
                shot = replace(shot, name=f"{shot.name[:60]}-{digest[:10]}")
            seen.add(shot.key)
            shots[image.href] = shot
    return shots


def _sheets(
    request: ChipsRequest,
    befores: Sequence[CatalogImage],
    afters: Sequence[CatalogImage],
    shots: dict[str, Shot],
) -> tuple[list[Sheet], list[str]]:
    """The sheets in their order: first those with images from before and after, then the others."""
    everything = [*befores, *afters]
    loose = [image for image in everything if image.place is None]
    tree = shapely.STRtree([image.outline for image in loose])
    tiles: dict[str, list[CatalogImage]] = defaultdict(list)
    for image in everything:
        if image.place is not None:
            tiles[image.place].append(image)
    anchors: list[tuple[str, list[CatalogImage]]] = [
        (place, sorted(images, key=lambda i: (i.href not in _hrefs(afters), i.href)))
        for place, images in sorted(tiles.items())
    ]
    anchors += [(image.name, [image]) for image in _by_time(afters) if image.place is None]
    names, sheets, unreadable = _names([name for name, _ in anchors]), [], []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        grids = list(pool.map(lambda anchor: _grid(anchor[1], request, shots), anchors))
    for name, (_, images), (grid, faults) in zip(names, anchors, grids, strict=True):
        unreadable += faults
        if grid is None:
            continue
        shown = grid.geographic_extent.geom
        over = [loose[i] for i in np.sort(tree.query(shown, predicate="intersects"))]
        own = {shots[image.href]: None for image in [*images, *over]}
        order = sorted(own, key=lambda s: (s.when == "post", s.date, s.name))
        sheets.append(Sheet(name, PatchGrid(grid, request.size), tuple(order)))
    return sorted(sheets, key=lambda s: len({shot.when for shot in s.shots}) < 2), unreadable


def _hrefs(images: Sequence[CatalogImage]) -> set[str]:
    return {image.href for image in images}


def _by_time(images: Sequence[CatalogImage]) -> list[CatalogImage]:
    return sorted(
        images, key=lambda i: (i.time is None, i.time.timestamp() if i.time else 0, i.href)
    )


def _names(places: Sequence[str]) -> list[str]:
    """What sheets are called: by a tile's quadkey alone where no other zone has the same one."""
    cells = [ArdCell.of(place) for place in places]
    quadkeys = Counter(cell.quadkey for cell in cells if cell)
    wanted = [
        cell.quadkey if cell and quadkeys[cell.quadkey] == 1 else slug(place)
        for cell, place in zip(cells, places, strict=True)
    ]
    seen: Counter[str] = Counter()
    names = []
    for name in wanted:
        seen[name.casefold()] += 1
        more = seen[name.casefold()]
        names.append(name if more == 1 else f"{name[:70]}-{more}")
    return names


def _grid(
    images: Sequence[CatalogImage], request: ChipsRequest, shots: dict[str, Shot]
) -> tuple[GeoBox | None, list[str]]:
    """The grid of the first image that can be opened, and why the ones before it cannot."""
    faults = []
    for image in images:
        try:
            grid = open_shot(shots[image.href], request.read_as).grid
        except Refused as error:
            faults.append(f"{image.name}: {error}")
            continue
        cell = ArdCell.of(image.place or "")
        if cell is not None:  # a file need not show all of its tile
            grid = whole_tile(grid, cell)
        return (at_resolution(grid, request.resolution) if request.resolution else grid), []
    return None, faults


def _shot(when: When, scene: Scene) -> Shot:
    files = tuple(r.remote.address if r.remote else r.path for r in scene.rasters)
    return Shot(when, acquisition_date(scene) or "", slug(scene.name), files)


def _check_bytes(scene: Scene) -> None:
    if scene.dtype != np.uint8 or scene.count != 3:
        raise Refused(
            f"{scene.tiles[0].raster.path} is read as {scene.count} bands of {scene.dtype}; chips "
            "are three bands of uint8. Choose --bands R G B, and --scale LOW HIGH for other values."
        )


def _checked(found: Found, size: int) -> Found:
    """The sheets that hold a patch; Refused where none does."""
    large = [sheet for sheet in found.sheets if len(sheet.patches)]
    if large or not found.sheets:
        left = len(found.sheets) - len(large)
        note = (f"{left} images or tiles are smaller than a chip of {size} px",) if left else ()
        return replace(found, sheets=tuple(large), notes=(*found.notes, *note))
    shape = max((s.patches.grid.shape for s in found.sheets), key=min)
    raise Refused(
        f"A chip of {size} x {size} px does not fit into any image: the largest has {shape[1]} x "
        f"{shape[0]} px. Give a smaller --size."
    )
