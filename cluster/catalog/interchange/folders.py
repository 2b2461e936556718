"""Tags as folders of images: A before, B after, label with a damage code in each pixel."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.features
import shapely
from PIL import Image
from shapely.geometry import shape

from ....scenes.errors import Refused
from ....scenes.layer import NOT_ANALYSED
from ....scenes.legend import LEGEND
from ....scenes.vectors import replacing_folder
from ..catalog import Catalog
from ..tables import Chip, LabelSet, Scene
from .about import about
from .codes import code_of, label_of_code, label_of_word
from .found import Found, Problems, Shown, content_of, square_of, tag_id, text_of
from .image_files import image_size, write_image
from .marks import Mark, Marks, chip_name, file_name
from .places import moved
from .target import read_about, write_about

BEFORE, AFTER, LABEL = "A", "B", "label"

LONE = "after-only"
"""The folder around B and label of what has no image before: every file in A/, B/ and label/ has its partners."""

_CODES = frozenset(row.code for row in LEGEND)


def write(catalog: Catalog, marks: Marks, path: Path, left_out: list[str]) -> dict[str, int]:
    """Write every tagged square, and every photo with polygons; returns counts."""
    pieces: dict[str, dict[str, Any]] = {}
    lost = disagreed = 0
    with replacing_folder(path) as folder:
        for scene, found in marks.by_scene():
            drawn = _Scene.of(scene, found, marks.labels)
            lost += drawn.outside_chips()
            for name, chip, said in drawn.chips:
                disagreed += len(said) > 1
                pieces[name] = _write_chip(catalog, folder, name, chip, drawn, said)
            if scene.kind == "photo" and drawn.polygons:
                pieces[file_name(scene)] = _write_photo(catalog, folder, drawn)
        write_about(folder, about(marks, "folders") | {"pieces": pieces})
    if lost:
        left_out.append(f"{lost} polygons that no tagged square touches")
    if disagreed:
        left_out.append(
            f"{disagreed} squares of which people say different things: their label is 255"
        )
    left_out.append("outlines of polygons, which become stairs of pixels; who said what, and when")
    return {"images": len(pieces)}


@dataclass(frozen=True, eq=False)
class _Scene:
    """What was said of a scene."""

    scene: Scene
    chips: Sequence[tuple[str, Chip, list[str]]]
    """Name of each square, and its labels without repetition."""
    polygons: Sequence[tuple[shapely.Geometry, int]]
    """Outline, px, and damage code, the earliest first."""
    labels: LabelSet

    @classmethod
    def of(cls, scene: Scene, marks: Sequence[Mark], labels: LabelSet) -> _Scene:
        said: dict[tuple[int, int, int], list[Mark]] = defaultdict(list)
        for mark in marks:
            if mark.square is not None:
                said[mark.square].append(mark)
        chips = [
            (chip_name(scene, square), same[0].tag.chip, sorted({mark.label for mark in same}))
            for square, same in sorted(said.items())
        ]
        polygons = [(m.outline, code_of(labels, m.label)) for m in marks if m.square is None]
        return cls(scene, [(n, chip, s) for n, chip, s in chips if chip], polygons, labels)

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree([outline for outline, _ in self.polygons])

    def outside_chips(self) -> int:
        """The polygons that nothing shows."""
        if self.scene.kind == "photo" or not self.polygons:
            return 0
        frames = shapely.STRtree([_frame(chip) for _, chip, _ in self.chips])
        return sum(not len(frames.query(one, "intersects")) for one, _ in self.polygons)

    def mask(self, chip: Chip, said: Sequence[str]) -> np.ndarray:
        """Damage codes of a square: its polygons, or where there are none what was said of all of it."""
        frame = _frame(chip)
        near = [self.polygons[k] for k in sorted(self._tree.query(frame, "intersects").tolist())]
        inside = [
            (moved(one, -chip.row, -chip.col), code)
            for one, code in near
            if not shapely.touches(one, frame)
        ]
        shape = (chip.side, chip.side)
        if inside:
            return _burnt(inside, shape)
        code = code_of(self.labels, said[0]) if len(said) == 1 else NOT_ANALYSED
        return np.full(shape, code, np.uint8)


class Folders:
    """A/, B/ and label/, or B/ and label/ alone; files of the same stem belong together."""

    def __init__(self, path: Path) -> None:
        self._root = path
        self._pieces = _pieces(path)
        said = read_about(path)
        self._said = said
        told = said.get("pieces")
        self._told: Mapping[str, Any] = told if isinstance(told, dict) else {}
        if not self._pieces:
            raise Refused(
                f"{path} holds no images in {AFTER}/ with a mask of the same name in {LABEL}/."
            )

    @property
    def labels(self) -> str | None:
        """See `Reader`."""
        return text_of(self._said.get("label_set")) or None

    def found(self, labels: LabelSet, problems: Problems) -> Iterator[Found]:
        """See `Reader`."""
        for mask, after, before in self._pieces:
            where = str(mask.relative_to(self._root))
            if after is None:
                problems.add(f"no image of the same name in {AFTER}/", where)
                continue
            try:
                codes, size = _codes(mask), image_size(after)
            except Refused as error:
                problems.add("unreadable images", f"{where}: {error}")
                continue
            if codes.shape != size:
                problems.add("a mask of another size than its image", where)
            elif strange := sorted(set(np.unique(codes).tolist()) - _CODES):
                problems.add(f"the value {strange[0]}, which is no damage code", where)
            else:
                told = self._told.get(mask.stem)
                piece = _Piece(mask, after, before, codes, told if isinstance(told, dict) else {})
                yield from piece.found(labels, problems, where)


@dataclass(frozen=True, eq=False)
class _Piece:
    """One image with its mask."""

    mask: Path
    after: Path
    before: Path | None
    codes: np.ndarray
    told: Mapping[str, Any]
    """What our own export said of it."""

    def found(self, labels: LabelSet, problems: Problems, where: str) -> Iterator[Found]:
        """What was said of all of it, and the outlines in its mask."""
        image, values = self._shown(), np.unique(self.codes).tolist()
        word = self._whole(labels, values)
        if word is not None:
            height, width = self.codes.shape
            square = (0, 0, width) if height == width else None
            outline = shapely.box(0, 0, width, height) if square is None else None
            yield Found(self._id("all"), where, image, word, square, outline)
        elif len(values) == 1 and values[0] and len(self._labels) < 2:
            problems.add(f"no label for the damage code {values[0]}", where)
        if len(values) > 1 and "polygons_in" not in self.told:
            yield from self._outlines(labels, problems, where, image)

    def _whole(self, labels: LabelSet, values: list[int]) -> str | None:
        """The label of all of it: our own word as long as the mask does not say another one."""
        said = label_of_word(labels, text_of(self._labels[0])) if len(self._labels) == 1 else None
        if said is not None and (len(values) > 1 or values[0] in (0, code_of(labels, said))):
            return said
        # Where people disagreed, 255 does not mean that somebody could not tell.
        only = values[0] if len(values) == 1 and len(self._labels) < 2 else 0
        return label_of_code(labels, only) if only else None

    @property
    def _labels(self) -> list[Any]:
        """The labels that our own export said people gave it."""
        said = self.told.get("labels")
        return said if isinstance(said, list) else []

    def _id(self, position: str) -> str:
        digests = content_of(self.mask)[1] + content_of(self.after)[1]
        digest = hashlib.sha256(digests.encode()).hexdigest()
        return tag_id(digest, f"{self.mask.stem}/{position}")

    def _outlines(
        self, labels: LabelSet, problems: Problems, where: str, image: Shown
    ) -> Iterator[Found]:
        outlines = rasterio.features.shapes(self.codes, mask=self.codes > 0, connectivity=4)
        for number, (outline, code) in enumerate(outlines):
            word = label_of_code(labels, int(code))
            if word is None:
                problems.add(f"no label for the damage code {int(code)}", where)
                continue
            key = self._id(str(number))
            yield Found(key, where, image, word, outline=shape(outline))

    def _shown(self) -> Shown:
        height, width = self.codes.shape
        return Shown(
            self.after.name, text_of(self.told.get("scene_name")), text_of(self.told.get("scene_digest")),
            square_of(self.told.get("square")), self.after, self.before, (height, width),
        )  # fmt: skip


def _write_chip(
    catalog: Catalog, folder: Path, name: str, chip: Chip, drawn: _Scene, said: list[str]
) -> dict[str, Any]:
    images = {AFTER: chip.content} | ({BEFORE: chip.before} if chip.before else {})
    outer = folder if chip.before else folder / LONE
    for kind, content in images.items():
        _made(outer / kind).joinpath(f"{name}.png").write_bytes(catalog.files.read(content))
    mask = drawn.mask(chip, said)
    Image.fromarray(mask).save(_made(outer / LABEL) / f"{name}.png")
    whole = drawn.scene.kind == "photo" and drawn.polygons
    return _facts(drawn.scene, [chip.row, chip.col, chip.side], said) | (
        {"polygons_in": file_name(drawn.scene)} if whole else {}
    )


def _write_photo(catalog: Catalog, folder: Path, drawn: _Scene) -> dict[str, Any]:
    name, scene = file_name(drawn.scene), drawn.scene
    write_image(catalog.files, scene, _made(folder / LONE / AFTER) / name)
    mask = _burnt(drawn.polygons, (int(scene.height or 0), int(scene.width or 0)))
    Image.fromarray(mask).save(_made(folder / LONE / LABEL) / f"{name}.png")
    return _facts(scene, None, [])


def _facts(scene: Scene, square: list[int] | None, said: list[str]) -> dict[str, Any]:
    return {
        "scene_name": scene.name,
        "scene_digest": scene.digest,
        "square": square,
        "labels": said,
    }


def _burnt(polygons: Sequence[tuple[shapely.Geometry, int]], size: tuple[int, int]) -> np.ndarray:
    return rasterio.features.rasterize(polygons, size, fill=0, dtype="uint8")


def _frame(chip: Chip) -> shapely.Polygon:
    return shapely.box(chip.col, chip.row, chip.col + chip.side, chip.row + chip.side)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _pieces(root: Path) -> list[tuple[Path, Path | None, Path | None]]:
    """Mask, image after and image before, of all masks in order."""
    found = []
    for outer in (root, root / LONE):
        masks, afters, befores = (_by_stem(outer / kind) for kind in (LABEL, AFTER, BEFORE))
        found += [(mask, afters.get(stem), befores.get(stem)) for stem, mask in masks.items()]
    return found


def _by_stem(folder: Path) -> dict[str, Path]:
    suffixes = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.stem: path for path in found if path.suffix.lower() in suffixes}


def _codes(path: Path) -> np.ndarray:
    """A mask, uint8 (h, w); Refused for what is no image of one band of bytes."""
    image_size(path)
    try:
        with Image.open(path, formats=("PNG", "TIFF")) as image:
            if image.mode not in ("L", "P"):
                raise ValueError(f"it is of the kind {image.mode}, not of one band of bytes")
            return np.asarray(image)
    # Decoders of malformed files raise whatever they stumble over.
    except Exception as error:
        raise Refused(f"The mask {path} cannot be read: {error}.") from error
