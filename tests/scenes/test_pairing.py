"""Choosing pairs and dividing the ground among them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import shapely
from aftermap.scenes.ard import ArdCell
from aftermap.scenes.catalog import CatalogImage, ScenePair
from aftermap.scenes.cores import disjoint_cores
from aftermap.scenes.left_out import LeftOut
from aftermap.scenes.pairing import Choice, choose, pairs_of, slug
from catalogs import CELL, image
from hypothesis import given, settings
from hypothesis import strategies as st


def pair(
    before: list[CatalogImage], after: list[CatalogImage], **options: object
) -> tuple[tuple[ScenePair, ...], list[str]]:
    left_out = LeftOut()
    choices = choose(before, after, left_out, **options)  # type: ignore[arg-type]
    return pairs_of(choices, left_out), list(left_out.lines())


def names(pairs: tuple[ScenePair, ...]) -> list[str]:
    """The scenes' names without the digests that tell equal ones apart."""
    return [re.sub(r"-[0-9a-f]{10}$", "", p.scene_id) for p in pairs]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        # Each beats the other by the first figure that differs by a step, whatever follows.
        ({"share": 0.95, "cloud": 45, "tilt": 40, "days": 90}, {"share": 0.75}),
        ({"cloud": 5, "tilt": 40, "days": 90}, {"cloud": 15}),
        ({"tilt": 15, "days": 90}, {"tilt": 25}),
        (
            {"days": 1, "cloud": 9, "tilt": 29, "share": 0.91},
            {"days": 2, "cloud": 1, "share": 0.99},
        ),
        ({"cloud": 90}, {"cloud": None}),
        ({"tilt": 44, "days": 50}, {"tilt": None}),
    ],
)
def test_the_better_after_image_is_chosen(
    better: dict[str, float], worse: dict[str, float]
) -> None:
    defaults = {"days": 3.0, "share": 1.0, "cloud": 0.0, "tilt": 20.0}
    good, bad = ({**defaults, **given} for given in (better, worse))
    after = [image("bad", **bad), image("good", **good)]  # type: ignore[arg-type]
    pairs, told = pair([image("before", -100)], after)
    assert [p.post.name for p in pairs] == ["good"]
    assert told == ["1 image: another image of its place was chosen (37/031133012312/bad)"]


def test_the_latest_before_and_the_earliest_after_image_are_chosen() -> None:
    before = [image(f"b{d}", -d) for d in (400, 10, 30)]
    after = [image(f"a{d}", d) for d in (9, 2, 40)]
    pairs, _ = pair(before, after)
    assert (pairs[0].pre and pairs[0].pre.name, pairs[0].post.name) == ("b10", "a2")
    assert pairs[0].scene_id == "37-031133012312"
    assert pairs[0].why == (
        "Before b10 (2023-01-27, 0 % cloud, 20 degrees off nadir) and after a2 (2023-02-08, 0 % "
        "cloud, 20 degrees off nadir) together show 100 % of the tile; chosen from 3 before images "
        "and 3 after images."
    )


def test_images_are_chosen_for_each_other() -> None:
    """Each shows more alone than the pair that is chosen, but not of the same ground."""
    west, south, east, north = CELL.polygon().bounds
    middle = (west + east) / 2
    right = shapely.box(middle, south, east, north)
    before = [image("west", -5, share=0.6), replace(image("east", -9), outline=right)]
    after = [replace(image("after", 3), outline=right)]
    pairs, _ = pair(before, after)
    assert pairs[0].pre is not None
    assert pairs[0].pre.name == "east"


def test_places_without_a_partner_are_told() -> None:
    other = ArdCell(37, "031133012313")
    third = ArdCell(37, "031133012302")
    before = [image("b", -5), image("c", -5, cell=other), image("d", -5, share=0.4, cell=third)]
    after_east = replace(
        image("f", 5, cell=third),
        outline=shapely.box(*np.add(third.polygon().bounds, (0.04, 0, 0, 0))),
    )
    after = [image("e", 5, cell=ArdCell(37, "031133012303")), after_east]
    pairs, told = pair(before, after)
    assert pairs == ()
    assert sorted(told) == [
        "1 place: its before and after images show no common ground (37/031133012302)",
        "1 place: no before image of it (37/031133012303)",
        "2 places: no after image of it (37/031133012312, 37/031133012313)",
    ]


