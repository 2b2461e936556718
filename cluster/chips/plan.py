"""Which chips there are: kept patches that have a partner at the same ground, place by place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...models.chips.parts import MAIN, PRETRAINING
from ...scenes.errors import Refused
from ...scenes.patches import Grounds, PatchGrid
from ...scenes.places import Label, Place
from ...scenes.screen import VERDICTS
from ...scenes.split import check_nested, divide
from .screening import Screening
from .sheets import Sheet, Shot, When

PAPER = {
    "images": 1_614,
    "patches": 1_614 * 289,
    "kept": 26_188,
    "with partner": 14_562,
    "damaged places": 245,
    "intact places": 948,
}
"""What paper 001 found, sections III.A to III.C."""

Key = tuple[When, str, str]


@dataclass(frozen=True, eq=False)
class Cut:
    """A patch of one image."""

    patches: PatchGrid
    index: int
    shot: Shot
    name: str
    """Of its file, without suffix."""
    mask: str = ""
    """The file of its published mask, if it has one."""


@dataclass(frozen=True, eq=False)
class Spot:
    """A place with the patches that show it."""

    ground: int
    place: Place
    cuts: tuple[Cut, ...]
    """Before the event first, then by date and name."""

    @property
    def afters(self) -> tuple[Cut, ...]:
        """Those from after the event."""
        return tuple(cut for cut in self.cuts if cut.shot.when == "post")


@dataclass(frozen=True)
class Funnel:
    """How many patches were left after each step."""

    counts: Mapping[str, int]

    def lines(self) -> list[str]:
        """The steps for the terminal, those of the paper beside them."""
        width = max(map(len, self.counts))
        head = f"{'':<{width}}  {'here':>12}  {'paper 001':>12}"
        return [
            head,
            *(
                f"{name:<{width}}  {count:>12,}  "
                f"{format(PAPER[name], ',') if name in PAPER else '':>12}".rstrip()
                for name, count in self.counts.items()
            ),
        ]


def find_spots(
    sheets: Sequence[Sheet], grounds: Grounds, screening: Screening
) -> tuple[list[Spot], Funnel]:
    """The places at which a before and an after image were kept, in the order of their first sheet.

    An acquisition that shows a ground in two tiles counts once, from the first.
    """
    by_ground: dict[int, dict[Key, Cut]] = defaultdict(dict)
    repeated = 0
    for number, shot_number in screening.verdicts:
        sheet = sheets[number]
        shot = sheet.shots[shot_number]
        for index in screening.kept((number, shot_number)).tolist():
            ground = int(grounds.of[number][index])
            cuts = by_ground[ground]
            if shot.key in cuts:
                repeated += 1
                continue
            owner, patch = grounds.owners[ground]
            name = sheets[owner].stem(patch, shot)
            cuts[shot.key] = Cut(sheet.patches, index, shot, name)
    whole = {g: c for g, c in by_ground.items() if len({when for when, _, _ in c}) == 2}
    spots = [
        Spot(ground, _place(sheets, grounds, ground), _ordered(whole[ground]))
        for ground in sorted(whole)
    ]
    paired = sum(len(spot.cuts) for spot in spots)
    removed = {f"removed: {name}": screening.count(name) for name in VERDICTS if name != "kept"}
    kept = screening.count("kept")
    shown = {sheets[number].shots[shot].files for number, shot in screening.verdicts}
    funnel = {
        "images": len(shown),
        "patches": sum(map(len, screening.verdicts.values())),
        "not cut": screening.count("not cut"),
        "one side only": screening.count("one side only"),
        "cannot be read": screening.count("unreadable"),
        **removed,
        "kept": kept,
        "shown twice": repeated,
        "without partner": kept - repeated - paired,
        "with partner": paired,
        "places": len(spots),
    }
    return spots, Funnel(funnel)


def divided(spots: Sequence[Spot], seed: int) -> tuple[list[Spot], list[str]]:
    """The spots with their parts: of the main training for labelled ones, and of pre-training.

    Parts that cannot be made are left empty, and a note says why.
    """
    notes: list[str] = []
    places = [spot.place for spot in spots]
    if not any(place.label for place in places):
        notes.append(
            "no place is labelled, so nothing can be learnt: give --labels or --masks of this ground"
        )
    main = _parts([p for p in places if p.label], MAIN.shares, seed, "main", notes)
    places = [replace(p, split=main.get(p.name, "")) for p in places]
    train = [p for p in places if p.split == "train"]
    pretrain = _parts(train, PRETRAINING, seed, "pre-training", notes)
    places = [replace(p, pretrain=pretrain.get(p.name, "")) for p in places]
    check_nested(places)
    return [replace(spot, place=p) for spot, p in zip(spots, places, strict=True)], notes


def counted(spots: Sequence[Spot], funnel: Funnel) -> Funnel:
    """The funnel with what is known of the places."""
    labels: dict[Label, str] = {"damaged": "damaged", "intact": "intact", "": "unlabelled"}
    told = {
        f"{name} places": sum(spot.place.label == label for spot in spots)
        for label, name in labels.items()
    }
    return Funnel({**funnel.counts, **told})


def shares(spots: Sequence[Spot]) -> dict[str, dict[str, dict[str, int]]]:
    """Places in each part of the main training and of pre-training, by label."""
    table: dict[str, dict[str, dict[str, int]]] = {"main": {}, "pre-training": {}}
    for spot in spots:
        for name, part in (("main", spot.place.split), ("pre-training", spot.place.pretrain)):
            if part:
                labels = table[name].setdefault(part, {"damaged": 0, "intact": 0})
                labels[spot.place.label] = labels.get(spot.place.label, 0) + 1
    return table


def rows_of(spots: Sequence[Spot]) -> list[tuple[Spot, Cut]]:
    """Every image of every place, in the order of images.csv."""
    return [(spot, cut) for spot in spots for cut in spot.cuts]


def facts_of(spots: Sequence[Spot]) -> list[Any]:
    """What decides where each chip is stored and what is in it."""
    return [
        [spot.place.name, spot.place.label, [[cut.name, cut.mask] for cut in spot.cuts]]
        for spot in spots
    ]


def _parts(
    places: Sequence[Place], shares: Mapping[str, float], seed: int, name: str, notes: list[str]
) -> dict[str, str]:
    if not places:
        return {}
    try:
        splits = divide(places, shares, seed)
    except Refused as error:
        notes.append(f"no parts for {name}: {error}")
        return {}
    return {place.name: split for place, split in zip(places, splits, strict=True)}


def _place(sheets: Sequence[Sheet], grounds: Grounds, ground: int) -> Place:
    number, index = grounds.owners[ground]
    sheet = sheets[number]
    return Place(f"{sheet.name}_{index}", crs=sheet.patches.crs, box=sheet.patches.box(index))


def _ordered(cuts: Mapping[Key, Cut]) -> tuple[Cut, ...]:
    order = sorted(cuts, key=lambda key: (key[0] == "post", *key[1:]))
    return tuple(cuts[key] for key in order)
