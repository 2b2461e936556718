"""Tables laid out like the vector package of Copernicus EMS rapid mapping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import geopandas as gpd
import pandas as pd
from pyproj import CRS
from pyproj.exceptions import CRSError

from .legend import LEGEND
from .lonlat import to_lonlat
from .styles import Style, alike, by_value

BUILT_UP, AREA, UNSEEN, SOURCE = (
    "builtUpA_v1",
    "areaOfInterestA_v1",
    "notAnalysedA_v1",
    "source_v1",
)
"""Layer names, as in the service's GeoPackages."""

DETECTION = "Automatic extraction"
"""The value of `det_method`: one of the service's four, and the true one for every run."""

_GRADE = {row.code: row.copernicus for row in LEGEND}


@dataclass(frozen=True)
class Sources:
    """The `source` table: one row per image or footprint file that a run was made from."""

    ids: Mapping[str, int]
    """Role ("pre", "post", "footprints") to `src_id`."""
    table: pd.DataFrame
    """`source_nam`, `src_date`, `source_tm`, `sensor_gsd`, `eventphase`, `src_id`, `files`."""

    @classmethod
    def of(
        cls,
        facts: Mapping[str, Any],
        names: Mapping[str, str | None],
        dates: Mapping[str, str | None],
    ) -> Sources:
        """From `facts` of `run.json`; `names` and `dates` by role, dates as YYYY-MM-DD."""
        rows = []
        phases = {"pre": "Pre-event", "post": "Post-event"}
        roles = [role for role in ("pre", "post", "footprints") if facts["inputs"].get(role)]
        for number, role in enumerate(roles, start=1):
            rows.append(
                {
                    "source_nam": names.get(role) or str(facts["inputs"][role][0]["path"]),
                    "src_date": _day(dates.get(role)),
                    "source_tm": "Not specified",
                    "sensor_gsd": _resolution(facts, role),
                    "eventphase": phases.get(role, "Not applicable"),
                    "src_id": number,
                    "files": len(facts["inputs"][role]),
                }
            )
        return cls({role: k for k, role in enumerate(roles, start=1)}, pd.DataFrame(rows))


def built_up(
    blocks: Iterable[gpd.GeoDataFrame], sources: Sources, notation: str
) -> Iterable[gpd.GeoDataFrame]:
    """The built-up layer: the service's columns, then three of ours that lead back to the run."""
    post = sources.ids["post"]
    for block in blocks:
        placed = to_lonlat(block)
        outlined = post
        if "footprints" in sources.ids:
            outlined = sources.ids["footprints"]
        nothing = pd.Series([None] * len(placed), placed.index, dtype="str")
        table = {
            "obj_type": pd.Series(["Unknown"] * len(placed), placed.index, dtype="str"),
            "name": nothing,
            "info": placed["footprint_source"],
            "damage_gra": placed["damage_class"].map(_GRADE).astype("str"),
            "det_method": pd.Series([DETECTION] * len(placed), placed.index, dtype="str"),
            "notation": pd.Series([notation] * len(placed), placed.index, dtype="str"),
            "or_src_id": pd.Series(outlined, placed.index, dtype="int32"),
            "dmg_src_id": pd.Series(post, placed.index, dtype="int32"),
            "cd_value": nothing,
            "am_id": placed["building_id"],
            "am_class": placed["damage_class"],
            "am_score": placed["damage_score"],
        }
        yield gpd.GeoDataFrame(table, geometry=placed.geometry)


def area_of_interest(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The area that was asked for."""
    placed = to_lonlat(frame)
    return gpd.GeoDataFrame({"name": placed["name"]}, geometry=placed.geometry)


def unseen(frame: gpd.GeoDataFrame, sources: Sources) -> gpd.GeoDataFrame:
    """What was not analysed inside it, and why."""
    placed = to_lonlat(frame)
    table = {
        "obj_type": pd.Series(["Not Analysed"] * len(placed), placed.index, dtype="str"),
        "notation": placed["reason"],
        "dmg_src_id": pd.Series(sources.ids["post"], placed.index, dtype="int32"),
    }
    return gpd.GeoDataFrame(table, geometry=placed.geometry)


def styles() -> dict[str, Style]:
    """Styles for the layers, in our colours."""
    graded = {row.copernicus: row for row in LEGEND if row.code not in (0, 5)}
    return {BUILT_UP: by_value(BUILT_UP, "damage_gra", graded), UNSEEN: alike(UNSEEN, LEGEND[-1])}


def _day(text: str | None) -> str:
    """YYYY-MM-DD as the service writes a day."""
    return date.fromisoformat(text).strftime("%d/%m/%Y") if text else "Not specified"


def _resolution(facts: Mapping[str, Any], role: str) -> str:
    """Pixel size of the first file of an image whose pixels are in metres."""
    placed = facts.get("placement", {}).get(f"{role} 0")
    try:
        if placed and CRS.from_user_input(placed["crs"]).is_projected:
            return f"{abs(placed['transform'][0]):g} m"
    except CRSError:  # the image's own system may have no name
        pass
    return "Not specified"
