"""Labels of the xBD data set: one JSON file per image tile, polygons in pixels and in degrees."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import shapely

from .errors import Refused
from .legend import LEVELS, entry

PIXEL_DECIMALS = 6
DEGREE_DECIMALS = 9
"""Decimals that are written: a millionth of a pixel, a tenth of a millimetre on the ground."""

SUBTYPES: dict[str, int] = {entry(code).xbd: code for code in LEVELS} | {"un-classified": 255}
"""xBD's damage levels and the damage codes that they are."""

METADATA = (
    "sensor",
    "provider_asset_type",
    "gsd",
    "capture_date",
    "off_nadir_angle",
    "pan_resolution",
    "sun_azimuth",
    "sun_elevation",
    "target_azimuth",
    "disaster",
    "disaster_type",
    "catalog_id",
    "original_width",
    "original_height",
    "width",
    "height",
    "id",
    "img_name",
)
"""The keys of a label's metadata, all of them written, null where nothing is known."""

_LARGEST = 256 << 20
"""No label is anywhere near as large, bytes."""

_FAR = 1e6
"""Px from the image's corner; no outline of an image is anywhere near as far away."""

_COLLECTIONS = 100
"""Of one feature. GEOS reads nested ones by recursion: tens of thousands end the process."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with one feature of a label."""

    where: str
    """The feature: its list and number, or its uid."""
    what: str
    """What is wrong and what came of it, the same words for all of a kind."""
    found: str = ""
    """What was found instead."""

    def __str__(self) -> str:
        return f"{self.where} {self.what}" + (f": {self.found}" if self.found else "")


@dataclass(frozen=True)
class XbdBuilding:
    """One building of a label."""

    uid: str
    """Links the two lists of a label, and the labels before and after; empty where it is missing."""
    subtype: str | None
    """One of `SUBTYPES`; None where the label gives none, as those of images before do."""
    xy: shapely.Polygon | shapely.MultiPolygon | None
    """Outline in pixels of the image, x right and y down, holes kept."""
    lng_lat: shapely.Polygon | shapely.MultiPolygon | None = None
    """Outline in degrees, longitude first."""

    @property
    def damage_class(self) -> int | None:
        """The damage code; None where there is no subtype, 255 where it is un-classified."""
        return None if self.subtype is None else SUBTYPES[self.subtype]


@dataclass(frozen=True)
class XbdLabel:
    """All buildings of one image tile."""

    path: Path
    """The file that was read."""
    buildings: tuple[XbdBuilding, ...]
    """In the order of the file."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """As it stands in the file."""
    problems: tuple[Problem, ...] = ()
    """What was left out or mended."""
    outlines_on: ClassVar[str] = "before"
    """The image that the outlines were drawn on, of labels after the event too."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image, px; 1024 where the file does not say."""
        return self.said_size or (1024, 1024)

    @property
    def said_size(self) -> tuple[int, int] | None:
        """Height and width of the image as the file says them, px; None where it does not."""
        height, width = (self.metadata.get(name) for name in ("height", "width"))
        if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
            return height, width
        return None

    def sized(self, size: tuple[int, int]) -> XbdLabel:
        """The same label of an image of this height and width, px."""
        height, width = size
        return replace(self, metadata={**self.metadata, "height": height, "width": width})


def read_xbd(path: str | Path) -> XbdLabel:
    """Read a label; polygons, multipolygons and collections of them, holes kept.

    A feature that cannot be read is left out and named in `problems`. So are uids that only one of
    the two lists has, unless there is no list of degrees at all. Raises Refused for a file that is
    no xBD label at all.
    """
    file = Path(path)
    features, metadata = _load(file)
    problems: list[Problem] = []
    degrees: dict[str, Any] = {}
    for number, feature in enumerate(features["lng_lat"]):
        uid, _, shape = _feature(feature, f"lng_lat {number}", problems)
        if uid and shape is not None:
            degrees.setdefault(uid, shape)
    found: list[XbdBuilding] = []
    seen: set[str] = set()
    for number, feature in enumerate(features["xy"]):
        where = f"xy {number}"
        uid, subtype, shape = _feature(feature, where, problems)
        if shape is not None:
            if not uid:
                problems.append(Problem(where, "has no uid; kept"))
            elif uid in seen:
                problems.append(Problem(where, "has the uid of an earlier one; kept", uid))
            elif degrees and uid not in degrees:
                problems.append(Problem(where, "has no partner in lng_lat; kept", uid))
            # Where two features have a uid, its degrees go to the first only.
            at = None if uid in seen else degrees.get(uid)
            found.append(XbdBuilding(uid, subtype, shape, at))
        seen.add(uid)
    problems += [
        Problem(f"uid {uid}", "is in lng_lat but not in xy; left out")
        for uid in degrees
        if uid not in seen
    ]
    return XbdLabel(file, tuple(found), metadata, tuple(problems))


def outside(label: XbdLabel, size: tuple[int, int]) -> list[Problem]:
    """The buildings of which nothing lies in the image; `size` is its height and width, px."""
    height, width = size
    frame = shapely.box(0, 0, width, height)
    return [
        Problem(f"uid {building.uid}", "lies outside the image; kept")
        for building in label.buildings
        if building.xy is not None and not frame.intersects(shapely.box(*building.xy.bounds))
    ]


