"""Division of places into training, validation and test parts that share no ground."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import shapely
from pyproj import CRS, Geod
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .errors import Refused, UsageError
from .places import TOUCH, Place, centres, neighbours, outlines

BUFFER = "buffer"
"""What places are called that lie between two parts and belong to none."""

SLACK = 0.05
"""Share of all places by which a part may be overfilled before a group of neighbours is cut."""


@dataclass(frozen=True)
class Leak:
    """Two places in different parts that show common ground, or ground too near."""

    first: str
    second: str
    splits: tuple[str, str]
    area_m2: float
    """Of the ground in common; 0 where they only touch or are near."""
    distance_m: float
    """Between the two; NaN where only their group says that they belong together."""

    def __str__(self) -> str:
        if math.isnan(self.distance_m):
            how = "are of one group"
        elif self.area_m2:
            how = f"have {self.area_m2:,.0f} m² in common"
        else:
            how = f"lie {self.distance_m:g} m apart" if self.distance_m else "touch"
        return f"{self.first} ({self.splits[0]}) and {self.second} ({self.splits[1]}) {how}"


def divide(
    places: Sequence[Place],
    shares: Mapping[str, float],
    seed: int,
    margin: float = 0.0,
    counts: np.ndarray | None = None,
) -> list[str]:
    """The part that each place belongs to: a name of `shares`, or "buffer".

    Places whose boxes overlap, touch or are at most `margin` (units of the CRS) apart are neighbours
    (`places.neighbours`), as are those of one `group`; neighbours are never in different parts. Groups of
    neighbours go to one part each, so that all parts get the same share of each label, as closely
    as whole groups allow. A group too large for any part is cut across its longer axis, and places
    on one side of the cut with neighbours on the other become buffers. The result depends on names,
    boxes and `seed`, not on the order of the places.

    `counts` says what is shared out in the place of labelled places: (places, kinds), such as the
    buildings of each kind that stand at a place; nothing of it may be negative.

    Raises UsageError for shares that are none, Refused where a part would get no place.
    """
    wanted = _checked(shares)
    if not places:
        return []
    order = sorted(range(len(places)), key=lambda i: (places[i].name, places[i].box or ()))
    ordered = [places[i] for i in order]
    shared = _by_label(ordered) if counts is None else counts[order]
    units = _Units.of(ordered, shared, margin)
    dealer = _Dealer(units, np.array(list(wanted.values())), np.random.default_rng(seed))
    dealer.deal()
    names = (*wanted, BUFFER)
    splits = [""] * len(places)
    for position, place in enumerate(order):
        splits[place] = names[dealer.part[units.of_place[position]]]
    _check_filled(splits, wanted, dealer.groups)
    return splits


def leaks(places: Sequence[Place], splits: Sequence[str], margin: float = 0.0) -> list[Leak]:
    """Pairs of neighbours (see `divide`) in different parts; buffers and undivided places are in none."""
    inside = [i for i, split in enumerate(splits) if split not in ("", BUFFER)]
    kept, parts = [places[i] for i in inside], [splits[i] for i in inside]
    codes = np.unique(parts, return_inverse=True)[1] if parts else np.empty(0, int)
    pairs = neighbours(kept, margin)
    apart = pairs[codes[pairs[:, 0]] != codes[pairs[:, 1]]]
    found = [
        _leak(kept[i], kept[j], (parts[i], parts[j]), near=True) for i, j in np.sort(apart).tolist()
    ]
    known = {tuple(pair) for pair in np.sort(apart).tolist()}
    for i, j in _of_one_group(kept):
        if parts[i] != parts[j] and (i, j) not in known:
            found.append(_leak(kept[i], kept[j], (parts[i], parts[j]), near=False))
    return found


def check_leaks(places: Sequence[Place], splits: Sequence[str], margin: float = 0.0) -> None:
    """Raise Refused, naming examples, where neighbours are in different parts."""
    found = leaks(places, splits, margin)
    if found:
        raise Refused(
            f"{len(found):,} pairs of places in different parts show common ground, so what is "
            f"learnt on one part is tested on ground that it has seen: "
            f"{'; '.join(map(str, found[:3]))}{'; ...' if len(found) > 3 else '.'} "
            "Divide the places anew, neighbours together."
        )


def check_nested(places: Sequence[Place], margin: float = 0.0) -> None:
    """Check the parts of the main training, those of pre-training, and that pre-training shows no
    ground of the main validation or test part. Raises Refused."""
    check_leaks(places, [place.split for place in places], margin)
    check_leaks(places, [place.pretrain for place in places], margin)
    held_out = ("validation", "test")
    check_leaks(
        places,
        [
            "pre-training"
            if place.pretrain not in ("", BUFFER)
            else place.split * (place.split in held_out)
            for place in places
        ],
        margin,
    )


@dataclass(frozen=True)
class _Units:
    """What is never separated: a place, or all places of one group; and which are neighbours."""

    of_place: np.ndarray
    """Unit of each place."""
    counts: np.ndarray
    """What is shared out, (units, kinds)."""
    centres: np.ndarray
    """x, y, (units, 2); NaN where the ground is not known."""
    edges: np.ndarray
    """Pairs of neighbours, (edges, 2)."""

    @classmethod
    def of(cls, places: Sequence[Place], shared: np.ndarray, margin: float) -> _Units:
        keys = [(1, p.group) if p.group else (0, i) for i, p in enumerate(places)]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        of_place = np.array([numbers[key] for key in keys])
        shared = shared[:, shared.any(axis=0)]
        counts = np.zeros((len(numbers), shared.shape[1]))
        np.add.at(counts, of_place, shared)
        middles = np.full((len(numbers), 2), np.nan)
        # A unit stands where its last place is; only the order along an axis follows from it.
        middles[of_place] = centres(places)
        edges = of_place[neighbours(places, margin)]
        edges = np.unique(np.sort(edges[edges[:, 0] != edges[:, 1]]), axis=0)
        return cls(of_place, counts, middles, edges.reshape(-1, 2))


class _Dealer:
    """Deals groups of units out to parts, the largest first."""

    def __init__(self, units: _Units, shares: np.ndarray, rng: np.random.Generator) -> None:
        self.units = units
        self.totals = units.counts.sum(axis=0)
        self.need = np.outer(shares, self.totals)
        """What each part still wants, (parts, kinds)."""
        self.filled = np.zeros(len(shares), bool)
        self.part = np.full(len(units.counts), -1)
        """The part of each unit; the number of parts stands for buffers."""
        self.members = self._connected(rng)
        self.groups = len(self.members)

    def deal(self) -> None:
        """Give every unit a part."""
        slack = SLACK * self.totals.sum()
        for number, (members, edges) in enumerate(self.members):
            counts = self.units.counts[members].sum(axis=0)
            left = self.groups - number - 1
            size = counts.sum()
            room = self.need.sum(axis=1)
            fits = (size <= room + slack) | (size == 1)
            if not fits.any() and len(members) > 1 and self._cut(members, edges, left, slack):
                continue
            scarce = left < (~self.filled).sum()
            allowed = ~self.filled if scarce and not self.filled.all() else fits
            self._give(members, self._best(counts, allowed if allowed.any() else ~allowed))

    def _connected(self, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
        """Units and edges of each group of neighbours: the largest first, equals by chance."""
        count, edges = len(self.part), self.units.edges
        links = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
        groups, label = connected_components(links, directed=False)
        units = np.split(np.argsort(label, kind="stable"), _ends(label, groups))
        lines = label[edges[:, 0]]
        of_group = np.split(edges[np.argsort(lines, kind="stable")], _ends(lines, groups))
        size = np.bincount(label, weights=self.units.counts.sum(axis=1), minlength=groups)
        order = np.lexsort((rng.permutation(groups), -size))
        return [(units[g], of_group[g]) for g in order]

    def _best(self, counts: np.ndarray, allowed: np.ndarray) -> int:
        """The part that wants such a group most."""
        wish = (self.need * (counts / self.totals)).sum(axis=1)
        return int(np.argmax(np.where(allowed, wish, -np.inf)))

    def _give(self, members: np.ndarray, part: int) -> None:
        self.part[members] = part
        self.need[part] -= self.units.counts[members].sum(axis=0)
        self.filled[part] = True

    def _cut(self, members: np.ndarray, edges: np.ndarray, left: int, slack: float) -> bool:
        """Cut a group among the parts that want places; False where that costs more than it is worth."""
        room = self.need.sum(axis=1)
        parts = np.flatnonzero((room > slack) | ~self.filled)
        if len(parts) < 2:
            return False
        pieces = dict(self._pieces(members, edges, parts.tolist()))
        counts = self.units.counts.sum(axis=1)
        lost = counts[members].sum() - sum(counts[piece].sum() for piece in pieces.values())
        excess = counts[members].sum() - room.max()
        if lost >= excess and left >= (~self.filled).sum() - 1:
            return False
        self.part[members] = len(room)
        for part, piece in pieces.items():
            if len(piece):
                self._give(piece, part)
        return True

    def _pieces(
        self, members: np.ndarray, edges: np.ndarray, parts: list[int]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Parts with their pieces of a group; what is in none is a buffer.

        One part is cut off after the other: that part, and from that end, with which labels are
        shared out best and the fewest places are lost.
        """
        while len(parts) > 1 and len(members):
            line = members[self._along(members)]
            cuts = [
                self._cut_off(line[::step], edges, part, parts)
                for part in parts
                for step in (1, -1)
            ]
            _, part, piece, members = min(cuts, key=lambda cut: cut[0])
            yield part, piece
            parts = [p for p in parts if p != part]
            inside = np.zeros(len(self.part), bool)
            inside[members] = True
            edges = edges[inside[edges].all(axis=1)]
        yield parts[0], members

    def _cut_off(
        self, line: np.ndarray, edges: np.ndarray, part: int, parts: list[int]
    ) -> tuple[float, int, np.ndarray, np.ndarray]:
        """Cost, part, its piece and the rest when a part is cut off the beginning of a line of units."""
        counts, weight = self.units.counts[line], 1 / np.sqrt(self.totals)
        need = np.maximum(self.need[parts], 1e-9)
        mine = np.maximum(self.need[part], 1e-9)
        heap = np.cumsum(counts @ weight)
        share = float(mine @ weight / (need @ weight).sum())
        position = int(np.argmin(np.abs(heap[:-1] - share * heap[-1]))) + 1 if len(line) > 1 else 1
        head = np.zeros(len(self.part), bool)
        head[line[:position]] = True
        across = edges[head[edges[:, 0]] != head[edges[:, 1]]]
        loses_head = share > 0.5
        lost = np.zeros(len(self.part), bool)
        lost[across[head[across] == loses_head]] = True
        piece, rest = (units[~lost[units]] for units in (line[:position], line[position:]))
        target = counts.sum(axis=0) * mine / need.sum(axis=0)
        error = np.abs(self.units.counts[piece].sum(axis=0) - target) @ weight
        cost = error + self.units.counts[lost].sum() / math.sqrt(self.totals.sum())
        return float(cost), part, piece, rest

    def _along(self, members: np.ndarray) -> np.ndarray:
        """The order of units along the longer axis of their ground."""
        x, y = np.nan_to_num(self.units.centres[members]).T
        return np.lexsort((members, y, x) if np.ptp(x) >= np.ptp(y) else (members, x, y))


