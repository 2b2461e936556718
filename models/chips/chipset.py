"""Sets of chips: places with their images before and after, and what their masks mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ...scenes.errors import Refused
from ...scenes.layer import NOT_ANALYSED
from ...scenes.legend import UNGRADED
from ...scenes.places import Place
from ..metrics import DAMAGED
from .chip import Chip, without_nodata
from .picture import Picture

Coding = Literal["codes", "binary"]
"""What masks hold: damage codes, or damaged (anything but 0) and not."""


@dataclass(frozen=True)
class After:
    """An image from after the event, and its mask where it has one."""

    image: Picture
    mask: Picture | None = None


@dataclass(frozen=True)
class Record:
    """A place with its images: at least one before and one after, the one to prefer first."""

    place: Place
    pres: tuple[Picture, ...]
    posts: tuple[After, ...]
    values: frozenset[int] | None = None
    """What the masks hold, by `ChipSet.scanned`; None: not looked at."""


class ChipSet:
    """Chips of places: each chip is a place, of whose dates two are taken.

    A place without a mask counts as undamaged all over where it is labelled intact; otherwise
    nothing is known of its pixels (255).
    """

    def __init__(
        self, records: Sequence[Record], coding: Coding = "codes", source: str = ""
    ) -> None:
        self.records = tuple(records)
        self.coding: Coding = coding
        self.source = source
        """Where they come from, for messages."""

    def __len__(self) -> int:
        return len(self.records)

    @property
    def places(self) -> tuple[Place, ...]:
        """The ground of each chip."""
        return tuple(record.place for record in self.records)

    @property
    def values(self) -> frozenset[int]:
        """The damage codes that occur in the masks; undamaged places without one count as 0."""
        return frozenset().union(*(self._codes(record) for record in self.records))

    def damaged(self, index: int) -> bool | None:
        """Whether a place shows damage, by its label or else by its masks."""
        record = self.records[index]
        if record.place.label:
            return record.place.label == "damaged"
        if record.values is None or not any(after.mask for after in record.posts):
            return None
        return bool(self._codes(record) & set(DAMAGED))

    def chip(self, index: int, rng: np.random.Generator | None = None) -> Chip:
        """Read a chip; raises Refused if its three pictures differ in size or cannot be read.

        `rng` draws one of the dates before, and one after with its mask, as paper 001 does.
        """
        record = self.records[index]
        pre_picture = record.pres[0 if rng is None else int(rng.integers(len(record.pres)))]
        after = record.posts[0 if rng is None else int(rng.integers(len(record.posts)))]
        pre, post = pre_picture.read(3), after.image.read(3)
        mask = self._mask(record, after)
        codes = np.full(post.shape[1:], self._unmasked(record), np.uint8) if mask is None else mask
        name = record.place.name
        if not pre.shape[1:] == post.shape[1:] == codes.shape:
            raise Refused(
                f"The chip {name!r} of {self.source} has files of different sizes: "
                f"before {pre.shape[1:]}, after {post.shape[1:]}, mask {codes.shape} px."
            )
        return Chip(pre, post, without_nodata(pre, post, codes), self.damaged(index), name)

    def codes(self, index: int) -> np.ndarray:
        """The damage codes of a place's first date after, (h, w); of one pixel where no mask has them."""
        record = self.records[index]
        mask = self._mask(record, record.posts[0])
        return np.full((1, 1), self._unmasked(record), np.uint8) if mask is None else mask

    def subset(self, indices: Sequence[int]) -> ChipSet:
        """Some of the chips, in the order given; masks keep their meaning."""
        return ChipSet([self.records[i] for i in indices], self.coding, self.source)

    def part(self, split: str) -> ChipSet:
        """The chips whose place says that it belongs to a part of the main training."""
        return self.subset([i for i, p in enumerate(self.places) if p.split == split])

    def placed(self, places: Sequence[Place]) -> ChipSet:
        """The same chips with other words on their places."""
        records = [replace(r, place=p) for r, p in zip(self.records, places, strict=True)]
        return ChipSet(records, self.coding, self.source)

    def scanned(self) -> ChipSet:
        """The same chips, their masks looked at: `values` of each record are what they hold."""
        return ChipSet(
            [r if r.values is not None else replace(r, values=_held(r)) for r in self.records],
            self.coding,
            self.source,
        )

    @property
    def _binary(self) -> bool:
        return self.coding == "binary"

    def _mask(self, record: Record, after: After) -> np.ndarray | None:
        """An image's damage codes, (h, w)."""
        if after.mask is None:
            return None
        mask = after.mask.read(1)[0]
        return np.where(mask > 0, UNGRADED, 0).astype(np.uint8) if self._binary else mask

    @staticmethod
    def _unmasked(record: Record) -> int:
        """The code of a place without a mask."""
        return 0 if record.place.label == "intact" else NOT_ANALYSED

    def _codes(self, record: Record) -> frozenset[int]:
        held = record.values or frozenset()
        if record.place.label == "intact" and any(a.mask is None for a in record.posts):
            held |= {0}
        return frozenset(UNGRADED if v else 0 for v in held) if self._binary else held


def _held(record: Record) -> frozenset[int]:
    """All values of a record's masks."""
    found = np.zeros(256, bool)
    for after in record.posts:
        if after.mask is not None:
            found[np.unique(after.mask.read(1)[0])] = True
    return frozenset(np.flatnonzero(found).tolist())


def coded(chips: ChipSet, classes: int) -> ChipSet:
    """Scan masks of unknown coding and settle what they mean for `classes` (1 or 5).

    For five classes masks hold the codes 0-4, and 255 for pixels to leave out. For one class masks
    hold 0/1 or 0/255 (damaged), or codes, of which 2-5 are damaged. What they hold is found over
    all masks at once. Raises Refused for other values, and where no level can be learnt.
    """
    chips = chips.scanned()
    values = frozenset().union(*(r.values or frozenset() for r in chips.records))
    found = ", ".join(map(str, sorted(values)))
    if classes == 1 and (values <= {0, 1} or values <= {0, 255}):
        return ChipSet(chips.records, "binary", chips.source)
    allowed = {0, 1, 2, 3, 4, 255} | ({5} if classes == 1 else set())
    if not values <= allowed:
        raise Refused(
            f"The masks of {chips.source} hold the values {found}; allowed are "
            f"{', '.join(map(str, sorted(allowed)))}. Give --data other chips."
        )
    if classes == 5 and not values & {2, 3, 4}:
        raise Refused(
            f"The masks of {chips.source} hold the values {found}: no damage levels 2-4 to "
            f"learn. Give --data other chips, or train with --classes 1."
        )
    return chips
