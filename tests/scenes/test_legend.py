"""The legend is complete, and its colours can be told apart."""

import itertools

import numpy as np
import pytest
from aftermap.scenes.errors import UsageError
from aftermap.scenes.layer import NOT_ANALYSED
from aftermap.scenes.legend import (
    FEMA_DEGREES,
    LEGEND,
    LEVELS,
    TITLE,
    UNGRADED,
    VERSION,
    colour_table,
    entry,
)

# Linear-RGB simulation of deuteranopia (severity 1), Machado, Oliveira and Fernandes 2009.
_DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
)


def test_every_code_of_the_design_is_there_once() -> None:
    assert [row.code for row in LEGEND] == [0, 1, 2, 3, 4, 5, NOT_ANALYSED]
    assert (*LEVELS, UNGRADED) == (1, 2, 3, 4, 5)
    assert TITLE == "aftermap convention"
    assert VERSION


def test_rows_are_named_defined_and_crosswalked() -> None:
    assert len({row.name for row in LEGEND}) == len(LEGEND)
    assert all(row.definition.endswith(".") for row in LEGEND)
    for level in LEVELS:
        row = entry(level)
        assert row.xbd
        assert row.copernicus
        assert row.unosat
        assert row.fema
    assert entry(NOT_ANALYSED).hatched


def test_words_of_other_schemes_are_theirs() -> None:
    coded = {row.code: row for row in LEGEND if row.code}
    grades = {"Destroyed", "Damaged", "Possibly damaged", "No visible damage", "Not Analysed"}
    assert {row.copernicus for row in coded.values()} == grades
    classes = {row.unosat_code: row.unosat for row in coded.values() if row.code != NOT_ANALYSED}
    assert classes == {
        1: "Destroyed",
        2: "Severe Damage",
        3: "Moderate Damage",
        6: "No Visible Damage",
        13: "Damage",
    }
    assert [entry(level).xbd for level in LEVELS] == [
        "no-damage",
        "minor-damage",
        "major-damage",
        "destroyed",
    ]
    assert {entry(UNGRADED).xbd, entry(NOT_ANALYSED).xbd} == {"un-classified"}


def test_nothing_is_called_affected_or_inaccessible_that_was_only_seen_from_above() -> None:
    given = {row.fema for row in LEGEND} & set(FEMA_DEGREES)
    assert given == {"Minor", "Major", "Destroyed"}


def test_an_unknown_code_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no damage code 7; the legend has 0, 1, 2"):
        entry(7)


def test_colours_stay_apart_for_the_red_green_blind() -> None:
    linear = np.array([entry(code).rgb for code in (*LEVELS, UNGRADED)]) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ _DEUTERANOPIA.T, 0, 1) ** (1 / 2.2)
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(one - other) > 0.2


def test_background_is_transparent_in_the_colour_table() -> None:
    table = colour_table()
    assert table[0][3] == 0
    assert table[4] == (*entry(4).rgb, 255)
    assert entry(4).hex == "#a50f15"
