"""One item of a catalog: what its fields say about an image, or why they do not say enough."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

import numpy as np
import shapely
from pyproj import Transformer
from pyproj.exceptions import ProjError

from .ard import ArdCell
from .catalog import CatalogImage
from .grid import polygonal
from .left_out import printable
from .lonlat import split_antimeridian

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_COLUMNS = ("visual", "ms_analytic", "pan_analytic", "data-mask")
"""Columns of Maxar's flat tables that hold what are assets in its STAC items."""

_UNDATED = "its date is not written like 2023-02-06T01:17Z"
_FOREIGN = "an address of a kind that is not read"
_IMAGE_TYPES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff")
_IMAGE_SUFFIXES = (".tif", ".tiff", ".jp2")


class Unusable(ValueError):
    """An item cannot be used: a reason, worded alike for all items that share it, and a detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = detail
        """What is particular to this item, such as the value found; may be empty."""


def read_item(
    record: Mapping[str, Any], base: str, asset: str, event: date | None = None
) -> tuple[CatalogImage, str | None]:
    """The image that a STAC item or GeoJSON feature describes, and a remark about its asset.

    `record` has geometry, bbox, properties, and assets as {name: {"href": ...}}; `base` is the
    absolute path or URL of the file that it stands in. Raises Unusable with the reason.
    """
    properties = record.get("properties")
    if not isinstance(properties, Mapping):
        raise Unusable("no properties")
    assets = assets_of(record, properties, asset)
    key, remark = choose_asset(assets, asset)
    chosen = assets[key]
    href = clean_href(chosen.get("href"), base)
    cell = _cell(properties)
    grid_code = properties.get("grid:code")
    named = grid_code if isinstance(grid_code, str) and grid_code else None
    image = CatalogImage(
        href=href,
        name=item_name(record) or Path(href).stem,
        place=cell.place if cell else named,
        time=_when(properties, event),
        outline=outline_of(record),
        cell=_ground(cell),
        cloud=_number(properties, ("tile:clouds_percent", "eo:cloud_cover"), 0, 100),
        off_nadir=_number(properties, ("view:off_nadir",), 0, 90),
        gsd=_number(properties, ("gsd",), 1e-3, 1e5),
        epsg=_epsg(properties),
        shape=_shape(chosen) or _shape(properties),
    )
    return image, remark


def item_name(record: Mapping[str, Any]) -> str:
    """What to call an item in messages: its acquisition's id or its own; empty without either."""
    properties = record.get("properties")
    known = properties if isinstance(properties, Mapping) else {}
    return printable(known.get("catalog_id") or record.get("id") or "")


def assets_of(record: Mapping[str, Any], properties: Mapping[str, Any], wanted: str) -> Any:
    """An item's assets; for a feature that has none, the addresses in its columns."""
    if "assets" in record:
        return record["assets"]
    return {k: {"href": properties[k]} for k in (*_COLUMNS, wanted) if properties.get(k)}


def choose_asset(assets: object, wanted: str) -> tuple[str, str | None]:
    """The asset to read, and a remark where it is not the one wanted.

    Without the wanted one, the asset whose role is "visual", or else the item's only image, is read.
    """
    if not isinstance(assets, Mapping) or not assets:
        raise Unusable("no assets")
    described = {k: v for k, v in assets.items() if isinstance(v, Mapping)}
    if wanted in described:
        return wanted, None
    visual = [k for k, v in described.items() if _is_image(v) and "visual" in _roles(v)]
    images = [k for k, v in described.items() if _is_image(v)]
    for choice in (visual, images):
        if len(choice) == 1:
            key = choice[0]
            why = "shown as visual" if choice is visual else "its only image"
            return key, f"no asset {wanted!r}, so {printable(key, 30)!r}, {why}, is read"
    names = ", ".join(repr(printable(k, 30)) for k in sorted(map(str, assets))[:6])
    raise Unusable(f"no asset {wanted!r}", f"it has {names}")


