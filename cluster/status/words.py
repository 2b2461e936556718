"""What statuses have in common when they are told to a person."""

from __future__ import annotations

import re
from collections.abc import Sequence

_DIRECTORIES = re.compile(r"(?<![\w.:/~-])(?:/[^\s/:]+)*/(?=[^\s/])")
"""What stands before the last name of an absolute path; of an address nothing."""

AGAIN = "Run the same command again to go on from here."


def listed(head: str, entries: Sequence[str], most: int, width: int) -> list[str]:
    """The first entries as lines after a head of some width, and how many more there are."""
    lines = [f"{head:<{width}} {entry}" for entry in entries[:most]]
    more = len(entries) - most
    return [*lines, f"{'':<{width}} and {more} more"] if more > 0 else lines


def without_folders(text: str) -> str:
    """A text with the last name only of every absolute path in it."""
    return _DIRECTORIES.sub("", text)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def share(done: int, total: int) -> str:
    """How many of how many, as far as that is known."""
    percent = f" ({100 * done / total:.0f} %)" if total else ""
    return f"{done} of {total or 'an unknown number'}{percent}"
