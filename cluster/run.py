"""A finished run, read when asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import rioxarray  # noqa: F401  (registers the .rio accessor)
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from ..scenes.errors import Refused
from ..scenes.layer import decode
from ..scenes.pair import Pair, make_pair
from ..scenes.remote import RemoteFile, is_remote
from .fingerprint import fingerprint_input
from .folder import RunFolder


@dataclass(frozen=True)
class Outputs:
    """The tables and the report that a run's folder and a region's have alike, read when asked."""

    path: Path

    @property
    def buildings(self) -> gpd.GeoDataFrame:
        """One row per building; empty for a binary method without footprints."""
        return gpd.read_parquet(self.path / "buildings.parquet")

    @property
    def damage_areas(self) -> gpd.GeoDataFrame:
        """One row per damaged area that a binary method found without footprints."""
        return gpd.read_file(self.path / "buildings.gpkg", layer="damage_areas")

    @property
    def summary(self) -> pd.DataFrame:
        """Counts and areas per damage class."""
        return pd.read_csv(self.path / "summary.csv")

    @property
    def report(self) -> Path:
        """The report's file."""
        return self.path / "report.html"


@dataclass(frozen=True)
class Run(Outputs):
    """The outputs of an assessment."""

    @property
    def layers(self) -> xr.Dataset:
        """The layers, lazily: codes as uint8 with 255 not analysed, probabilities as float32 with NaN."""
        stored = xr.open_zarr(
            RunFolder(self.path).store,
            consolidated=False,
            mask_and_scale=False,
            decode_coords="all",
        )
        return stored.map(
            lambda layer: (
                layer
                if layer.attrs.get("kind") == "class"
                else layer.copy(data=layer.data.map_blocks(decode, dtype="float32"))
            ),
            keep_attrs=True,
        )

    @cached_property
    def record(self) -> dict[str, Any]:
        """run.json."""
        return RunFolder(self.path).read()

    def pair(self) -> Pair:
        """The images on the run's grid, opened again as the run read them.

        Images that were read over the network are again, as whoever began the run allowed; the
        signature of a signed URL was not kept, and such an image is refused by its server. Raises Refused where an image is gone or has changed since.
        """
        facts, shift = self.record["facts"], self.record["shift"] or {}
        _check_images(facts["inputs"])
        files = {
            role: [file["path"] for file in facts["inputs"][role]]
            for role in ("pre", "post")
            if role in facts["inputs"]
        }
        placed = facts["placement"]["post 0"]
        grid = facts["grid"]
        pair = make_pair(
            files.get("pre"),
            files["post"],
            grid=GeoBox(tuple(grid["shape"]), Affine(*grid["transform"]), grid["crs"]),
            bands=placed["bands"],
            scale=facts["options"]["scale"],
            crs=placed["crs"],
            gcps=placed["gcps"],
            allow_remote=True,
        )
        moved = (shift["rows_px"], shift["cols_px"]) if shift.get("corrected") else (0.0, 0.0)
        colour = tuple((gain, offset) for gain, offset in self.record["colour"])
        return replace(pair, shift=moved, colour=colour)

    @property
    def quarantined(self) -> list[dict[str, Any]]:
        """Chunks that could not be worked on, with the reason."""
        return list(self.record.get("quarantined", []))


def _check_images(inputs: Mapping[str, Any]) -> None:
    """Refuse images that are gone or not those that a run was made from."""
    for role in ("pre", "post"):
        for known in inputs.get(role, []):
            remote = RemoteFile.of(known["path"]) if is_remote(known["path"]) else None
            file = remote or Path(known["path"])
            if isinstance(file, Path) and not file.is_file():
                raise Refused(f"The run's image {file} is no longer there. Put it back.")
            if _digests(fingerprint_input(file)) != _digests(known):
                raise Refused(
                    f"{file} is no longer the image that the run was made from, or the mask or "
                    "overviews beside it are not. Put those back, or assess again."
                )


def _digests(known: Mapping[str, Any]) -> list[str]:
    """The digests of an image and of what lies beside it."""
    return [file["sampled_sha256"] for file in (known, *known.get("beside", ()))]
