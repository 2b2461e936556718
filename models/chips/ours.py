"""Chips as `aftermap chips` writes them: two tables, and images in Zarr or in folders.

    CHIPS/places.csv            a row per place: see `scenes.places`
    CHIPS/images.csv            a row per image: place, when (pre or post), date, name, mask
    CHIPS/pre|post|mask/NAME.png (or .tif), or
    CHIPS/chips.zarr/images     uint8 (n, 3, h, w), in the order of images.csv
    CHIPS/chips.zarr/masks      uint8 (m, h, w); `mask` is the number of the row

Masks hold damage codes (5: damaged, level not graded). `mask` is empty where there is none.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from ...scenes.errors import Refused
from ...scenes.places import TABLE, read_places
from ...scenes.split import check_nested
from .chipset import After, ChipSet, Record
from .picture import FilePicture, Picture, ZarrPicture

IMAGES = "images.csv"
STORE = "chips.zarr"
COLUMNS = ("place", "when", "date", "name", "mask")
"""Of images.csv."""


def read_ours(root: Path) -> ChipSet | None:
    """The chips of a folder that `aftermap chips` wrote, or None if it is none.

    The latest image before and the earliest after stand first. Places that are in no pair of
    images are passed over. Raises Refused for tables that do not fit together, and for parts that
    share ground.
    """
    table = root / IMAGES
    if not table.is_file():
        return None
    places = read_places(root / TABLE)
    try:
        check_nested(list(places.values()))  # parts may have been edited
    except Refused as error:
        raise Refused(f"The parts in {root / TABLE} leak: {error}") from None
    pres: dict[str, list[tuple[str, Picture]]] = defaultdict(list)
    posts: dict[str, list[tuple[str, After]]] = defaultdict(list)
    for number, row in enumerate(_rows(table)):
        if row["place"] not in places or row["when"] not in ("pre", "post"):
            raise Refused(
                f"{table} names the place {row['place']!r} ({row['when']!r}), which "
                f"{root / TABLE} does not have. Make the chips again."
            )
        image, mask = _pictures(root, number, row)
        if row["when"] == "pre":
            pres[row["place"]].append((row["date"], image))
        else:
            posts[row["place"]].append((row["date"], After(image, mask)))
    records = [
        Record(
            place,
            tuple(image for _, image in sorted(pres[name], key=_date, reverse=True)),
            tuple(after for _, after in sorted(posts[name], key=_date)),
        )
        for name, place in places.items()
        if pres[name] and posts[name]
    ]
    if not records:
        raise Refused(f"{root} holds no pair of images. Give --data other chips.")
    return ChipSet(records, source=str(root))


def _date(dated: tuple[str, object]) -> str:
    return dated[0]


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise ValueError(f"its columns are {reader.fieldnames}, not {list(COLUMNS)}")
            return list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise Refused(f"The table of images {table} cannot be read: {error}.") from error


def _pictures(root: Path, number: int, row: dict[str, str]) -> tuple[Picture, Picture | None]:
    store = root / STORE
    if store.is_dir():
        if row["mask"] and not row["mask"].isdecimal():
            raise Refused(
                f"{root / IMAGES}, line {number + 2}, names the mask {row['mask']!r}, which is no "
                f"number of a row of {store / 'masks'}. Make the chips again."
            )
        layer = ZarrPicture(store / "masks", int(row["mask"])) if row["mask"] else None
        return ZarrPicture(store / "images", number), layer
    # Names come from a table: they must not lead out of the folder.
    image = root / row["when"] / Path(row["name"]).name
    mask = root / "mask" / Path(row["mask"]).name if row["mask"] else None
    return FilePicture(image), FilePicture(mask) if mask else None
