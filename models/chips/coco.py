"""Chips labelled in the COCO format: images before and after, and one list of instances or several."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from ...scenes.errors import Refused
from ...scenes.layer import NOT_ANALYSED
from ...scenes.legend import LEGEND, UNGRADED
from ...scenes.places import Place
from ...scenes.xbd import SUBTYPES
from .chipset import After, ChipSet, Record
from .folders import FOLDERS, SPLITS, by_place
from .instances import CocoMask, Instances, read_instances
from .names import grounds, is_dated, place_name
from .picture import FilePicture, is_image
from .polygons import label_of

LIST = "annotations.json"
LISTS = "annotations"
"""A file, or a folder of files, beside the folders of images."""

_LARGEST = 1 << 30
"""No list is read that is larger, bytes: it is held in memory whole."""

_WORDS = {re.sub(r"[^a-z0-9]", "", row.name.lower()): row.code for row in LEGEND} | {
    re.sub(r"[^a-z0-9]", "", name): code for name, code in SUBTYPES.items()
}
_WORDS |= {"undamaged": 1, "intact": 1, "minor": 2, "major": 3, "unknown": NOT_ANALYSED}
"""Damage codes by names of categories, their letters and digits alone."""


@dataclass(frozen=True, eq=False)
class _Shot:
    """An annotated image, and the part that its list belongs to."""

    post: Path
    mask: CocoMask
    split: str


def read_coco(root: Path) -> ChipSet | None:
    """The chips of a folder with images before and after, and instances of the after images.

    The folders are pre/ and post/ or A/ and B/; the instances `LIST`, or all files in `LISTS`, whose
    names may hold train, val or test as a word. None if there are no such, or masks besides. A place
    is an image of a list; images of no list are left out. A category's name says which damage code it
    is: a name of the legend or of xBD, or a word like damaged (5); a category that is called by its
    number, or not at all, is that code.

    Raises Refused for lists that are none, names that lead out of the folder, unknown categories,
    and images without a partner.
    """
    folders = _folders(root)
    lists = _lists(root)
    if folders is None or not lists:
        return None
    before, after = folders
    shots: dict[str, list[_Shot]] = defaultdict(list)
    for path in lists:
        split = next(
            (SPLITS[w] for w in re.split(r"[^a-z]+", path.stem.lower()) if w in SPLITS), ""
        )
        for name, instances in _images(path):
            mask = CocoMask(f"{path}, image {str(name)!r}", instances)
            shots[_place(name, after)].append(_Shot(_file(path, after, name), mask, split))
    if not shots:
        raise Refused(f"{', '.join(map(str, lists))} lists no image. Give --data other chips.")
    ground = grounds([PurePosixPath(place).name for place in shots])
    pres = cache(by_place)
    return ChipSet(
        [
            replace(record, place=replace(record.place, crs=crs, box=box))
            for (place, own), (crs, box) in zip(shots.items(), ground, strict=True)
            for record in [_record(place, own, before, pres)]
        ],
        source=str(root),
    )


def _folders(root: Path) -> tuple[Path, Path] | None:
    found = [[root / name for name in names] for names in FOLDERS]
    pairs = [three for three in found if three[0].is_dir() and three[1].is_dir()]
    if not pairs or any(masks.is_dir() for _, _, masks in pairs):
        return None
    return pairs[0][0], pairs[0][1]


def _lists(root: Path) -> list[Path]:
    if (root / LIST).is_file():
        return [root / LIST]
    return sorted((root / LISTS).glob("*.json")) if (root / LISTS).is_dir() else []


def _place(name: PurePosixPath, after: Path) -> str:
    inner = _within(name, after)
    return str(inner.parent / place_name(inner.stem))


def _file(path: Path, after: Path, name: PurePosixPath) -> Path:
    post = after / _within(name, after)
    if not (is_image(post) and post.is_file()):
        raise Refused(
            f"{path} lists {str(name)!r}, but {post} is no PNG, TIFF or JPEG file. Give --data a "
            f"complete folder."
        )
    return post


def _within(name: PurePosixPath, after: Path) -> PurePosixPath:
    """A name without the folder of the after images, which some lists write and some do not."""
    return name.relative_to(after.name) if name.parts[0] == after.name else name


def _record(
    place: str,
    shots: list[_Shot],
    before: Path,
    by_place: Callable[[Path], Mapping[str, list[Path]]],
) -> Record:
    """A place with all its dates."""
    posts = {shot.post for shot in shots}
    dated = all(is_dated(post.stem) for post in posts)
    splits = {shot.split for shot in shots}
    if len(posts) < len(shots) or len(splits) > 1 or not (dated or len(shots) == 1):
        raise Refused(
            f"{shots[0].mask} and {shots[1].mask} are the same place twice. Remove one of the two "
            f"from the lists of --data."
        )
    folder = before / PurePosixPath(place).parent
    pres = by_place(folder).get(PurePosixPath(place).name) if folder.is_dir() else None
    if not pres:
        raise Refused(
            f"The chip {place!r} of {shots[0].post.parent} has no image of the same name in "
            f"{folder}. Give --data a complete folder."
        )
    label = label_of(frozenset().union(*(shot.mask.instances.codes for shot in shots)))
    afters = [After(FilePicture(shot.post), shot.mask) for shot in sorted(shots, key=_by_post)]
    return Record(
        Place(place, label, split=shots[0].split),
        tuple(map(FilePicture, reversed(pres))),
        tuple(afters),
    )


def _by_post(shot: _Shot) -> Path:
    return shot.post


def _images(path: Path) -> Iterator[tuple[PurePosixPath, Instances]]:
    """Name and annotations of each image of a list."""
    content = _content(path)
    of_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    try:
        for annotation in content["annotations"]:
            of_image[annotation["image_id"]].append(annotation)
        used = {a["category_id"] for every in of_image.values() for a in every}
        codes = _codes(path, content.get("categories", []), used)
        for image in content["images"]:
            name = _inside(path, image["file_name"])
            size = int(image["height"]), int(image["width"])
            yield name, read_instances(of_image.pop(image["id"], []), codes, size)
        if of_image:
            raise ValueError(f"there are annotations of an image {next(iter(of_image))!r:.40}")
    except Refused:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Refused(
            f"{path} cannot be read as COCO instances: {type(error).__name__}: {error}. It needs "
            f"images (id, file_name, width, height), annotations (image_id, category_id, "
            f"segmentation) and categories (id, name)."
        ) from error


def _content(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it has {path.stat().st_size >> 20} MiB, more than {_LARGEST >> 20}")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError, RecursionError) as error:
        raise Refused(f"{path} cannot be read as COCO instances: {error}.") from error
    return content


def _inside(path: Path, name: str) -> PurePosixPath:
    """The name of an image; Refused if it leads out of the folder."""
    inner = PurePosixPath(name)
    if inner.is_absolute() or not inner.name or ".." in inner.parts or re.search(r"[\\:\0]", name):
        raise Refused(
            f"{path} lists the image {name[:80]!r}, which does not lie in the folder of images. "
            f"Give file names within it."
        )
    return inner


def _codes(path: Path, categories: Iterable[Mapping[str, Any]], used: set[Any]) -> dict[Any, int]:
    """Damage codes of the categories that annotations use; Refused for unknown ones."""
    names = {category["id"]: str(category.get("name") or "") for category in categories}
    codes = {number: _code(number, names.get(number, "")) for number in used}
    unknown = {n: names.get(n, "") for n, code in codes.items() if code is None}
    if unknown:
        known = ", ".join(repr(row.name) for row in LEGEND if row.code)
        raise Refused(
            f"{path} has categories that are no damage levels: "
            f"{', '.join(f'{n!r} ({name[:40]!r})' for n, name in list(unknown.items())[:5])}. Name "
            f"them as in the legend ({known}), or by xBD's subtypes, or 'damaged'."
        )
    return {number: code for number, code in codes.items() if code is not None}


def _code(number: Any, name: str) -> int | None:
    if name in ("", str(number)):
        return next((row.code for row in LEGEND if row.code == number), None)
    word = re.sub(r"[^a-z0-9]", "", name.lower())
    return _WORDS.get(word, UNGRADED if re.fullmatch(r"damaged?(buildings?)?", word) else None)
