"""What has been read of a catalog so far: its images, and what could not be used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from .catalog import CatalogImage
from .catalog_item import Unusable, item_name, read_item
from .errors import Refused
from .left_out import LeftOut, printable

MAX_ITEMS = 100_000
"""Most items that are read of a catalog; more is a catalog of everything, not of an event."""

MAX_BYTES = 256 << 20
"""Largest file of a catalog that is read."""


@dataclass
class Reading:
    """The images found so far; items that cannot be used are noted, not raised."""

    asset: str = "visual"
    """The asset of each item that is read."""
    event: date | None = None
    """First day that counts as after; decides about images made of several days."""
    found: int = 0
    """Items seen, usable or not."""
    images: list[CatalogImage] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)
    remarks: LeftOut = field(default_factory=LeftOut)
    """What is worth knowing about images that are used."""

    def take(self, record: object, base: str) -> None:
        """Read one item found in the file `base`. Raises Refused past MAX_ITEMS."""
        self.count()
        if not isinstance(record, Mapping):
            self.left_out.add("not a GeoJSON object", f"item {self.found}")
            return
        name = item_name(record) or f"item {self.found}"
        try:
            image, remark = read_item(record, base, self.asset, self.event)
        except Unusable as reason:
            shown = f"{name}: {reason.detail}" if reason.detail else name
            self.left_out.add(str(reason), shown)
            return
        self.images.append(image)
        if remark:
            self.remarks.add(remark, name)

    def count(self) -> None:
        """Count one more item. Raises Refused past MAX_ITEMS."""
        self.found += 1
        if self.found > MAX_ITEMS:
            raise Refused(
                f"The catalog has more than {MAX_ITEMS:,} items. Give the catalog of one event, or "
                "name collections in the region file."
            )

    def lines(self) -> tuple[str, ...]:
        """What was left out and what is worth knowing, a line for each reason."""
        return (*self.left_out.lines(), *self.remarks.lines())


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file of a catalog; raises Refused, in words, for anything else."""
    try:
        return json_object(read_text(file))
    except Unusable as reason:
        raise Refused(f"{file} cannot be read as a catalog: {reason}.") from None


def read_text(file: Path) -> str:
    """The text of a catalog's file of at most MAX_BYTES; raises Unusable with the reason."""
    try:
        if not file.is_file():
            raise Unusable("it does not exist" if not file.exists() else "it is not a file")
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise Unusable(f"it has {size:,} bytes, and at most {MAX_BYTES:,} are read")
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise Unusable(f"{error.strerror}") from error
    except UnicodeDecodeError:
        raise Unusable("it is not text in UTF-8") from None


def json_object(text: str) -> dict[str, Any]:
    """Text as a JSON object; raises Unusable for other text, in words."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        start = printable(text.lstrip()[:40])
        raise Unusable(
            "it is empty" if not start else f"it is not JSON (it begins with {start!r})"
        ) from None
    if not isinstance(content, dict):
        raise Unusable(f"it holds a JSON {type(content).__name__}, not an object")
    return content


def describe(content: Mapping[str, Any]) -> str:
    """What a JSON object seems to be, for a message that refuses it."""
    if "mosaicjson" in content:
        return "a MosaicJSON, which knows addresses but no dates"
    kind = content.get("type")
    keys = ", ".join(repr(printable(key, 30)) for key in list(content)[:5]) or "nothing"
    return f"of type {printable(kind, 30)!r}" if kind else f"an object with {keys}"