def utc_time(value: object) -> datetime:
    """A date or time in ISO 8601 as UTC: with Z, an offset, a space, fractions, or a date alone.

    A time without a zone is taken as UTC, a date alone as its first instant. Raises Unusable for
    anything else: a bare number could count seconds or milliseconds, 03/02/2023 be two days.
    """
    text = value.strip() if isinstance(value, str) else ""
    text = re.sub(r"\s*UTC$", "Z", text)
    if not text or (text.isdigit() and len(text) != 8):
        raise Unusable(_UNDATED, repr(printable(value, 30)))
    try:
        when = datetime.fromisoformat(text.upper().replace(" +", "+"))
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unusable(_UNDATED, repr(printable(value, 30))) from None


def clean_href(href: object, base: str) -> str:
    """An address that may be read and shown: http(s) without query and user, or a local path.

    Relative ones are taken from `base`. Raises Unusable for other schemes and virtual paths.
    """
    if not isinstance(href, str) or not href.strip() or not href.isprintable():
        raise Unusable("an address that is no text")
    scheme = _SCHEME.match(href)
    remote = is_remote(base)
    try:
        if remote and not scheme:
            href, scheme = urljoin(base, href), _SCHEME.match(base)
        if scheme and scheme[1].lower() in ("http", "https"):
            parts = urlsplit(href)
            host = parts.hostname or ""
            if not host:
                raise ValueError
            host = f"[{host}]" if ":" in host else host
            netloc = f"{host}:{parts.port}" if parts.port else host
            return urlunsplit((parts.scheme.lower(), netloc, parts.path, "", ""))
    except ValueError:
        raise Unusable("an address that is no URL") from None
    if scheme:
        raise Unusable(_FOREIGN, f"{printable(scheme[1], 12).lower()}:")
    path = os.path.normpath(os.path.join(os.path.dirname(base), href))
    if path.startswith(("/vsi", "\\vsi", "//")) or href.startswith(("//", "\\\\")):
        raise Unusable(_FOREIGN, "a virtual or network path")
    return path


def is_remote(href: str) -> bool:
    """Whether an address is a URL to be read over the network."""
    return href.lower().startswith(("http://", "https://"))


def shown_href(href: str) -> str:
    """An address as it may be printed: without query, user and control characters."""
    try:
        return printable(clean_href(href, href) if is_remote(href) else href, 300)
    except Unusable:
        return "an address that is no URL"


def outline_of(record: Mapping[str, Any]) -> shapely.Geometry:
    """Where an item has pixels, EPSG:4326, valid polygons: its geometry, or else its projected
    geometry or its box. Raises Unusable where none of them is an area on the earth."""
    properties = record.get("properties") or {}
    epsg = _epsg(properties)
    if record.get("geometry") is not None:
        return polygons_on_earth(_geojson(record["geometry"]))
    if epsg is not None and properties.get("proj:geometry"):
        return polygons_on_earth(_degrees(_geojson(properties["proj:geometry"]), epsg))
    box = _box(properties.get("proj:bbox"))
    if epsg is not None and box is not None:
        side = max(box.bounds[2] - box.bounds[0], box.bounds[3] - box.bounds[1])
        return polygons_on_earth(_degrees(shapely.segmentize(box, side / 4), epsg))
    box = _box(record.get("bbox"))
    if box is None:
        raise Unusable("no geometry")
    return polygons_on_earth(box)


def polygons_on_earth(shape: shapely.Geometry) -> shapely.Geometry:
    """Polygons in degrees, repaired and cut at the antimeridian; raises Unusable for others."""
    shape = shapely.force_2d(shape)
    bounds = np.array(shape.bounds)
    if shape.is_empty:
        raise Unusable("an empty geometry")
    if not (np.isfinite(bounds).all() and (np.abs(bounds) <= (180, 90, 180, 90)).all()):
        raise Unusable("an outline outside the earth's longitudes and latitudes")
    if not shape.is_valid:
        shape = shapely.make_valid(shape)
    if shapely.get_dimensions(shape) < 2:
        raise Unusable("an outline without an area")
    whole = np.array([polygonal(shape)], dtype=object)
    return shapely.make_valid(split_antimeridian(whole)[0])