def _by_label(places: Sequence[Place]) -> np.ndarray:
    """One for each place, under its label: (places, labels)."""
    labels = np.unique([place.label for place in places], return_inverse=True)[1]
    return np.eye(labels.max() + 1)[labels]


def _ends(labels: np.ndarray, groups: int) -> np.ndarray:
    return np.cumsum(np.bincount(labels, minlength=groups))[:-1]


def _checked(shares: Mapping[str, float]) -> dict[str, float]:
    """The shares, made to add up to 1."""
    total = sum(shares.values())
    sound = shares and all(0 < s < math.inf for s in shares.values()) and BUFFER not in shares
    if not sound or "" in shares:
        raise UsageError(
            f"{dict(shares)!r} are no shares: give a number above 0 for each part, by names other "
            f"than {BUFFER!r}."
        )
    return {name: share / total for name, share in shares.items()}


def _check_filled(splits: Sequence[str], shares: Mapping[str, float], groups: int) -> None:
    empty = [name for name in shares if name not in splits]
    if empty:
        asked = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        raise Refused(
            f"{len(splits):,} places in {groups:,} groups of neighbours cannot be divided into "
            f"{asked}: nothing is left for {', '.join(empty)}. Give more places, or places that lie "
            "further apart."
        )


def _of_one_group(places: Sequence[Place]) -> Iterator[tuple[int, int]]:
    """Pairs of places, by number, that link all places of each group."""
    groups: dict[str, list[int]] = {}
    for i, place in enumerate(places):
        if place.group:
            groups.setdefault(place.group, []).append(i)
    for members in groups.values():
        yield from pairwise(members)


