"""Division without leaks: by property tests, and against the paper's own procedure on ARD tiles."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import shapely
from aftermap.scenes.ard import ArdCell
from aftermap.scenes.errors import Refused, UsageError
from aftermap.scenes.patches import PatchGrid, ard_grid
from aftermap.scenes.places import Label, Place
from aftermap.scenes.split import BUFFER, check_leaks, check_nested, divide, leaks
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

MAIN = {"train": 0.70, "validation": 0.15, "test": 0.15}
CRS = "EPSG:32637"


def square(name: str, x: float, y: float, side: float = 1.0, **words: str) -> Place:
    return Place(name, crs=CRS, box=(x, y, x + side, y + side), **words)  # type: ignore[arg-type]


def city(rows: int, cols: int, share: float = 0.2, x: float = 0, seed: int = 0) -> list[Place]:
    """Touching squares, some of them damaged."""
    damaged = np.random.default_rng(seed).random((rows, cols)) < share
    return [
        square(f"{x:g} {r} {c}", x + c, r, label="damaged" if damaged[r, c] else "intact")
        for r in range(rows)
        for c in range(cols)
    ]


def near(one: Place, other: Place, margin: float) -> bool:
    """Whether two places are neighbours, as it is defined."""
    if one.group and one.group == other.group:
        return True
    if one.box is None or other.box is None or one.crs != other.crs:
        return False
    return shapely.distance(shapely.box(*one.box), shapely.box(*other.box)) <= margin


labels = st.sampled_from(["damaged", "intact", ""])
some_places = st.lists(
    st.builds(
        lambda x, y, side, label, group, known, crs: Place(
            "",
            label,
            crs if known else "",
            (x, y, x + side, y + side) if known else None,
            group,
        ),
        st.integers(0, 30), st.integers(0, 30), st.sampled_from([1, 2, 5]), labels,
        st.sampled_from(["", "", "", "a", "b"]), st.booleans(),
        st.sampled_from([CRS, CRS, "EPSG:32636"]),
    ),
    min_size=3, max_size=60,
).map(lambda places: [replace(p, name=f"p{i:03d}") for i, p in enumerate(places)])  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(some_places, st.integers(0, 5), st.sampled_from([0.0, 1.5]), st.randoms())
def test_no_leak_ever(places: list[Place], seed: int, margin: float, random: object) -> None:
    try:
        splits = divide(places, MAIN, seed, margin)
    except Refused:  # too few groups; test_too_few_places says how many that is
        return
    assert set(splits) >= set(MAIN)
    assert leaks(places, splits, margin) == []
    for i, one in enumerate(places):
        for j in range(i):
            if near(one, places[j], margin) and BUFFER not in (splits[i], splits[j]):
                assert splits[i] == splits[j]
    order = list(range(len(places)))
    random.shuffle(order)  # type: ignore[attr-defined]
    again = divide([places[i] for i in order], MAIN, seed, margin)
    assert again == [splits[i] for i in order]


@settings(max_examples=50, deadline=None)
@given(
    some_places, st.lists(st.sampled_from(["train", "test", "", BUFFER]), min_size=60, max_size=60)
)
def test_leaks_are_all_pairs_of_neighbours_in_two_parts(
    places: list[Place], splits: list[str]
) -> None:
    splits = splits[: len(places)]
    found = {frozenset((leak.first, leak.second)) for leak in leaks(places, splits)}
    wanted = {
        frozenset((places[i].name, places[j].name))
        for i in range(len(places))
        for j in range(i)
        if {splits[i], splits[j]} == {"train", "test"} and near(places[i], places[j], 0)
    }
    assert found <= wanted
    # Of a group one pair tells as much as all of them.
    by_ground = {
        pair
        for pair in wanted
        for one, other in [sorted(pair)]
        if not places[int(one[1:])].group
        or places[int(one[1:])].group != places[int(other[1:])].group
    }
    assert by_ground <= found
    assert bool(found) == bool(wanted)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=40, max_size=120), st.integers(0, 3))
def test_small_groups_meet_the_shares_without_buffers(sizes: list[int], seed: int) -> None:
    """Blocks of one to three touching places, far apart."""
    rng = np.random.default_rng(seed)
    places = [
        square(
            f"{block} {k}", 100 * block + k, 0, label="damaged" if rng.random() < 0.3 else "intact"
        )
        for block, size in enumerate(sizes)
        for k in range(size)
    ]
    splits = divide(places, MAIN, seed)
    assert BUFFER not in splits
    for label in ("damaged", "intact"):
        mine = [s for p, s in zip(places, splits, strict=True) if p.label == label]
        for name, share in MAIN.items():
            assert abs(mine.count(name) - share * len(mine)) <= 4


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=40, max_size=120),
    st.integers(0, 3),
)
def test_what_is_counted_is_shared_out(found: list[tuple[int, int]], seed: int) -> None:
    """Places far apart with buildings of two kinds: the parts get their share, up to a place."""
    places = [Place(str(i)) for i in range(len(found))]
    counts = np.array([(*pair, not any(pair)) for pair in found])
    splits = np.array(divide(places, MAIN, seed, counts=counts))
    assert BUFFER not in splits
    for name, share in MAIN.items():
        mine = counts[splits == name].sum()
        assert abs(mine - share * counts.sum()) <= counts.sum(axis=1).max() + 0.05 * counts.sum()
    shuffled = np.random.default_rng(seed).permutation(len(places))
    again = divide([places[i] for i in shuffled], MAIN, seed, counts=counts[shuffled])
    assert again == splits[shuffled].tolist()


@pytest.mark.parametrize(("rows", "cols"), [(35, 35), (12, 90)])
def test_a_city_of_touching_places_is_cut(rows: int, cols: int) -> None:
    places = city(rows, cols)
    splits = divide(places, MAIN, 0)
    assert leaks(places, splits) == []
    count = Counter(splits)
    assert count[BUFFER] < 0.08 * len(places)
    kept = len(places) - count[BUFFER]
    for label in ("damaged", "intact"):
        mine = Counter(s for p, s in zip(places, splits, strict=True) if p.label == label)
        total = sum(mine[name] for name in MAIN)
        for name, share in MAIN.items():
            assert mine[name] / total == pytest.approx(share, abs=0.05)
    assert count["train"] / kept == pytest.approx(0.7, abs=0.04)
    # A buffer is there for a reason: its neighbours are in another part than some of the others'.
    boxes = shapely.box(*np.array([place.box for place in places]).T)
    one, other = shapely.STRtree(boxes).query(boxes, predicate="intersects")
    around: dict[int, set[str]] = {}
    for i, j in zip(one.tolist(), other.tolist(), strict=True):
        around.setdefault(i, set()).add(splits[j])
    assert all(len(around[i] - {BUFFER}) > 0 for i, s in enumerate(splits) if s == BUFFER)


def test_only_the_group_that_is_too_large_is_cut() -> None:
    places = city(30, 30) + [square(f"far {i}", 1000 + 10 * i, 0) for i in range(30)]
    splits = divide(places, MAIN, 1)
    assert BUFFER in splits[:900]
    assert BUFFER not in splits[900:]


def test_whole_cities_stay_whole_where_they_fit() -> None:
    sizes = {0: (14, 10), 1000: (7, 10), 2000: (9, 5), 3000: (5, 9)}
    places = [place for x, size in sizes.items() for place in city(*size, x=x)]
    splits = divide(places, MAIN, 0)
    assert BUFFER not in splits
    for x in sizes:
        inside = {s for p, s in zip(places, splits, strict=True) if p.name.startswith(f"{x} ")}
        assert len(inside) == 1


def test_the_papers_procedure_leaks_and_ours_does_not() -> None:
    """Shuffled keys (quadkey, patch), 70/15/15 in the order train, test, validation: section III.D as
    its authors' program has it, over four tiles that overlap by a column or row of patches."""
    quadkeys = ("031133012310", "031133012311", "031133012312", "031133012313")
    places = []
    for quadkey in quadkeys:
        grid = PatchGrid(ard_grid(ArdCell(37, quadkey)), 1024)
        places += [
            Place(f"{quadkey}_{i}", "intact", grid.crs, grid.box(i)) for i in range(len(grid))
        ]
    order = np.random.default_rng(42).permutation(len(places))
    first, second = int(0.7 * len(places)), int(0.85 * len(places))
    theirs = np.full(len(places), "train", dtype="<U10")
    theirs[order[first:second]], theirs[order[second:]] = "test", "validation"
    found = leaks(places, theirs.tolist())
    whole = [leak for leak in found if leak.area_m2 == pytest.approx(312.5**2)]
    assert len(whole) > 20, "the very same ground in two parts"
    assert "97,656 m² in common" in str(whole[0])
    with pytest.raises(Refused, match="show common ground"):
        check_leaks(places, theirs.tolist())
    ours = divide(places, MAIN, 42)
    assert leaks(places, ours) == []
    check_leaks(places, ours)


