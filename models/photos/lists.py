"""The lists with which the Damage Image Dataset (DAD) says which photos are for what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...scenes.errors import Refused
from .names import SPLITS

SUFFIXES = (".train", ".dev", ".test")
"""Of the lists: `<event>.train`, `<event>.dev` and `<event>.test`."""

_DEGREES = {"0": False, "1": True, "2": True}
"""Numbers of none, mild and severe, and whether they are damage."""


@dataclass(frozen=True)
class Listed:
    """A photo as a list names it."""

    split: str
    damaged: bool
    where: str
    """The list and the line, for messages."""


def read_lists(files: Iterable[Path]) -> dict[str, Listed]:
    """What lists say, by the photos' file names, which are unique in DAD.

    A line is a path and 0 (none), 1 (mild) or 2 (severe). Raises Refused for other lines, and for a
    photo that stands in two parts or under two degrees.
    """
    found: dict[str, Listed] = {}
    for file in files:
        for name, entry in _lines(file):
            other = found.setdefault(name, entry)
            if (other.split, other.damaged) != (entry.split, entry.damaged):
                raise Refused(
                    f"{name} stands in {other.where} and, otherwise, in {entry.where}: what is "
                    f"tested on must not be learnt from. Mend the lists, or change --data."
                )
    return found


def _lines(file: Path) -> Iterator[tuple[str, Listed]]:
    split = SPLITS[file.suffix[1:]]
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"The list {file} cannot be read: {error}.") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, degree = line.strip().replace("\t", " ").rpartition(" ")
        if not name or degree not in _DEGREES:
            raise Refused(
                f"{file}, line {number}, is {line[:60]!r}; a path and 0, 1 or 2 were expected. Mend "
                f"the list, or change --data."
            )
        yield (
            PurePosixPath(name.strip()).name,
            Listed(split, _DEGREES[degree], f"{file.name}, line {number}"),
        )