def _leak(first: Place, second: Place, splits: tuple[str, str], near: bool) -> Leak:
    if not near or first.box is None or second.box is None:
        return Leak(first.name, second.name, splits, 0.0, math.nan)
    here, there = (outlines([place], first.crs)[0] for place in (first, second))
    reach = TOUCH * float(np.abs([here.bounds, there.bounds]).max())
    common = shapely.intersection(here, there)
    west, south, east, north = common.bounds  # NaN where nothing is in common
    if east - west > reach and north - south > reach:
        return Leak(first.name, second.name, splits, _area(first.crs, common), 0.0)
    gap = shapely.shortest_line(here, there)
    apart = _length(first.crs, gap) if gap.length > reach else 0.0
    return Leak(first.name, second.name, splits, 0.0, apart)


def _area(crs: str, shape: shapely.Geometry) -> float:
    """Square metres of a polygon."""
    metres, geod = _units(crs)
    if geod is None:
        return shape.area * metres**2
    return abs(geod.geometry_area_perimeter(shape)[0])


def _length(crs: str, line: shapely.LineString) -> float:
    """Metres of a line."""
    metres, geod = _units(crs)
    return line.length * metres if geod is None else geod.geometry_length(line)


@lru_cache(maxsize=64)
def _units(crs: str) -> tuple[float, Geod | None]:
    """Metres per unit of a coordinate system; the ellipsoid where its units are degrees."""
    if not crs:
        return 1.0, None
    system = CRS.from_user_input(crs)
    if system.is_geographic:
        return 1.0, system.get_geod()
    return system.axis_info[0].unit_conversion_factor, None
