"""What is learnt from and what is tested on: a division of the ground, by its place alone, that stays."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from ...models.hash_split import percent
from ..catalog.tables import Chip, Scene, Split, SplitChip
from .votes import Voted

SPLIT = "main"
"""The name of the division in the catalog."""

TRAIN, TEST, BUFFER = "train", "test", "buffer"
"""Parts; a chip of the buffer would show ground of both, and is in neither."""

BLOCK_M = 200.0
"""Side of the blocks of ground that are for one thing or the other, m: a few houses."""

PHOTO_M = 30.0
"""How far photos see and their positions err, m."""

LEAST = 5
"""Chips of each class that each part needs."""

ASIDE = 20.0
"""Percent of the ground that is learnt from which no backbone is ever tuned on."""

_DEGREE_M = 111_320.0
"""Metres of a degree of latitude."""


@dataclass(frozen=True)
class _Spot:
    """Where a chip lies: degrees, and its side in metres; None where nobody knows."""

    lon: float | None
    lat: float | None
    reach: float


def block_of(chip: Chip, scene: Scene) -> str:
    """The name of the ground that a chip shows: a block on the earth, of a photo without position the photo.

    Images of the same ground, of other days or overlapping tiles, share their blocks.
    """
    spot = _spot(chip, scene)
    if spot.lon is None or spot.lat is None:
        return f"scene {scene.digest}"
    row = _band(spot.lat)
    width = BLOCK_M / math.cos(math.radians(min(abs((row + 0.5) * BLOCK_M / _DEGREE_M), 89.0)))
    return f"block {row} {math.floor(spot.lon * _DEGREE_M / width)}"


def kept_aside(block: str) -> bool:
    """Whether a network that is tuned is judged on this ground; by its name alone, so that it always is."""
    return percent(f"aside {block}") < ASIDE


def parts_of(session: Session, chips: Sequence[Voted], held_out: float) -> dict[int, str]:
    """The part of each chip by its number: those that they have, and for new ones that of their block.

    A new chip that shares ground with one of the other part is a buffer. Chips are looked at in the
    order of their numbers, so that the same chips have the same parts, however many are added at once.
    """
    known = _known(session)
    parts = {number: part for number, (part, _) in known.items()}
    placed = [(part, spot) for part, spot in known.values() if part != BUFFER]
    near = {part: _Ground([s for p, s in placed if p == part]) for part in (TRAIN, TEST)}
    for voted in sorted(chips, key=lambda voted: voted.chip.id):
        if voted.chip.id in parts:
            continue
        spot = _spot(voted.chip, voted.scene)
        tested = percent(block_of(voted.chip, voted.scene)) < 100 * held_out
        part, other = (TEST, TRAIN) if tested else (TRAIN, TEST)
        if near[other].touches(spot):
            part = BUFFER
        else:
            near[part].add(spot)
        parts[voted.chip.id] = part
    return {voted.chip.id: parts[voted.chip.id] for voted in chips}


def keep_parts(session: Session, parts: Mapping[int, str]) -> int:
    """Note the parts of chips that have none yet; the number of the division."""
    split = session.scalars(select(Split).where(Split.name == SPLIT)).first()
    if split is None:
        split = Split(name=SPLIT)
        session.add(split)
        session.flush()
    there = set(session.scalars(select(SplitChip.chip_id).where(SplitChip.split_id == split.id)))
    session.add_all(
        SplitChip(split_id=split.id, chip_id=chip, part=part)
        for chip, part in sorted(parts.items())
        if chip not in there
    )
    return split.id


class _Ground:
    """Squares of one part, some of which a new one may touch; by rows of blocks, to look at few."""

    def __init__(self, spots: Sequence[_Spot]) -> None:
        self._bands: dict[int, list[_Spot]] = defaultdict(list)
        self._widest = 0.0
        for spot in spots:
            self.add(spot)

    def add(self, spot: _Spot) -> None:
        """One more square; what lies nowhere touches nothing."""
        if spot.lat is not None:
            self._bands[_band(spot.lat)].append(spot)
            self._widest = max(self._widest, spot.reach)

    def touches(self, spot: _Spot) -> bool:
        """Whether a square has ground in common with one of these, taking all to lie north up."""
        if spot.lat is None:
            return False
        away = math.ceil((self._widest + spot.reach) / 2 / BLOCK_M)
        band = _band(spot.lat)
        return any(
            _touch(spot, other)
            for near in range(band - away, band + away + 1)
            for other in self._bands.get(near, ())
        )


def _band(lat: float) -> int:
    return math.floor(lat * _DEGREE_M / BLOCK_M)


def _touch(one: _Spot, other: _Spot) -> bool:
    assert one.lon is not None
    assert one.lat is not None
    assert other.lon is not None
    assert other.lat is not None
    least = (one.reach + other.reach) / 2
    east = abs(one.lon - other.lon) * _DEGREE_M * math.cos(math.radians(one.lat))
    return abs(one.lat - other.lat) * _DEGREE_M < least and east < least


def _known(session: Session) -> dict[int, tuple[str, _Spot]]:
    query = (
        select(SplitChip.part, Chip, Scene)
        .join(Split, Split.id == SplitChip.split_id)
        .join(Chip, Chip.id == SplitChip.chip_id)
        .join(Scene, Scene.id == Chip.scene_id)
        .where(Split.name == SPLIT)
    )
    return {chip.id: (part, _spot(chip, scene)) for part, chip, scene in session.execute(query)}


def _spot(chip: Chip, scene: Scene) -> _Spot:
    reach = PHOTO_M if scene.gsd_m is None else chip.side * scene.gsd_m
    return _Spot(chip.lon, chip.lat, reach)
