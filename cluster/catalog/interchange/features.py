"""Tags as GeoJSON: squares and polygons in degrees, photos as points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import shapely
from shapely.geometry import shape

from ....scenes.errors import Refused
from ....scenes.geojson import write_geojson
from ..catalog import Catalog
from ..tables import LabelSet
from .about import about
from .codes import label_of_word
from .found import Found, Problems, Shown, json_of, moment, square_of, tag_id, text_of
from .marks import Mark, Marks
from .places import to_degrees

_DECIMALS = 6
"""Of a pixel."""

_COLUMNS = (
    "tag", "scene_name", "scene_digest", "row", "col", "side", "pixels", "label", "label_set",
    "label_version", "user", "made_at", "origin",
)  # fmt: skip


def write(catalog: Catalog, marks: Marks, path: Path, left_out: list[str]) -> dict[str, int]:
    """Write all tags; returns how many."""
    nowhere = 0

    def blocks() -> Iterator[gpd.GeoDataFrame]:
        nonlocal nowhere
        for block in marks.blocks():
            rows = pd.DataFrame([_row(mark) for mark in block], columns=_COLUMNS, dtype=object)
            shapes = [_geometry(mark) for mark in block]
            nowhere += sum(one is None for one in shapes)
            yield gpd.GeoDataFrame(rows, geometry=gpd.GeoSeries(shapes, crs="EPSG:4326"))

    count = write_geojson(path, blocks(), about(marks, "geojson"))
    left_out.append("pixels; the images are found again by scene_digest")
    if nowhere:
        left_out.append(
            f"the position of {nowhere} tags of photos that tell none: geometry is null"
        )
    return {"tags": count}


class Features:
    """A feature collection with a label and the name or digest of a scene in each feature's properties.

    Of images with a place on the earth the geometry counts; a square is one again as long as its
    outline lies where its row, column and side say. Of photos `pixels`, WKT, or row, column and side count.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content, self._digest = json_of(path)
        if not isinstance(self._content.get("features"), list):
            raise Refused(f"{path} is no GeoJSON feature collection: it has no list of features.")

    @property
    def labels(self) -> str | None:
        """See `Reader`."""
        said = self._content.get("aftermap")
        return text_of(said.get("label_set")) or None if isinstance(said, dict) else None

    def found(self, labels: LabelSet, problems: Problems) -> Iterator[Found]:
        """See `Reader`."""
        for number, feature in enumerate(self._content["features"], 1):
            where = f"in feature {number} of {self._path.name}"
            said = feature.get("properties") if isinstance(feature, dict) else None
            if not isinstance(said, dict):
                problems.add("no properties", where)
                continue
            label = label_of_word(labels, text_of(said.get("label")))
            if label is None:
                problems.add(f"unknown label {str(said.get('label'))[:40]!r}", where)
                continue
            name = text_of(said.get("scene_name") or said.get("scene"))
            digest = text_of(said.get("scene_digest"))
            try:
                outline, in_degrees = _outline(feature.get("geometry"), said)
                made_at = moment(said.get("made_at"))
            # Whatever shapely stumbles over in what a stranger sends.
            except Exception as error:
                problems.add(f"malformed geometry: {str(error)[:80]}", where)
                continue
            square = square_of([said.get(part) for part in ("row", "col", "side")])
            if square is None and outline is None:
                problems.add("no polygon and no square", where)
                continue
            yield Found(
                tag_id(self._digest, str(number)), where, Shown(name or digest, name, digest),
                label, square, outline, in_degrees, made_at,
            )  # fmt: skip


def _row(mark: Mark) -> list[Any]:
    tag, scene, square = mark.tag, mark.scene, mark.square
    pixels = None
    if square is None and not scene.crs:
        pixels = shapely.to_wkt(mark.outline, rounding_precision=_DECIMALS)
    return [
        tag.id, scene.name, scene.digest, *(square or (None, None, None)), pixels, mark.label,
        tag.label_set.name, tag.label_set.version, tag.user.name, tag.made_at.isoformat(), tag.origin,
    ]  # fmt: skip


def _geometry(mark: Mark) -> shapely.Geometry | None:
    scene = mark.scene
    if scene.crs:
        return to_degrees(scene, mark.outline)
    if scene.west is None or scene.south is None:
        return None
    return shapely.Point(scene.west, scene.south)


def _outline(geometry: Any, said: dict[str, Any]) -> tuple[shapely.Geometry | None, bool]:
    """The outline of a feature, and whether it is in degrees."""
    if pixels := text_of(said.get("pixels")):
        # GEOS reads collections by recursion: nested ones end the process.
        if not pixels.lstrip().upper().startswith(("POLYGON", "MULTIPOLYGON")):
            raise ValueError("pixels is no POLYGON or MULTIPOLYGON in WKT")
        return shapely.from_wkt(pixels), False
    if not isinstance(geometry, dict) or geometry.get("type") not in ("Polygon", "MultiPolygon"):
        return None, True
    found = shape(geometry)
    if found.is_empty:
        raise ValueError("it is empty")
    return found, True