def unmatched(before: XbdLabel, after: XbdLabel) -> list[Problem]:
    """The uids that only one of a tile's two labels has; buildings without one match nothing."""
    old, new = ({b.uid for b in label.buildings if b.uid} for label in (before, after))
    only = "is in the label {} the event but not in that {}; kept"
    return [
        *(Problem(f"uid {uid}", only.format("before", "after")) for uid in sorted(old - new)),
        *(Problem(f"uid {uid}", only.format("after", "before")) for uid in sorted(new - old)),
    ]


def read_labels(paths: Iterable[Path], unreadable: list[str]) -> Iterator[XbdLabel]:
    """Read many labels one at a time; what cannot be read goes to `unreadable`, in words."""
    for path in paths:
        try:
            yield read_xbd(path)
        except Refused as error:
            unreadable.append(str(error))


def write_xbd(path: Path, buildings: Iterable[XbdBuilding], metadata: Mapping[str, Any]) -> None:
    """Write a label as xBD has it; the same bytes for the same buildings in the same order."""
    listed = list(buildings)
    label = {
        "features": {
            "lng_lat": [
                _written(each, each.lng_lat, DEGREE_DECIMALS)
                for each in listed
                if each.lng_lat is not None
            ],
            "xy": [_written(each, each.xy, PIXEL_DECIMALS) for each in listed if each.xy],
        },
        "metadata": dict.fromkeys(METADATA) | dict(metadata),
    }
    text = json.dumps(label, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _load(file: Path) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """The two lists of a file and its metadata, or Refused."""
    try:
        if file.stat().st_size > _LARGEST:
            raise ValueError(f"{file.stat().st_size} bytes are too many for one tile")
        label = json.loads(file.read_text(encoding="utf-8-sig"))
        features = label["features"]
        lists = {name: features.get(name, []) for name in ("xy", "lng_lat")}
        metadata = label.get("metadata", {})
        if not all(isinstance(each, list) for each in lists.values()):
            raise TypeError("features.xy and features.lng_lat are not lists")
        if not isinstance(metadata, dict):
            raise TypeError("metadata is not an object")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Refused(
            f"{str(file)!r} cannot be read as an xBD label: {type(error).__name__}: {error}. "
            "A label is JSON with features.xy, features.lng_lat and metadata."
        ) from error
    return lists, metadata


def _feature(
    feature: Any, where: str, problems: list[Problem]
) -> tuple[str, str | None, shapely.Polygon | shapely.MultiPolygon | None]:
    """Uid, subtype and outline of one feature; what is wrong with it is added to `problems`."""
    properties = feature.get("properties") if isinstance(feature, dict) else None
    if not isinstance(properties, dict):
        problems.append(Problem(where, "has no properties; left out"))
        return "", None, None
    uid, subtype = properties.get("uid"), properties.get("subtype")
    if subtype is not None and not (isinstance(subtype, str) and subtype in SUBTYPES):
        problems.append(Problem(where, "has an unknown subtype; read as none", repr(subtype)[:40]))
        subtype = None
    shape = _outline(feature.get("wkt"), where, problems)
    return ("" if uid is None else str(uid)), subtype, shape


def _outline(
    wkt: Any, where: str, problems: list[Problem]
) -> shapely.Polygon | shapely.MultiPolygon | None:
    """The polygons of a WKT text; None, with a word to `problems`, where there are none."""
    shape = _parsed(wkt)
    if shape is None:
        problems.append(Problem(where, "has no readable wkt; left out", repr(wkt)[:40]))
        return None
    parts = _polygons(shape)
    if not parts:
        problems.append(Problem(where, "has no area; left out", str(wkt)[:40]))
        return None
    outline = parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    if max(map(abs, outline.bounds)) > _FAR:
        problems.append(Problem(where, "reaches a million pixels away; left out", str(wkt)[:40]))
        return None
    return outline


def _parsed(wkt: Any) -> shapely.Geometry | None:
    """The shape that a WKT text is; None where it is none, or has curves."""
    if not isinstance(wkt, str) or wkt.upper().count("COLLECTION") > _COLLECTIONS:
        return None
    try:
        return shapely.from_wkt(wkt)
    except (shapely.errors.ShapelyError, NotImplementedError):
        return None


def _polygons(shape: shapely.Geometry) -> list[shapely.Polygon]:
    """The polygons in a geometry, however deep in collections."""
    if hasattr(shape, "geoms"):
        return [part for inner in shape.geoms for part in _polygons(inner)]
    return [shape] if isinstance(shape, shapely.Polygon) and shape.area > 0 else []


def _written(building: XbdBuilding, shape: shapely.Geometry, decimals: int) -> dict[str, Any]:
    properties = {"feature_type": "building", "uid": building.uid}
    if building.subtype is not None:
        properties["subtype"] = building.subtype
    parts = _polygons(shape)
    single = parts[0] if len(parts) == 1 else shape
    return {
        "properties": dict(sorted(properties.items())),
        "wkt": shapely.to_wkt(single, rounding_precision=decimals),
    }
