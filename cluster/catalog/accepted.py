"""What reviewers let pass of a run, as a file for others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import geopandas as gpd
import pandas as pd

from ...scenes.errors import UsageError
from ...scenes.geojson import write_geojson
from ...scenes.vectors import write_csv, write_geopackage
from .buildings import Buildings
from .tables import Review

FORMATS = {
    "gpkg": "application/geopackage+sqlite3",
    "geojson": "application/geo+json",
    "csv": "text/csv",
}
"""In which it is written, and what each is called on the web."""


def write_accepted(
    buildings: Buildings, reviews: Mapping[str, Review], path: Path, form: str
) -> None:
    """Write accepted and corrected buildings with `reviewed_class`, `verdict`, `reviewer`, `reviewed_at`.

    `damage_class` stays what the run gave; a CSV has no geometry. Raises UsageError for an unknown format.
    """
    rows = _rows(buildings, {name: r for name, r in reviews.items() if r.verdict != "rejected"})
    if form == "gpkg":
        write_geopackage(path, {buildings.finished.table: rows})
    elif form == "geojson":
        write_geojson(path, rows, {"run_id": buildings.finished.run_id})
    elif form == "csv":
        write_csv(path, (pd.DataFrame(block.drop(columns="geometry")) for block in rows))
    else:
        raise UsageError(f"There is no format {form!r}: {', '.join(FORMATS)}.")


def _rows(buildings: Buildings, kept: Mapping[str, Review]) -> Iterator[gpd.GeoDataFrame]:
    for block in buildings.finished.blocks():
        rows = block[block[buildings.key].isin(list(kept))]
        said = [kept[name] for name in rows[buildings.key]]
        yield rows.assign(
            reviewed_class=pd.Series([r.damage_class for r in said], rows.index, dtype="int16"),
            verdict=pd.Series([r.verdict for r in said], rows.index, dtype="str"),
            reviewer=pd.Series([r.user.name for r in said], rows.index, dtype="str"),
            reviewed_at=pd.Series([r.made_at.isoformat() for r in said], rows.index, dtype="str"),
        )