def test_pre_training_is_nested() -> None:
    places = [p for x in range(40) for p in city(2, 3, x=100 * x, seed=x)]
    main = divide(places, MAIN, 0)
    places = [replace(p, split=s) for p, s in zip(places, main, strict=True)]
    train = [p for p in places if p.split == "train"]
    parts = divide(train, {"train": 0.92, "validation": 0.04, "test": 0.04}, 0)
    inside = {p.name: s for p, s in zip(train, parts, strict=True)}
    places = [replace(p, pretrain=inside.get(p.name, "")) for p in places]
    check_nested(places)
    held = next(i for i, p in enumerate(places) if p.split == "test")
    places[held] = replace(places[held], split="", pretrain="train")
    with pytest.raises(Refused, match="pre-training"):
        check_nested(places)


def test_margins_and_degrees() -> None:
    one = Place("a", crs="EPSG:4326", box=(36.0, 37.0, 36.001, 37.001))
    other = Place("b", crs="EPSG:4326", box=(36.002, 37.0, 36.003, 37.001))
    assert leaks([one, other], ["train", "test"]) == []
    (leak,) = leaks([one, other], ["train", "test"], margin=0.002)
    assert leak.distance_m == pytest.approx(89, abs=1)
    assert leak.area_m2 == 0
    same = Place("c", crs="EPSG:4326", box=(36.0005, 37.0, 36.0015, 37.001))
    (leak,) = leaks([one, same], ["train", "test"])
    assert leak.area_m2 == pytest.approx(44.5 * 111, rel=0.01)


