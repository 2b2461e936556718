"""Each rule against the same rule written out for one building at a time."""

import numpy as np
import pytest
from aftermap.kernels.buildings import Origin, Rules, supplied
from aftermap.kernels.tally import columns
from aftermap.kernels.verdict import RULES, Verdict
from aftermap.scenes.errors import Refused, UsageError
from geopandas import GeoDataFrame
from hypothesis import given
from hypothesis import strategies as st
from shapely import box

GRADED = ("damage", "damage_probability", "p_none", "p_minor", "p_major", "p_destroyed")
BINARY = ("damage", "damage_probability")
ORIGIN = Origin("m", None, "run", "pre.tif", "post.tif", None, "2023-02-08", 0.5, 1.5, None, 0.9)


def classes(rules: Rules, layers: tuple[str, ...], *rows: dict[str, int]) -> list[int]:
    """The damage classes of tally rows, given by their columns that are not zero."""
    return table(rules, layers, *rows)["damage_class"].tolist()


def table(rules: Rules, layers: tuple[str, ...], *rows: dict[str, int]) -> GeoDataFrame:
    counts = np.array([[row.get(name, 0) for name in columns(layers)] for row in rows])
    frame = GeoDataFrame(
        {"position": np.arange(len(rows)), "source_id": None},
        geometry=[box(500000, 4100000, 500010, 4100010)] * len(rows),
        crs="EPSG:32637",
    )
    return supplied(frame, counts, layers, rules, ORIGIN, "osm.gpkg")


def graded(rule: str, share: float | None = None) -> Rules:
    return Rules(True, 0.5, verdict=Verdict(rule, share))


def slowly(rule: str, pixels: list[int], sums: list[int], share: float) -> int:
    """One building's class from its analysed pixels, in plain Python."""
    count = {level: pixels.count(level) for level in (1, 2, 3, 4)}
    built = sum(count.values())
    by_mean = max((1, 2, 3, 4), key=lambda level: (sums[level - 1], level))
    commonest = max((1, 2, 3, 4), key=lambda level: (count[level], level))
    majority = commonest if built else by_mean
    if not built and not any(sums):
        return 255
    if rule == "threshold":
        damaged = sum(count[level] for level in (2, 3, 4))
        kind = max((2, 3, 4), key=lambda level: (count[level], level))
        return kind if round(damaged / len(pixels), 4) >= share else 1
    if rule == "mean":
        return by_mean if any(sums) else majority
    if rule == "worst":
        for level in (4, 3, 2, 1):
            covered = sum(1 for pixel in pixels if level <= pixel <= 4)
            if covered >= 4 and 20 * covered >= len(pixels):
                return level
    return majority


@given(
    st.sampled_from(RULES),
    st.lists(st.sampled_from([0, 0, 0, 1, 1, 2, 3, 4]), min_size=1, max_size=60),
    st.lists(st.integers(0, 300), min_size=4, max_size=4),
    st.sampled_from([0.1, 0.25, 0.5, 1.0]),
)
def test_every_rule_equals_the_rule_for_one_building(
    rule: str, pixels: list[int], sums: list[int], share: float
) -> None:
    row = {f"code_{code}": pixels.count(code) for code in range(5)}
    row |= dict(zip((f"sum_{name}" for name in GRADED[2:]), sums, strict=True))
    rules = graded(rule, share if rule == "threshold" else None)
    assert classes(rules, GRADED, row) == [slowly(rule, pixels, sums, share)]


def test_a_single_pixel_is_never_the_worst() -> None:
    small = {"code_1": 9, "code_4": 1}  # a tenth of the building, and one pixel
    large = {"code_1": 970, "code_4": 30}  # thirty pixels, and three in a hundred
    both = {"code_1": 950, "code_3": 20, "code_4": 30}  # together five in a hundred
    assert classes(graded("worst"), GRADED, small, large, both) == [1, 1, 3]
    assert classes(graded("worst"), GRADED, {"code_1": 76, "code_4": 4}) == [4]


@pytest.mark.parametrize("rule", RULES)
def test_unknown_stays_unknown_whatever_the_rule(rule: str) -> None:
    assert classes(graded(rule), GRADED, {"code_4": 49, "code_255": 51}) == [255]
    binary = Rules(False, 0.5, verdict=Verdict("threshold" if rule == "threshold" else "majority"))
    assert classes(binary, BINARY, {"code_5": 49, "code_255": 51}) == [255]


def test_binary_methods_know_two_rules() -> None:
    row = {"code_0": 6, "code_5": 4, "sum_damage_probability": 2000, "n_damage_probability": 10}
    assert classes(Rules(False, 0.5), BINARY, row) == [5]  # a mean of 0.8
    assert classes(Rules(False, 0.5, verdict=Verdict("threshold")), BINARY, row) == [1]
    assert classes(Rules(False, 0.5, verdict=Verdict("threshold", 0.4)), BINARY, row) == [5]
    for rule in ("worst", "mean"):
        with pytest.raises(Refused, match=r"knows no levels.*majority or threshold"):
            Verdict(rule).check("difference", False, BINARY)
    with pytest.raises(Refused, match="does not write p_minor"):
        Verdict("mean").check("m", True, ("damage", "p_none"))
    Verdict("mean").check("m", True, GRADED)


def test_flags_are_two_lists_and_say_nothing_of_what_was_not_seen() -> None:
    def row(mean: int, unseen: int = 0) -> dict[str, int]:
        counted = {"sum_damage_probability": 10 * mean, "n_damage_probability": 10}
        return {"code_1": 10, "code_255": unseen} | counted

    rows = [row(200), row(100), row(50), row(200, unseen=11)]
    found = table(graded("majority"), GRADED, *rows)
    assert found["likely_damaged"].tolist()[:3] == [True, False, False]
    assert found["possibly_damaged"].tolist()[:3] == [True, True, False]
    assert found[["likely_damaged", "possibly_damaged"]].isna().all(axis=1).tolist()[3]
    strict = Rules(True, 0.5, verdict=Verdict(flags=(0.8, 0.8)))
    assert table(strict, GRADED, *rows)["possibly_damaged"].tolist()[:3] == [True, False, False]


@pytest.mark.parametrize(
    ("given_", "told"),
    [
        ({"rule": "median"}, "majority, worst, mean, threshold"),
        ({"rule": "worst", "damage_threshold": 0.3}, "Add --rule threshold"),
        ({"rule": "threshold", "damage_threshold": 0.0}, "above 0"),
        ({"rule": "threshold", "damage_threshold": float("nan")}, "above 0"),
        ({"flags": (0.7, 0.3)}, "lower one first"),
        ({"flags": (0.2, 1.5)}, "from 0 to 1"),
    ],
)
def test_what_makes_no_sense_is_refused_at_birth(given_: dict, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Verdict(**given_)
    with pytest.raises(UsageError, match="--min-area"):
        Rules(True, 0.5, min_area_m2=-1)
