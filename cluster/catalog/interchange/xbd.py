"""Tags as labels of xBD: one file per scene, outlines in pixels and in degrees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from ....scenes.errors import Refused
from ....scenes.lonlat import split_antimeridian
from ....scenes.vectors import replacing_folder
from ....scenes.xbd import XbdBuilding, XbdLabel, read_xbd, write_xbd
from ..catalog import Catalog
from ..labels import LEVELS
from ..tables import LabelSet, Scene
from .about import about
from .codes import label_of_subtype, label_of_word, subtype_of
from .found import Found, Problems, Shown, content_of, square_of, tag_id, text_of, within
from .image_files import write_image
from .marks import Mark, Marks, file_name
from .places import box, to_degrees
from .target import write_about

LABELS, IMAGES = "labels", "images"

_AFTER, _BEFORE = "_post_disaster", "_pre_disaster"
_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_SLIVER = 0.5
"""px²; what an outline may differ from its square by and still be it."""


def write(catalog: Catalog, marks: Marks, path: Path, left_out: list[str]) -> dict[str, int]:
    """Write labels/, and images/ with the photos that the catalog keeps; returns counts."""
    files = tags = absent = ungraded = 0
    with replacing_folder(path) as folder:
        (folder / LABELS).mkdir()
        (folder / IMAGES).mkdir()
        for scene, found in marks.by_scene():
            stem = f"{file_name(scene)}{_AFTER}"
            image = write_image(catalog.files, scene, folder / IMAGES / stem)
            absent += image is None
            buildings = [_building(marks.labels, mark) for mark in found]
            facts = _metadata(marks.labels, scene, found, image)
            write_xbd(folder / LABELS / f"{stem}.json", buildings, facts)
            files, tags = files + 1, tags + len(found)
            ungraded += sum(one.subtype == "un-classified" for one in buildings)
        write_about(folder, about(marks, "xbd"))
    if absent:
        left_out.append(f"the images of {absent} scenes, which lie outside the catalog")
    if ungraded:
        left_out.append(
            f"{ungraded} tags without a level, un-classified in xBD; metadata.aftermap tells"
        )
    left_out.append("labels of the time before; who said what")
    return {"labels": files, "buildings": tags}


class Xbd:
    """A folder with labels/ and perhaps images/; only labels of the time after count."""

    def __init__(self, path: Path) -> None:
        self._root = path
        self._files = sorted((path / LABELS).glob(f"*{_AFTER}.json"))
        if not self._files:
            raise Refused(f"{path / LABELS} holds no file that ends with {_AFTER}.json.")

    @property
    def labels(self) -> str | None:
        """See `Reader`."""
        try:
            return text_of(_ours(read_xbd(self._files[0])).get("label_set")) or LEVELS
        except Refused:  # told with the others that cannot be read
            return LEVELS

    def found(self, labels: LabelSet, problems: Problems) -> Iterator[Found]:
        """See `Reader`."""
        for file in self._files:
            try:
                label, digest = read_xbd(file), content_of(file)[1]
            except Refused:
                problems.add("unreadable labels", f"{file.name}")
                continue
            for problem in label.problems:
                if problem.what.endswith("left out"):
                    problems.add(problem.what, f"{problem.where} in {file.name}")
            image, ours = self._shown(label), _ours(label)
            for number, building in enumerate(label.buildings):
                where = f"{building.uid or number} in {file.name}"
                word = _label(labels, building, ours)
                if word is None:
                    problems.add(f"no label for the subtype {building.subtype!r}", where)
                elif building.xy is not None:
                    square = _square(building, ours)
                    outline = None if square else building.xy
                    key = tag_id(digest, f"{file.stem}/{number}")
                    yield Found(key, where, image, word, square, outline)

    def _shown(self, label: XbdLabel) -> Shown:
        stem, ours = label.path.stem, _ours(label)
        name = text_of(label.metadata.get("img_name")) or f"{stem}.png"
        return Shown(
            name,
            text_of(ours.get("scene_name")) or name,
            text_of(ours.get("scene_digest")),
            path=self._image(stem),
            before=self._image(stem.removesuffix(_AFTER) + _BEFORE),
            size=label.said_size,
        )

    def _image(self, stem: str) -> Path | None:
        found = (within(self._root / IMAGES, stem + suffix) for suffix in _SUFFIXES)
        return next(filter(None, found), None)


def _building(labels: LabelSet, mark: Mark) -> XbdBuilding:
    degrees = to_degrees(mark.scene, mark.outline) if mark.scene.crs else None
    if degrees is not None:
        degrees = split_antimeridian(np.array([degrees], dtype=object))[0]
    return XbdBuilding(mark.tag.id, subtype_of(labels, mark.label), mark.outline, degrees)


def _metadata(
    labels: LabelSet, scene: Scene, marks: list[Mark], image: Path | None
) -> dict[str, Any]:
    """What is known of a scene; `aftermap` holds what xBD has no word for."""
    return {
        "disaster": scene.event or None,
        "capture_date": None if scene.taken_at is None else scene.taken_at.isoformat(),
        "gsd": scene.gsd_m,
        "width": scene.width,
        "height": scene.height,
        "original_width": scene.width,
        "original_height": scene.height,
        "id": scene.digest,
        "img_name": scene.name if image is None else image.name,
        "aftermap": {
            "label_set": labels.name,
            "label_version": labels.version,
            "scene_name": scene.name,
            "scene_digest": scene.digest,
            "labels": {mark.tag.id: mark.label for mark in marks},
            "squares": {mark.tag.id: list(mark.square) for mark in marks if mark.square},
        },
    }


def _ours(label: XbdLabel) -> Mapping[str, Any]:
    said = label.metadata.get("aftermap")
    return said if isinstance(said, dict) else {}


def _label(labels: LabelSet, building: XbdBuilding, ours: Mapping[str, Any]) -> str | None:
    """What was said of a building: our own word as long as it is of the subtype that stands there."""
    if building.subtype is None:
        return None
    said = ours.get("labels")
    word = (
        label_of_word(labels, text_of(said.get(building.uid))) if isinstance(said, dict) else None
    )
    if word is not None and subtype_of(labels, word) == building.subtype:
        return word
    return label_of_subtype(labels, building.subtype)


def _square(building: XbdBuilding, ours: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """The square that a building's outline is, where our own export says so and it still is."""
    said = ours.get("squares")
    square = square_of(said.get(building.uid)) if isinstance(said, dict) else None
    if square is None or building.xy is None or not building.xy.is_valid:
        return None
    same = shapely.symmetric_difference(building.xy, box(square)).area < _SLIVER
    return square if same else None
