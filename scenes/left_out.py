"""What a catalog offered and is not used: reasons, counted, with a few examples each."""

from __future__ import annotations

from collections.abc import Iterator

_EXAMPLES = 3
_LENGTH = 90
_LINES = 40


class LeftOut:
    """Reasons for which images or places are not used; thousands of them stay a few lines."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[str]] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def add(self, reason: str, name: str, what: str = "image") -> None:
        """Note one more `what` (image, place, after image) by name; reasons are counted by their text."""
        key = what, reason
        self._counts[key] = self._counts.get(key, 0) + 1
        examples = self._found.setdefault(key, [])
        shown = printable(name)
        if len(examples) < _EXAMPLES and shown not in examples:
            examples.append(shown)

    def __len__(self) -> int:
        return sum(self._counts.values())

    def lines(self) -> Iterator[str]:
        """A line per reason, the most frequent first: how many, why, and a few names.

        Where each image has a reason of its own, the rest of them are one line.
        """
        order = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        rest = order[_LINES:]
        for key, count in order[:_LINES]:
            what, reason = key
            names = ", ".join(self._found[key])
            more = ", ..." if count > len(self._found[key]) else ""
            yield f"{count} {what}{'' if count == 1 else 's'}: {reason} ({names}{more})"
        if rest:
            yield f"{sum(n for _, n in rest)} more: {len(rest)} further reasons"


def printable(text: object, length: int = _LENGTH) -> str:
    """Text of a stranger's file, fit for one line of a terminal: no control characters, not long."""
    shown = "".join(c if c.isprintable() else "?" for c in str(text)[: 4 * length])
    return shown if len(shown) <= length else f"{shown[: length - 3]}..."