def test_a_tile_without_a_before_image_of_its_own_takes_an_untiled_one() -> None:
    west, south, east, north = CELL.polygon().bounds
    loose = [
        image("aerial", -300, box=(west - 1, south, west + 0.6 * (east - west), north)),
        image("edge", -2, box=(west - 1, south, west + 0.05 * (east - west), north)),
    ]
    pairs, told = pair(loose, [image("after", 2)])
    assert [(p.scene_id, p.pre and p.pre.name) for p in pairs] == [
        ("37-031133012312", "aerial"),
    ]  # fmt: skip
    assert pairs[0].core is not None
    assert pairs[0].core.equals(CELL.polygon())
    assert told == ["1 before image: the best before image for no after image (edge)"]


def test_methods_that_need_no_before_image_get_none() -> None:
    pairs, told = pair([], [image("late", 9), image("soon", 2)], needs_before=False)
    assert [(p.pre, p.post.name) for p in pairs] == [(None, "soon")]
    assert pairs[0].core.equals(CELL.polygon())
    assert "After soon (2023-02-08" in pairs[0].why
    assert len(told) == 1


def test_untiled_images_are_paired_by_overlap() -> None:
    before = [
        image("wide", -9, box=(36, 37, 36.5, 38)),
        image("best", -50, box=(36.2, 37, 37, 38)),
        image("corner", -1, box=(36.95, 37.95, 37.2, 38.2)),
    ]
    after = [image("after", 2, box=(36, 37, 37, 38)), image("alone", 2, box=(50, 37, 51, 38))]
    pairs, told = pair(before, after)
    assert names(pairs) == ["after"]
    assert pairs[0].pre
    assert pairs[0].pre.name == "best"
    assert pairs[0].core.equals(shapely.box(36.2, 37, 37, 38))
    assert "together show 80 % of the after image; chosen from 3 before images" in pairs[0].why
    assert sorted(told) == [
        "1 after image: no before image shows 10 % of it (alone)",
        "2 before images: the best before image for no after image (wide, corner)",
    ]


def test_of_several_after_images_of_one_ground_the_best_is_kept() -> None:
    ground = (36.0, 37.0, 37.0, 38.0)
    after = [
        image("cloudy", 1, cloud=40, box=ground),
        image("clear", 9, cloud=1, box=ground),
        image("beyond", 9, cloud=20, box=(36.5, 37, 37.5, 38)),
    ]
    pairs, told = pair([image("b", -1, box=(35, 36, 38, 39))], after)
    assert names(pairs) == ["beyond", "clear"]
    assert pairs[1].core.equals(shapely.box(*ground))
    assert pairs[0].core.equals(shapely.box(37, 37, 37.5, 38))
    assert told == ["1 pair: its ground is shown by scenes chosen before it (cloudy)"]


def test_a_long_series_finds_the_same_pair_as_every_combination() -> None:
    """More images than are combined one by one; the best two are known by how they were made."""
    rng = np.random.default_rng(0)
    series = [
        image(f"{side}{n}", days * (n + 1), cloud=float(rng.integers(30, 50)), share=0.5)
        for side, days in (("b", -1), ("a", 1))
        for n in range(60)
    ]
    series[40] = image("best-b", -41, cloud=2)
    series[100] = image("best-a", 41, cloud=3)
    pairs, told = pair(series[:60], series[60:])
    assert (pairs[0].pre and pairs[0].pre.name, pairs[0].post.name) == ("best-b", "best-a")
    assert told[0].startswith("118 images: another image of its place was chosen")
    box = (36.0, 37.0, 37.0, 38.0)
    loose = [replace(i, place=None, cell=None, outline=shapely.box(*box)) for i in series]
    pairs, _ = pair(loose[:60], loose[60:])
    assert names(pairs) == ["best-a"]
    assert pairs[0].pre
    assert pairs[0].pre.name == "best-b"
    assert "chosen from 60 before images" in pairs[0].why