def test_neighbours_by_rounding_alone() -> None:
    places = [square("a", 300_000.1, 4_100_000.3, 0.3), square("b", 300_000.4, 4_100_000.3, 0.3)]
    assert places[0].box[2] != places[1].box[0]  # type: ignore[index]
    assert len(leaks(places, ["train", "test"])) == 1


def across(gap: float, rows: int = 1, cols: int = 1) -> list[Place]:
    """Squares of 300 m west and east of the meridian that parts zones 36 and 37, some metres apart."""
    places = []
    for crs, name, way in (("EPSG:32636", "west", -1), ("EPSG:32637", "east", 1)):
        x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(36.0, 37.0)
        for r, c in np.ndindex(rows, cols):
            near, low = x + way * (gap / 2 + 300 * c), y + 300 * r - 150
            far = near + way * 300
            box = (min(near, far), low, max(near, far), low + 300)
            label: Label = "damaged" if (r + c) % 3 else "intact"
            places.append(Place(f"{name} {r} {c}", label, crs, box))
    return places


def test_neighbours_in_two_zones() -> None:
    """There is no common grid: they are neighbours where no other place fits between them."""
    (leak,) = leaks(across(-100), ["train", "test"])
    assert leak.area_m2 == pytest.approx(100 * 300, rel=0.03)
    (leak,) = leaks(across(100), ["train", "test"])
    assert (leak.area_m2, leak.distance_m) == (
        0,
        pytest.approx(90, abs=1.5),
    )  # turned by 3.6 degrees
    assert leaks(across(330), ["train", "test"]) == []
    assert len(leaks(across(330), ["train", "test"], margin=100)) == 1
    assert leaks(across(100), ["train", "train"]) == []
    odd = replace(across(100)[0], crs="nowhere")
    assert leaks([odd, across(100)[1]], ["train", "test"]) == []


def test_a_city_across_a_zones_edge_is_cut_without_leaks() -> None:
    places = across(40, rows=12, cols=8)
    splits = divide(places, MAIN, 0)
    assert set(splits) >= set(MAIN)
    assert splits.count(BUFFER) < 0.3 * len(places)
    boxes = shapely.box(*np.array([place.box for place in places]).T)
    move = Transformer.from_crs("EPSG:32637", "EPSG:32636", always_xy=True).transform
    east = np.array([place.crs == "EPSG:32637" for place in places])
    boxes[east] = shapely.transform(
        boxes[east], lambda xy: np.column_stack(move(xy[:, 0], xy[:, 1]))
    )
    for one, other in zip(*np.triu_indices(len(places), 1), strict=True):
        if splits[one] != splits[other] and BUFFER not in (splits[one], splits[other]):
            assert shapely.distance(boxes[one], boxes[other]) > 290


def test_groups_hold_together_without_ground() -> None:
    places = [Place(f"{i}", group=f"g{i % 6}") for i in range(60)]
    splits = divide(places, MAIN, 0)
    for number in range(6):
        assert len(set(splits[number::6])) == 1
    (leak, *_) = leaks(places, [*["train"] * 59, "test"])
    assert "one group" in str(leak)


def test_too_few_places() -> None:
    assert divide([], MAIN, 0) == []
    assert sorted(divide([Place("a"), Place("b"), Place("c")], MAIN, 0)) == sorted(MAIN)
    with pytest.raises(Refused, match=r"2 places in 2 groups .* nothing is left for"):
        divide([Place("a"), Place("b")], MAIN, 0)
    with pytest.raises(Refused, match="in 1 groups"):
        divide([Place(f"{i}", group="g") for i in range(50)], MAIN, 0)


@pytest.mark.parametrize("shares", [{}, {"train": 0.0, "test": 1.0}, {BUFFER: 1.0}, {"": 1.0}])
def test_shares_that_are_none(shares: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="no shares"):
        divide([Place("a")], shares, 0)
    with pytest.raises(UsageError, match="margin"):
        leaks([square("a", 0, 0)], ["train"], margin=-1)


def test_a_hundred_thousand_places() -> None:
    values: list[Label] = ["damaged", "intact", ""]
    places = city(220, 230) + [
        square(f"far {i}", 1000 + 3 * i, 0, label=values[i % 3]) for i in range(50_000)
    ]
    began = time.monotonic()
    splits = divide(places, MAIN, 0)
    assert leaks(places, splits) == []
    assert time.monotonic() - began < 20