def _is_image(asset: Mapping[str, Any]) -> bool:
    if {"thumbnail", "overview"} & set(_roles(asset)):
        return False
    href = str(asset.get("href", "")).split("?")[0].lower()
    return str(asset.get("type", "")).startswith(_IMAGE_TYPES) or href.endswith(_IMAGE_SUFFIXES)


def _roles(asset: Mapping[str, Any]) -> list[str]:
    roles = asset.get("roles")
    return [str(role) for role in roles] if isinstance(roles, list) else []


def _when(properties: Mapping[str, Any], event: date | None) -> datetime:
    if properties.get("datetime") not in (None, ""):
        return utc_time(properties["datetime"])
    if not (properties.get("start_datetime") and properties.get("end_datetime")):
        raise Unusable("no date")
    start, end = utc_time(properties["start_datetime"]), utc_time(properties["end_datetime"])
    if event is not None and start < event_start(event) <= end:
        raise Unusable("made of days before and after the event")
    return start


def event_start(event: date) -> datetime:
    """The first instant of the event's day, UTC: images from then on count as after."""
    return datetime.combine(event, time(), UTC)


def _cell(properties: Mapping[str, Any]) -> ArdCell | None:
    """The ARD cell by zone and quadkey, or by the grid code; None for images of other tilings."""
    zone, quadkey = properties.get("utm_zone"), properties.get("quadkey")
    if isinstance(quadkey, int):  # its leading zeros were lost on the way
        quadkey = f"{quadkey:012d}"
    cell = None if zone is None or quadkey is None else ArdCell.of(f"{zone}/{quadkey}")
    return cell or ArdCell.of(str(properties.get("grid:code")))


def _ground(cell: ArdCell | None) -> shapely.Geometry | None:
    try:
        return None if cell is None else cell.polygon()
    except ValueError:
        raise Unusable("a tile that lies outside the earth") from None


def _geojson(geometry: object) -> shapely.Geometry:
    try:
        return shapely.from_geojson(json.dumps(geometry))
    except (shapely.GEOSException, TypeError, ValueError, RecursionError):
        raise Unusable("a geometry that is not GeoJSON") from None


def _degrees(shape: shapely.Geometry, epsg: int) -> shapely.Geometry:
    try:
        to_degrees = _transformer(epsg)
    except ProjError:
        raise Unusable("an unknown coordinate system", f"EPSG:{epsg}") from None
    return shapely.transform(
        shape, lambda xy: np.column_stack(to_degrees.transform(xy[:, 0], xy[:, 1]))
    )


@lru_cache(maxsize=64)
def _transformer(epsg: int) -> Transformer:
    return Transformer.from_crs(epsg, 4326, always_xy=True)


def _box(value: object) -> shapely.Polygon | None:
    """A box from [W, S, E, N], with or without heights, or from such numbers in a text."""
    values = value.strip("[] ").split(",") if isinstance(value, str) else value
    if not isinstance(values, list) or len(values) not in (4, 6):
        return None
    try:
        numbers = [float(v) for v in values]
    except (TypeError, ValueError):
        return None
    half = len(numbers) // 2
    west, south, east, north = *numbers[:2], *numbers[half : half + 2]
    if not all(map(math.isfinite, numbers)) or south >= north or west == east:
        return None
    return shapely.box(west, south, east, north)


def _epsg(properties: Mapping[str, Any]) -> int | None:
    code = properties.get("proj:code")
    text = str(code) if code else f"EPSG:{properties.get('proj:epsg')}"
    found = re.fullmatch(r"EPSG:(\d{4,6})(?:\.0)?", text)
    return int(found[1]) if found else None


def _number(
    properties: Mapping[str, Any], keys: tuple[str, ...], low: float, high: float
) -> float | None:
    """The first of the properties that is a number in range; None where the catalog does not tell."""
    for key in keys:
        try:
            value = float(properties.get(key))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            continue
        if low <= value <= high:
            return value
    return None


def _shape(fields: Mapping[str, Any]) -> tuple[int, int] | None:
    shape = fields.get("proj:shape")
    if isinstance(shape, list) and len(shape) == 2 and all(type(n) is int and n > 0 for n in shape):
        return shape[0], shape[1]
    return None
