"""Catalog entries that tests make for themselves, in the shapes that real catalogs have."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from aftermap.scenes.ard import ArdCell
from aftermap.scenes.catalog import CatalogImage, Pairing
from pyproj import Transformer

HOST = "https://images.example.org/events/Town"
EVENT = datetime(2023, 2, 6, tzinfo=UTC)
CELL = ArdCell(37, "031133012312")


def ard_box(quadkey: str, share: float = 1.0, zone: int = 37) -> tuple[float, float, float, float]:
    """West, south, east, north of a tile's file in UTM, by plain digits; `share` cuts its east off."""
    column = sum((int(d) % 2) * 2 ** (11 - i) for i, d in enumerate(quadkey))
    row = sum((int(d) // 2) * 2 ** (11 - i) for i, d in enumerate(quadkey))
    west, north = -9_740_000 + 5000 * column, 10_240_000 - 5000 * row
    return west - 156.25, north - 5156.25, west + 156.25 + 5000 * share, north + 156.25


def ard_feature(
    quadkey: str,
    day: str,
    catalog_id: str,
    *,
    share: float = 1.0,
    zone: int = 37,
    cloud: float = 0,
    tilt: float = 20,
    **properties: Any,
) -> dict[str, Any]:
    """A feature as in the event files of Maxar Open Data; `share` of the tile, from the west, has data."""
    box = ard_box(quadkey, share, zone)
    to_degrees = Transformer.from_crs(32600 + zone, 4326, always_xy=True)
    ring = shapely.get_coordinates(shapely.box(*box))
    degrees = shapely.Polygon([to_degrees.transform(x, y) for x, y in ring])
    return {
        "type": "Feature",
        "geometry": json.loads(shapely.to_geojson(degrees)),
        "properties": {
            "datetime": f"{day}T08:10:22Z",
            "catalog_id": catalog_id,
            "utm_zone": zone,
            "quadkey": quadkey,
            "gsd": 0.5,
            "view:off_nadir": tilt,
            "proj:epsg": 32600 + zone,
            "proj:bbox": ",".join(str(v) for v in box),
            "grid:code": f"MXRA-Z{zone}-{quadkey}",
            "tile:clouds_percent": cloud,
            "visual": f"{HOST}/ard/{zone}/{quadkey}/{day}/{catalog_id}-visual.tif",
        }
        | properties,
    }


def stac_item(
    name: str, day: str, box: tuple[float, float, float, float], **fields: Any
) -> dict[str, Any]:
    """A STAC item with one visual asset over a box in degrees; `fields` replace its members."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": json.loads(shapely.to_geojson(shapely.box(*box))),
        "bbox": list(box),
        "properties": {"datetime": f"{day}T00:00:00Z"},
        "links": [],
        "assets": {"visual": {"href": f"{HOST}/{name}.tif", "type": "image/tiff"}},
    } | fields


def write_features(path: Path, features: list[Any]) -> Path:
    """A GeoJSON file of features."""
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def image(
    name: str,
    days: float | None,
    *,
    share: float = 1.0,
    cloud: float | None = 0.0,
    tilt: float | None = 20.0,
    cell: ArdCell | None = CELL,
    box: tuple[float, float, float, float] | None = None,
) -> CatalogImage:
    """An image so many days from the event, of the western share of a cell or of a box in degrees."""
    ground = cell.polygon() if cell and not box else shapely.box(*(box or (36, 37, 37, 38)))
    west, south, east, north = ground.bounds
    part = shapely.box(west - 0.01, south - 0.01, west + share * (east - west), north + 0.01)
    outline = part if cell and not box else ground
    return CatalogImage(
        href=f"/data/{name}.tif",
        name=name,
        place=cell.place if cell and not box else None,
        time=None if days is None else EVENT + timedelta(days=days),
        outline=outline,
        cell=cell.polygon() if cell and not box else None,
        cloud=cloud,
        off_nadir=tilt,
    )


def check_cores(pairing: Pairing) -> None:
    """No ground belongs to two scenes; compared pair by pair and by the area of the union."""
    cores = np.array([pair.core for pair in pairing.pairs], dtype=object)
    assert shapely.is_valid(cores).all()
    assert not shapely.is_empty(cores).any()
    one, other = shapely.STRtree(cores).query(cores, predicate="intersects")
    common = shapely.area(shapely.intersection(cores[one], cores[other]))[one != other]
    assert common.max(initial=0) < 1e-12  # square degrees: a hundredth of a square metre
    assert shapely.area(cores).sum() == pytest.approx(shapely.union_all(cores).area, rel=1e-12)
