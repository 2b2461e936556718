"""Which images of a catalog are good enough: each once, in the area, clear, upright, dated, at hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import shapely

from .catalog import CatalogImage
from .catalog_item import event_start, is_remote
from .left_out import LeftOut


@dataclass(frozen=True)
class Limits:
    """What an image must be like to be used."""

    area: shapely.Geometry | None = None
    """Images that show nothing of it are left out, EPSG:4326; None for no limit."""
    max_cloud: float = 50.0
    """Cloudier images are left out, percent; those of unknown cloud stay."""
    max_off_nadir: float = 45.0
    """More oblique images are left out, degrees; those of unknown angle stay."""


def without_duplicates(images: Iterable[CatalogImage]) -> tuple[list[CatalogImage], int]:
    """Each image once, the first of several, and how many were dropped.

    Images are the same when they have one address, or one name at one place.
    """
    kept: list[CatalogImage] = []
    hrefs: set[str] = set()
    places: set[tuple[str, str]] = set()
    dropped = 0
    for image in images:
        key = None if image.place is None else (image.place, image.name)
        if image.href in hrefs or key in places:
            dropped += 1
            continue
        hrefs.add(image.href)
        if key is not None:
            places.add(key)
        kept.append(image)
    return kept, dropped


def good_enough(
    images: Iterable[CatalogImage], limits: Limits, left_out: LeftOut
) -> list[CatalogImage]:
    """The images within the limits; the others are noted with the limit that they exceed."""
    kept = []
    offered = list(images)
    inside = _in_area(offered, limits.area)
    for image, near in zip(offered, inside, strict=True):
        if not near:
            left_out.add("outside the area asked for", _called(image))
        elif image.cloud is not None and image.cloud > limits.max_cloud:
            left_out.add(f"cloudier than max_cloud = {limits.max_cloud:g} %", _called(image))
        elif image.off_nadir is not None and image.off_nadir > limits.max_off_nadir:
            reason = f"more oblique than max_off_nadir = {limits.max_off_nadir:g} degrees"
            left_out.add(reason, _called(image))
        elif image.cell is not None and not _shows(image, image.cell):
            left_out.add("shows only the apron of its tile", _called(image))
        else:
            kept.append(image)
    return kept


def by_event(
    images: Iterable[CatalogImage], event: date, left_out: LeftOut
) -> tuple[list[CatalogImage], list[CatalogImage]]:
    """The images before the event's day (UTC), and those of that day and after."""
    start = event_start(event)
    before: list[CatalogImage] = []
    after: list[CatalogImage] = []
    for image in images:
        if image.time is None:
            left_out.add("no date", _called(image))
        else:
            (before if image.time < start else after).append(image)
    return before, after


def local_copies(
    images: Iterable[CatalogImage], root: Path | None, left_out: LeftOut
) -> list[CatalogImage]:
    """The images whose files are at hand, with their local paths.

    With `root`, a URL's file is looked up there by the longest tail of its path that exists;
    without, URLs stay what they are. Files that several URLs would share are not trusted.
    """
    kept: list[CatalogImage] = []
    owners: dict[str, set[str]] = {}
    for image in images:
        path = image.href
        if is_remote(image.href):
            if root is None:
                kept.append(image)
                continue
            found = _local_copy(image.href, root)
            if found is None:
                left_out.add(f"no local copy under root = {str(root)!r}", _called(image))
                continue
            path = str(found)
        elif not Path(path).is_file():
            left_out.add("its file does not exist", path)
            continue
        owners.setdefault(path, set()).add(image.href)
        copy_of = None if path == image.href else image.href
        kept.append(replace(image, href=path, copy_of=copy_of))
    clear = []
    for image in kept:
        if len(owners.get(image.href, ())) > 1:
            reason = "its local copy has the name of several images; keep their folders under root"
            left_out.add(reason, _called(image))
        else:
            clear.append(image)
    return clear


def _in_area(images: list[CatalogImage], area: shapely.Geometry | None) -> np.ndarray:
    if area is None or not images:
        return np.ones(len(images), bool)
    shapely.prepare(area)
    return shapely.intersects(area, np.array([image.outline for image in images], dtype=object))


def _shows(image: CatalogImage, cell: shapely.Geometry) -> bool:
    return shapely.area(shapely.intersection(image.outline, cell)) > 0


def _local_copy(href: str, root: Path) -> Path | None:
    """The file under `root` with the longest tail of the address's path; links out of it do not count."""
    parts = [part for part in unquote(urlsplit(href).path).split("/") if part]
    if any(part in (".", "..") or "\0" in part for part in parts):
        return None
    for first in range(len(parts)):
        file = root.joinpath(*parts[first:])
        if file.is_file() and file.resolve().is_relative_to(root.resolve()):
            return file
    return None


def _called(image: CatalogImage) -> str:
    return f"{image.place}/{image.name}" if image.place else image.name