def test_names_of_scenes_are_safe_and_unique() -> None:
    boxes = [(36 + i, 37, 36.9 + i, 38) for i in range(4)]
    called = ["a b/../c", "A b---c", "a-b-c", "Üç"]
    after = [image(n, 1, box=b) for n, b in zip(called, boxes, strict=True)]  # type: ignore[arg-type]
    after = [replace(a, href=f"https://a.org/{i}/Scene 1.tif") for i, a in enumerate(after)]
    pairs, _ = pair([], after, needs_before=False)
    assert names(pairs) == ["A-b---c", "a-b-c", "a-b-c", "scene"]
    assert len({p.scene_id.casefold() for p in pairs}) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", p.scene_id) for p in pairs)
    assert slug("37/031133012312") == "37-031133012312"
    assert slug("../../etc/passwd\n") == "etc-passwd"
    assert slug("Üç") == "scene"
    assert len(slug("x" * 500)) == 80


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["TCI", "tci", "T C I", "T-C-I", "x" * 90]),
            st.sampled_from(["a", "b", "a/b", "a-b", "https://a.org", "https://a.org/b"]),
            st.integers(0, 9),
        ),
        min_size=2,
        max_size=12,
        unique=True,
    ),
    st.randoms(use_true_random=False),
)
def test_one_image_more_renames_no_other_scene(
    places: list[tuple[str, str, int]], chance: Random
) -> None:
    """Images of one name in many folders, each over ground of its own, in any order and quality."""
    after = [
        replace(
            image(name, day + 1, box=(2 * k, 0, 2 * k + 1, 1), cloud=float(day)),
            href=f"{folder}/{day}/{name}.tif",
        )
        for k, (name, folder, day) in enumerate(places)
    ]
    everything = called_by_image(after)
    assert len({name.casefold() for name in everything.values()}) == len(after)
    left = chance.choice(after)
    others = [image for image in after if image is not left]
    chance.shuffle(others)
    assert called_by_image(others) == {k: v for k, v in everything.items() if k != left.href}


def called_by_image(after: list[CatalogImage]) -> dict[str, str]:
    pairs, _ = pair([], after, needs_before=False)
    return {p.post.href: p.scene_id for p in pairs}


def test_a_folder_that_is_moved_keeps_the_names_of_its_scenes(tmp_path: Path) -> None:
    found = set()
    for place in ("here", "there/below"):
        at = tmp_path / place
        post = replace(image("TCI", 1, box=(0, 0, 1, 1)), href=str(at / "T36" / "TCI.tif"))
        choice = Choice(None, post, post.outline, post.outline, "")
        (scene,) = pairs_of([choice], LeftOut(), at)
        found.add(scene.scene_id)
    assert len(found) == 1


def test_a_name_that_is_wanted_twice_is_given_once() -> None:
    boxes = [shapely.box(2 * k, 0, 2 * k + 1, 1) for k in range(3)]
    choices = [
        Choice(None, replace(image(f"i{k}", 1, box=b.bounds), place=None), b, b, "", "Market")
        for k, b in enumerate(boxes)
    ]
    pairs = pairs_of(choices, LeftOut())
    assert names(pairs) == ["Market"] * 3
    assert sum(p.scene_id == "Market" for p in pairs) == 1


def test_an_area_cuts_the_cores() -> None:
    west, south, east, north = CELL.polygon().bounds
    area = shapely.box(west - 1, south - 1, (west + east) / 2, north + 1)
    pairs, _ = pair([image("b", -1)], [image("a", 1)], area=area)
    assert pairs[0].core.equals(shapely.intersection(CELL.polygon(), area))
    far = shapely.box(50, 10, 51, 11)
    pairs, told = pair([image("b", -1)], [image("a", 1)], area=far)
    assert pairs == ()
    assert told == ["1 place: outside the area asked for (37/031133012312)"]


