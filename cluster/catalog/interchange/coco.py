"""Tags as COCO: squares as images with a box around all of each, polygons of scenes as segmentations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from ....scenes.coco import coco_outline
from ....scenes.errors import Refused
from ....scenes.geojson import write_items
from ....scenes.vectors import replacing_folder
from ..catalog import Catalog
from ..tables import LabelSet
from .about import about
from .codes import label_of_word
from .found import Found, Problems, Shown, json_of, moment, square_of, tag_id, text_of, within
from .image_files import write_image
from .marks import Mark, Marks, chip_name, file_name
from .places import box
from .target import write_about

LIST, IMAGES = "annotations.json", "images"

_DECIMALS = 3
"""Of a pixel."""


def write(catalog: Catalog, marks: Marks, path: Path, left_out: list[str]) -> dict[str, int]:
    """Write a folder with the list and the images that the catalog keeps; returns counts."""
    book = _Book(marks)
    with replacing_folder(path) as folder:
        (folder / IMAGES).mkdir()
        head = {"info": about(marks, "coco"), "categories": book.categories}
        with (folder / LIST).open("w", encoding="utf-8", newline="\n") as file:
            file.write(f'{json.dumps(head, ensure_ascii=False)[:-1]}, "annotations": [\n')
            write_items(file, book.annotations(catalog, folder / IMAGES))
            file.write('\n], "images": [\n')
            write_items(file, book.images)
            file.write("\n]}\n")
        write_about(folder, about(marks, "coco"))
    if book.absent:
        left_out.append(f"the images of {book.absent} scenes, which lie outside the catalog")
    if book.holes:
        left_out.append(f"{book.holes} holes: filled in segmentation, not counted in area")
    return {"images": len(book.images), "annotations": book.count}


@dataclass
class _Book:
    """What has been written so far."""

    marks: Marks
    images: list[dict[str, Any]] = field(default_factory=list)
    count: int = 0
    absent: int = 0
    """Images that are named but not there."""
    holes: int = 0

    @property
    def categories(self) -> list[dict[str, Any]]:
        return [
            {"id": number, "name": label["name"], "supercategory": "damage"}
            for number, label in enumerate(self.marks.labels.labels, 1)
        ]

    def annotations(self, catalog: Catalog, folder: Path) -> Iterator[dict[str, Any]]:
        """The annotations of all tags; their images are written on the way."""
        numbers = {category["name"]: category["id"] for category in self.categories}
        for scene, marks in self.marks.by_scene():
            known: dict[str, int] = {}
            for mark in marks:
                name = file_name(scene) if mark.square is None else chip_name(scene, mark.square)
                if name not in known:
                    known[name] = self._image(catalog, folder, name, mark)
                yield self._annotation(mark, known[name], numbers[mark.label])

    def _image(self, catalog: Catalog, folder: Path, name: str, mark: Mark) -> int:
        scene, chip = mark.scene, mark.tag.chip
        facts: dict[str, Any] = {"scene_name": scene.name, "scene_digest": scene.digest}
        file, width, height = f"{name}.png", scene.width, scene.height
        if chip is not None:
            (folder / file).write_bytes(catalog.files.read(chip.content))
            width = height = chip.side
            facts["square"] = [chip.row, chip.col, chip.side]
        elif (written := write_image(catalog.files, scene, folder / name)) is not None:
            file = written.name
        else:
            self.absent += 1
            file = scene.name
        number = len(self.images) + 1
        size = {"width": width, "height": height}
        self.images.append({"id": number, "file_name": file} | size | {"aftermap": facts})
        return number

    def _annotation(self, mark: Mark, image: int, category: int) -> dict[str, Any]:
        shape, tag = mark.outline, mark.tag
        if mark.square is not None:
            shape = box((0, 0, mark.square[2]))
        self.holes += int(shapely.get_num_interior_rings(shapely.get_parts(shape)).sum())
        self.count += 1
        return {
            "id": self.count,
            "image_id": image,
            "category_id": category,
            **coco_outline(shape, np.round(shape.bounds, _DECIMALS).tolist()),
            "aftermap": {"tag": tag.id, "user": tag.user.name, "made_at": tag.made_at.isoformat()},
        }


class Coco:
    """A list of instances, alone or in a folder with images/; a box around all of an image is a tag of all of it."""

    def __init__(self, path: Path) -> None:
        self._path = path / LIST if path.is_dir() else path
        self._content, self._digest = json_of(self._path)
        for name in ("images", "annotations", "categories"):
            rows = self._content.get(name)
            if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
                raise Refused(f"{self._path} is no COCO list: it has no list of {name}.")

    @property
    def labels(self) -> str | None:
        """See `Reader`."""
        said = self._content.get("info")
        return text_of(said.get("label_set")) or None if isinstance(said, dict) else None

    def found(self, labels: LabelSet, problems: Problems) -> Iterator[Found]:
        """See `Reader`."""
        images = {str(row.get("id")): row for row in self._content["images"]}
        words = {str(r.get("id")): text_of(r.get("name")) for r in self._content["categories"]}
        shown: dict[str, Shown] = {}
        for number, row in enumerate(self._content["annotations"], 1):
            where = f"in annotation {number} of {self._path.name}"
            image, word = (
                images.get(str(row.get("image_id"))),
                words.get(str(row.get("category_id"))),
            )
            label = label_of_word(labels, word or "")
            if image is None or label is None:
                problems.add(_unknown(row, image, word), where)
                continue
            key = str(row.get("image_id"))
            shown.setdefault(key, self._shown(image))
            try:
                outline = _outline(row)
                said = row.get("aftermap")
                made_at = moment(said.get("made_at")) if isinstance(said, dict) else None
            # Whatever numpy and shapely stumble over in what a stranger sends.
            except Exception as error:
                problems.add(f"malformed geometry: {str(error)[:80]}", where)
                continue
            square = _all_of(shown[key], outline)
            yield Found(
                tag_id(self._digest, str(number)), where, shown[key], label, square,
                outline if square is None else None, made_at=made_at,
            )  # fmt: skip

    def _shown(self, image: dict[str, Any]) -> Shown:
        name, root = text_of(image.get("file_name")), self._path.parent
        told = image.get("aftermap")
        said: dict[str, Any] = told if isinstance(told, dict) else {}
        size = image.get("height"), image.get("width")
        return Shown(
            name,
            text_of(said.get("scene_name")) or name,
            text_of(said.get("scene_digest")),
            square_of(said.get("square")),
            within(root / IMAGES, name) or within(root, name),
            size=size if all(isinstance(side, int) and side > 0 for side in size) else None,  # type: ignore[arg-type]
        )


def _unknown(row: dict[str, Any], image: dict[str, Any] | None, word: str | None) -> str:
    if image is None:
        return f"an image {str(row.get('image_id'))[:20]!r} that is not listed"
    return f"unknown label {(word or '')[:40]!r}"


def _outline(row: dict[str, Any]) -> shapely.Geometry:
    """The polygon of an annotation, else its box."""
    rings = row.get("segmentation")
    if isinstance(rings, dict):
        raise ValueError("a mask in runs, where polygons are read")
    if not rings:
        left, top, width, height = map(float, row["bbox"])
        return shapely.box(left, top, left + width, top + height)
    parts = [shapely.Polygon(np.array(ring, float).reshape(-1, 2)) for ring in rings]
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def _all_of(image: Shown, outline: shapely.Geometry) -> tuple[int, int, int] | None:
    """All of an image that is a square, where an outline is its edge."""
    if image.size is None or image.size[0] != image.size[1]:
        return None
    whole = box((0, 0, image.size[0]))
    same = outline.is_valid and outline.symmetric_difference(whole).area < _SLIVER
    return (0, 0, image.size[0]) if same else None


_SLIVER = 0.5
"""px²; what two outlines may differ by and still be the same."""
