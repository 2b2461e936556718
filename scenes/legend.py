"""The one legend: what each damage code means, how it looks, and what other schemes call it.

This is an aftermap convention. Its four levels follow the order of the xBD data set; the crosswalk
says which grade of another scheme comes closest, not that the two are measured the same way. Words
of other schemes are spelt as in their own products; where a scheme has no word, the export says so
in plain ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import UsageError

TITLE = "aftermap convention"
"""What the legend calls itself wherever it is shown."""

VERSION = "2"
"""Raised whenever a code, a meaning, a colour or a crosswalk changes."""

FEMA_DEGREES = ("Affected", "Minor", "Major", "Destroyed", "Inaccessible")
"""The degrees of FEMA preliminary damage assessments; two of them cannot be seen in an image.

Affected is mostly cosmetic, and Inaccessible is about roads: neither is ever given here.
"""


@dataclass(frozen=True)
class Entry:
    """One code of the legend."""

    code: int
    """The value in rasters and in `damage_class`."""
    name: str
    """Short name for legends and tables."""
    definition: str
    """What an analyst would see in the image."""
    rgb: tuple[int, int, int]
    """Fill colour, 0-255 each."""
    opacity: int = 255
    """0 transparent to 255 solid."""
    hatched: bool = False
    """Drawn as stripes instead of a solid fill."""
    xbd: str = ""
    """Closest label of the xBD data set."""
    copernicus: str = ""
    """Closest grade (`damage_gra`) of Copernicus EMS rapid mapping."""
    unosat: str = ""
    """Closest class of UNOSAT damage assessments."""
    unosat_code: int | None = None
    """Number of that class in UNOSAT's `Main_Damage_Site_Class`."""
    fema: str = ""
    """Closest degree of FEMA preliminary damage assessments, or why there is none."""

    @property
    def hex(self) -> str:
        """The colour as #rrggbb."""
        return "#{:02x}{:02x}{:02x}".format(*self.rgb)


LEGEND: tuple[Entry, ...] = (
    Entry(
        0,
        "Background",
        "Looked at, and no building (or, for a method without levels, no damage) was found here.",
        (255, 255, 255),
        opacity=0,
    ),
    Entry(
        1,
        "No damage",
        "A building whose roof and outline look as they did before.",
        (0, 158, 115),
        xbd="no-damage",
        copernicus="No visible damage",
        unosat="No Visible Damage",
        unosat_code=6,
        fema="No visible damage",
    ),
    Entry(
        2,
        "Minor damage",
        "Parts of the roof are missing or burnt, or water or debris reaches the building; it "
        "stands.",
        (240, 228, 66),
        xbd="minor-damage",
        copernicus="Possibly damaged",
        unosat="Moderate Damage",
        unosat_code=3,
        fema="Minor",
    ),
    Entry(
        3,
        "Major damage",
        "Walls or a large part of the roof have failed, or water or mud surrounds the building.",
        (230, 126, 0),
        xbd="major-damage",
        copernicus="Damaged",
        unosat="Severe Damage",
        unosat_code=2,
        fema="Major",
    ),
    Entry(
        4,
        "Destroyed",
        "Collapsed, burnt out, swept away or buried: no usable structure is left to see.",
        (165, 15, 21),
        xbd="destroyed",
        copernicus="Destroyed",
        unosat="Destroyed",
        unosat_code=1,
        fema="Destroyed",
    ),
    Entry(
        5,
        "Damaged, level not graded",
        "A change that reads as damage, from a method that does not tell levels apart.",
        (136, 46, 114),
        xbd="un-classified",
        copernicus="Damaged",
        unosat="Damage",
        unosat_code=13,
        fema="Damaged, degree not given",
    ),
    Entry(
        255,
        "Not analysed",
        "Not looked at: no data, cloud, outside the images' overlap, or a part that failed. "
        "Nothing is known here; it does not mean undamaged.",
        (140, 140, 140),
        hatched=True,
        xbd="un-classified",
        copernicus="Not Analysed",
        unosat="Not analysed",
        fema="Not analysed",
    ),
)
"""All codes, in ascending order."""

LEVELS: tuple[int, ...] = (1, 2, 3, 4)
"""The graded levels, from intact to destroyed."""

UNGRADED = 5
"""The code of damage without a level."""

_BY_CODE = {entry.code: entry for entry in LEGEND}


def entry(code: int) -> Entry:
    """The legend's row for a code."""
    try:
        return _BY_CODE[int(code)]
    except KeyError:
        raise UsageError(
            f"There is no damage code {code}; the legend has {', '.join(map(str, _BY_CODE))}."
        ) from None


def colour_table() -> dict[int, tuple[int, int, int, int]]:
    """Code to RGBA, 0-255 each, for class rasters."""
    return {entry.code: (*entry.rgb, entry.opacity) for entry in LEGEND}