def test_cells_of_two_zones_share_their_ground_by_what_is_seen() -> None:
    """At 36 degrees east cells of zones 36 and 37 overlap, turned against each other."""
    middle = shapely.Point(36.0, 37.5)
    west = next(c for c in cells(36) if c.polygon().contains(middle))
    east = next(c for c in cells(37) if c.polygon().contains(middle))
    lapping = shapely.intersection(west.polygon(), east.polygon())
    assert lapping.area > 0.1 * east.polygon().area
    nothing_east = shapely.box(35, 37, 36.0, 38)
    nothing_west = shapely.box(36.0, 37, 37, 38)
    before, after = [], []
    for cell, outline in ((west, nothing_east), (east, nothing_west)):
        for group, days in ((before, -1), (after, 1)):
            taken = image(f"{cell.zone}{days}", days, cell=cell)
            group.append(replace(taken, outline=shapely.box(*outline.bounds)))
    pairs, _ = pair(before, after)
    one, other = pairs
    assert shapely.intersection(one.core, other.core).area < 1e-15
    union = shapely.union(west.polygon(), east.polygon())
    assert shapely.symmetric_difference(shapely.union(one.core, other.core), union).area < 1e-15
    # Zone 36 comes first, yet what only zone 37's images show of the common ground is zone 37's.
    seen_east = shapely.intersection(lapping, nothing_west)
    assert shapely.difference(seen_east, other.core).area < 1e-15
    assert shapely.intersection(one.core, shapely.intersection(lapping, nothing_east)).area > 0


def cells(zone: int) -> list[ArdCell]:
    """The cells of a zone around 36 degrees east, 37.5 degrees north."""
    near = 780_000 if zone == 36 else 220_000
    found = []
    for column in range(near // 5000 - 20, near // 5000 + 20):
        for row in range(825, 835):
            x, y = column + (9_740_000 // 5000), 2048 - row
            bits = zip(f"{x:012b}", f"{y:012b}", strict=True)
            found.append(ArdCell(zone, "".join(str(int(a) + 2 * int(b)) for a, b in bits)))
    return found


boxes = st.tuples(
    st.integers(0, 8), st.integers(0, 8), st.integers(1, 6), st.integers(1, 6),
    st.floats(0.2, 1.0), st.booleans(),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(boxes, max_size=9))
def test_cores_are_disjoint_and_lose_nothing(
    drawn: list[tuple[int, int, int, int, float, bool]],
) -> None:
    """Whatever overlaps what: no ground twice, all seen ground kept by a scene that sees it."""
    grounds = [shapely.box(x, y, x + w, y + h) for x, y, w, h, _, _ in drawn]
    seen = [
        shapely.box(x, y, x + w * s, y + h)
        if left
        else shapely.box(x + w * (1 - s), y, x + w, y + h)
        for x, y, w, h, s, left in drawn
    ]
    cores = disjoint_cores(grounds, seen, [0.0] * len(drawn))
    total = sum(shapely.area(cores))
    assert total == pytest.approx(shapely.union_all(cores).area, abs=1e-9)
    for core, ground in zip(cores, grounds, strict=True):
        assert core.is_valid
        assert shapely.difference(core, ground).area < 1e-9
    kept = [not core.is_empty for core in cores]
    visible = shapely.union_all(seen)
    assert shapely.difference(visible, shapely.union_all(cores)).area < 1e-9
    own = [shapely.intersection(c, s) for c, s in zip(cores, seen, strict=True)]
    assert shapely.union_all(own).area == pytest.approx(visible.area, abs=1e-9)
    whole = shapely.union_all([g for g, k in zip(grounds, kept, strict=True) if k])
    assert shapely.union_all(cores).area == pytest.approx(whole.area, abs=1e-9)


def test_ground_that_meets_no_other_stays_as_it_is() -> None:
    one, other = CELL.polygon(), ArdCell(37, "031133012313").polygon()
    cores = disjoint_cores([one, other], [one, other], [0.0, 0.0])
    assert cores[0] is one
    assert cores[1] is other
    assert disjoint_cores([], [], []) == []


def test_too_little_new_ground_is_not_worth_a_scene() -> None:
    first = shapely.box(0, 0, 10, 10)
    nearly, part = shapely.box(0.5, 0, 10.5, 10), shapely.box(5, 0, 15, 10)
    choices = [
        Choice(None, replace(image(n, 1), place=None), g, g, "", n, least=0.1)
        for n, g in (("first", first), ("nearly", nearly), ("part", part))
    ]
    left_out = LeftOut()
    pairs = pairs_of(choices, left_out)
    assert [p.scene_id for p in pairs] == ["first", "part"]
    assert list(left_out.lines()) == [
        "1 pair: its ground is shown by scenes chosen before it (nearly)"
    ]
