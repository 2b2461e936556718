"""Chips in folders of images: one folder before, one after, one with masks, matched by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ...scenes.errors import Refused
from ...scenes.places import Label, Place
from .chipset import After, ChipSet, Record
from .names import grounds, is_dated, place_name
from .picture import FilePicture, is_image

FOLDERS = (
    ("pre", "post", "mask"),
    ("pre", "post", "masks"),
    ("A", "B", "label"),
    ("img_pre", "img_post", "gt_post"),
)
"""Names of the folders before, after and masks: ours, those of the study of paper 001, of LEVIR-CD
and of xBD as it is often handed on."""

SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
"""Folders around those, which say what part of a data set the chips belong to; also the names of
lists of files that say so (.txt)."""

LABELS: dict[str, Label] = {"damaged": "damaged", "intact": "intact"}
"""Folders around those, which say what the chips show; those of the study of paper 001."""


@dataclass(frozen=True)
class _Trio:
    """Folders that belong together, and what their own folder says about the chips in them."""

    before: Path
    after: Path
    masks: Path | None
    prefix: str = ""
    split: str = ""
    label: Label = ""


def read_folders(root: Path) -> ChipSet | None:
    """The chips of a folder as described at `FOLDERS`, or None if it is none.

    The three folders may lie in folders called as in `SPLITS` or `LABELS`; lists train.txt, val.txt
    and test.txt, in the folder or in list/ within, name the files of each part. Images are PNG, TIFF
    or JPEG, uint8, of three bands or more (the first three count). Several images with dates in their
    names (`names.STUDY`) are dates of one place, each after image with its own mask. Without a folder
    of masks nothing is known of the pixels, except that a place labelled intact is undamaged.

    Raises Refused where an image or mask has no partner, and where two files are the same image.
    """
    trios = list(_trios(root))
    if not trios:
        return None
    records = [record for trio in trios for record in _records(trio)]
    if not records:
        raise Refused(f"{root} holds no PNG, TIFF or JPEG files. Give --data a folder with chips.")
    # Lists are of the chips in the folder itself; others have their part from their own folder.
    plain = {record.place.name for record in records if "/" not in record.place.name}
    listed = _listed(root, plain) if plain else {}
    splits = {name: listed.get(name, "") for name in plain} if listed else {}
    places = [record.place for record in records]
    ground = grounds([place.name.rpartition("/")[2] for place in places])
    placed = [
        replace(place, crs=crs, box=box, split=splits.get(place.name, place.split))
        for place, (crs, box) in zip(places, ground, strict=True)
    ]
    return ChipSet(records, source=str(root)).placed(placed)


def by_place(folder: Path) -> dict[str, list[Path]]:
    """The images of a folder by place, in the order of their names.

    Raises Refused where a place has several, but no dates tell them apart.
    """
    places: dict[str, list[Path]] = defaultdict(list)
    for path in _images(folder):
        same = places[place_name(path.stem)]
        if same and (same[-1].stem == path.stem or not is_dated(path.stem)):
            raise Refused(
                f"{path} and {same[-1].name} are the same image twice. Remove one of them from "
                f"--data."
            )
        same.append(path)
    return dict(places)


def _trios(root: Path) -> Iterator[_Trio]:
    outers: list[tuple[Path, str, Label]] = [(root, "", "")]
    outers += [(root / name, split, "") for name, split in SPLITS.items()]
    outers += [(root / name, "", label) for name, label in LABELS.items()]
    for outer, split, label in outers:
        prefix = "" if outer == root else f"{outer.name}/"
        found = [[outer / name for name in names] for names in FOLDERS]
        # Those with masks come first: pre/ and post/ may go with mask/ or with masks/.
        for before, after, masks in sorted(found, key=lambda three: not three[2].is_dir()):
            if before.is_dir() and after.is_dir():
                yield _Trio(before, after, masks if masks.is_dir() else None, prefix, split, label)
                break


def _records(trio: _Trio) -> Iterator[Record]:
    pres, posts = by_place(trio.before), by_place(trio.after)
    masks = by_place(trio.masks) if trio.masks else {}
    _check_partners(trio.before, pres, trio.after, posts)
    _check_partners(trio.after, posts, trio.before, pres)
    if trio.masks:
        _check_masks(trio.masks, masks, trio.after, posts)
    for name in sorted(posts):
        afters = _afters(posts[name], masks.get(name, []))
        if trio.masks and afters[0].mask is None and trio.label != "intact":
            raise Refused(
                f"The chip {name!r} has no file in {trio.masks}; every file of {trio.after} needs "
                f"one of the same name there. Give --data a complete folder."
            )
        place = Place(trio.prefix + name, trio.label, split=trio.split)
        # The latest image before, and the earliest after, where their names tell.
        yield Record(place, tuple(map(FilePicture, reversed(pres[name]))), afters)


def _afters(posts: list[Path], masks: list[Path]) -> tuple[After, ...]:
    """Images after the event with the mask of each; those without are left out if any has one."""
    dated = {path.stem: path for path in masks if is_dated(path.stem)}
    shared = next((path for path in masks if not is_dated(path.stem)), None)
    found = [(post, dated.get(post.stem) or shared) for post in posts]
    afters = [After(FilePicture(post), FilePicture(mask) if mask else None) for post, mask in found]
    return tuple([after for after in afters if after.mask] or afters)


def _check_partners(
    here: Path, names: Mapping[str, object], there: Path, others: Mapping[str, object]
) -> None:
    lone = sorted(set(names) - set(others))
    if lone:
        raise Refused(
            f"The chip {lone[0]!r} of {here} has no file in {there}; every image needs one of the "
            f"same name there, and {len(lone)} have none. Give --data a complete folder."
        )


def _check_masks(
    folder: Path,
    masks: Mapping[str, list[Path]],
    after: Path,
    posts: Mapping[str, list[Path]],
) -> None:
    lone = [
        mask.name
        for name, paths in sorted(masks.items())
        for mask in paths
        if not any(mask.stem == p.stem or not is_dated(mask.stem) for p in posts.get(name, ()))
    ]
    if lone:
        raise Refused(
            f"The mask {lone[0]!r} of {folder} has no image of the same name in {after}; "
            f"{len(lone)} have none. Give --data a complete folder."
        )


def _listed(root: Path, names: set[str]) -> dict[str, str]:
    """The part of each place that lists of files name; empty if there are no lists."""
    parts: dict[str, str] = {}
    for folder in (root, root / "list"):
        for word, split in SPLITS.items():
            path = folder / f"{word}.txt"
            for name in _names(path) if path.is_file() else ():
                if name not in names:
                    raise Refused(
                        f"{path} names {name[:80]!r}, which is no chip of {root}. Give --data a "
                        f"complete folder."
                    )
                if parts.setdefault(name, split) != split:
                    raise Refused(
                        f"{path} names {name!r}, which another list has in the part "
                        f"{parts[name]!r}. Change the lists of {root}."
                    )
    return parts


def _names(path: Path) -> Iterator[str]:
    """The places in a list: the first word of each line, a path or a name, with a suffix or without."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"The list {path} cannot be read: {error}.") from error
    for line in lines:
        if words := line.split():
            name = words[0].replace("\\", "/").rpartition("/")[2]
            yield place_name(Path(name).stem if is_image(Path(name)) else name)


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_image(path))
