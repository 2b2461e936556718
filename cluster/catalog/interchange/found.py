"""Tags as the formats read them, before anybody knows whether they can be kept."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import shapely

from ....scenes.errors import Refused
from ..tables import LabelSet
from .places import Square

LARGEST = 256 << 20
"""No file of tags is read that is larger, bytes: it is held in memory whole."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "aftermap tags")


@dataclass(frozen=True)
class Shown:
    """An image that a file speaks of."""

    name: str
    """As the file calls it."""
    scene: str = ""
    """Name of the scene that it is, or is a part of."""
    digest: str = ""
    """Digest of that scene."""
    square: Square | None = None
    """The part of the scene; None for all of it."""
    path: Path | None = None
    """The image itself, where it came along."""
    before: Path | None = None
    """The image of the same ground before the event."""
    size: tuple[int, int] | None = None
    """Height and width that the file states, px."""


@dataclass(frozen=True, eq=False)
class Found:
    """One tag of a file: a square or an outline."""

    id: str
    where: str
    """In the file, in words."""
    image: Shown
    label: str
    square: Square | None = None
    """px of the image."""
    outline: shapely.Geometry | None = None
    """In px of the image, or in degrees."""
    in_degrees: bool = False
    made_at: datetime | None = None


class Reader(Protocol):
    """A file or folder of tags."""

    @property
    def labels(self) -> str | None:
        """Name of the label set that it says it is of."""
        ...

    def found(self, labels: LabelSet, problems: Problems) -> Iterator[Found]:
        """All its tags in order; what is wrong with others goes to `problems`."""
        ...


@dataclass
class Problems:
    """What cannot be imported: how often, and where first."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, where: str) -> None:
        """One more of a kind."""
        self.counts[what] += 1
        self.first.setdefault(what, where)

    def lines(self) -> list[str]:
        """One line for each kind, the commonest first."""
        return [f"{n} × {what}, first {self.first[what]}" for what, n in self.counts.most_common()]


def tag_id(digest: str, position: str) -> str:
    """The id of a tag of a file: the same whenever the file is imported."""
    return str(uuid.uuid5(_NAMESPACE, f"{digest}/{position}"))


def content_of(path: Path) -> tuple[bytes, str]:
    """The bytes of a file and their SHA-256; Refused for a file that cannot be read or is too large."""
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise Refused(
                f"{path} has {size >> 20} MiB; tags are read from at most {LARGEST >> 20}."
            )
        content = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}.") from error
    return content, hashlib.sha256(content).hexdigest()


def json_of(path: Path) -> tuple[dict[str, Any], str]:
    """The JSON object in a file, and the file's SHA-256."""
    content, digest = content_of(path)
    try:
        found = _storable(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(found, dict):
        raise Refused(f"{path} holds no JSON object.")
    return found, digest


def _storable(value: Any) -> Any:
    """The same with marks in the place of half characters, which JSON can say and no database can keep."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_storable(one) for one in value]
    if isinstance(value, dict):
        return {_storable(key): _storable(one) for key, one in value.items()}
    return value


def moment(text: Any) -> datetime | None:
    """A moment with its zone, as we write them; ValueError for anything else, None for nothing."""
    if text in (None, ""):
        return None
    when = datetime.fromisoformat(str(text))
    if when.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return when


def text_of(value: Any) -> str:
    """A text of a file; nothing for what is no text."""
    return value if isinstance(value, str) else ""


def square_of(value: Any) -> Square | None:
    """Row, column and side; None for what is not three whole numbers."""
    if not isinstance(value, list | tuple) or len(value) != 3:
        return None
    if not all(isinstance(part, int) and not isinstance(part, bool) for part in value):
        return None
    return value[0], value[1], value[2]


def within(root: Path, name: str) -> Path | None:
    """A file of a folder by its name; None where it leads out of it or is none."""
    try:
        path = (root / name).resolve()
        inside = root.resolve() in path.parents
    except (OSError, ValueError):
        return None
    return path if inside and path.is_file() else None
