"""A finished run, opened for reading in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pyarrow as pa
import pyogrio
import rasterio
import shapely
from odc.geo.geobox import GeoBox

from ..scenes.errors import Refused
from ..scenes.vectors import read_blocks
from .folder import RunFolder

BLOCK = 20_000
"""Rows in memory at once."""

_OVER = ("done", "quarantined")
"""The states of a run that has written everything; some of it may be marked not analysed."""


@dataclass(frozen=True)
class Finished:
    """A run folder in which an assessment came to its end."""

    path: Path
    """The run folder."""
    record: dict[str, Any]
    """What `run.json` says."""

    @classmethod
    def open(cls, path: str | Path) -> Finished:
        """Look into a folder; Refused where there is no run, or none that is finished and whole."""
        folder = RunFolder(Path(path))
        if not folder.record.is_file():
            raise Refused(
                f"{str(path)!r} is not a run folder: it holds no run.json. Give the folder that "
                "`aftermap assess -o RUN` wrote."
            )
        record = folder.read()
        if record.get("state") not in _OVER:
            raise Refused(
                f"The run in {str(path)!r} is not finished (its state is "
                f"{record.get('state', 'unknown')!r}). Run the same assess command again to go on."
            )
        if not folder.delivered(record):
            raise Refused(
                f"Files of the run in {str(path)!r} are missing. Run the same assess command "
                "again; it writes them anew."
            )
        return cls(Path(path), record)

    @property
    def run_id(self) -> str:
        """The run's fingerprint."""
        return str(self.record["run_id"])

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.record["method"]["method"])

    @property
    def graded(self) -> bool:
        """Whether its method tells levels of damage apart."""
        return self._classes == 5

    @property
    def has_buildings(self) -> bool:
        """Whether the run tells buildings; a binary method without footprints does not."""
        return self._classes > 1 or self.record["totals"]["footprints"] is not None

    @property
    def _classes(self) -> int:
        return int(self.record["method"].get("classes", [1])[0])

    @property
    def table(self) -> str:
        """The table that holds the result: `buildings` or `damage_areas`."""
        return "buildings" if self.has_buildings else "damage_areas"

    @property
    def counts(self) -> dict[int, int]:
        """Rows of that table by damage code."""
        by_class = self.record["totals"][self.table]["by_class"]
        return {int(code): figures["count"] for code, figures in by_class.items()}

    @cached_property
    def grid(self) -> GeoBox:
        """The grid of the run's rasters."""
        with rasterio.open(self.path / "damage.tif") as source:
            return GeoBox(source.shape, source.transform, source.crs.to_wkt())

    def blocks(self) -> Iterator[gpd.GeoDataFrame]:
        """The rows of the result in order, a block at a time; at least one, perhaps empty, frame."""
        return self.rows(self.table)

    def rows(self, table: str) -> Iterator[gpd.GeoDataFrame]:
        """The rows of `buildings` or `damage_areas`, likewise."""
        if table == "buildings":
            return read_blocks(self.path / "buildings.parquet", BLOCK)
        return self._streamed(table)

    def layer(self, name: str) -> gpd.GeoDataFrame:
        """A small layer of `buildings.gpkg`, whole."""
        return pyogrio.read_dataframe(self.path / "buildings.gpkg", layer=name)

    def first(self, column: str) -> Any:
        """What a column that is the same in every row holds; None where there is no row."""
        values = next(self.blocks())[column].dropna()
        return None if values.empty else values.iloc[0]

    def _streamed(self, name: str) -> Iterator[gpd.GeoDataFrame]:
        """A layer of `buildings.gpkg` block by block."""
        file = self.path / "buildings.gpkg"
        empty = pyogrio.read_dataframe(file, layer=name, max_features=1).iloc[:0]
        with pyogrio.open_arrow(file, layer=name, batch_size=BLOCK, use_pyarrow=True) as (
            meta,
            reader,
        ):
            column = meta["geometry_name"] or "wkb_geometry"
            count = 0
            for batch in reader:
                kinds = {pa.bool_(): pd.BooleanDtype()}
                plain = batch.to_pandas(types_mapper=kinds.get)
                shapes = shapely.from_wkb(plain.pop(column).to_numpy())
                table = pd.DataFrame(plain[list(empty.columns.drop(empty.geometry.name))])
                count += len(table)
                yield gpd.GeoDataFrame(table, geometry=shapes, crs=empty.crs)
            if not count:
                yield empty


def make_folder(folder: Path) -> None:
    """Make a folder for what is made of a run; raises Refused where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"The folder {str(folder)!r} cannot be made: {error.strerror}. Give another one with -o."
        ) from error
