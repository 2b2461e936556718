"""The analysis grid: which pixels, how large on the ground, and which part of it is wanted."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyogrio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from pyproj import Geod
from rasterio.features import geometry_mask

from .errors import NothingToAnalyse, Refused, UsageError
from .vector_file import check_vector_file, offline

_GEOD = Geod(ellps="WGS84")


def pixel_metres(grid: GeoBox) -> tuple[float, float]:
    """Height and width of the centre pixel on the ground, geodesic metres."""
    rows, cols = grid.shape
    middle = grid.affine * (cols / 2, rows / 2)
    right = grid.affine * (cols / 2 + 1, rows / 2)
    below = grid.affine * (cols / 2, rows / 2 + 1)
    points = [
        Geometry(shapely.Point(p), grid.crs).to_crs("EPSG:4326").coords[0]
        for p in (middle, right, below)
    ]
    (lon, lat), (lon_x, lat_x), (lon_y, lat_y) = points
    width = _GEOD.inv(lon, lat, lon_x, lat_x)[2]
    height = _GEOD.inv(lon, lat, lon_y, lat_y)[2]
    return height, width


def gsd(grid: GeoBox) -> float:
    """Ground sample distance: the side, in metres, of a square as large as the centre pixel."""
    return math.sqrt(math.prod(pixel_metres(grid)))


def at_resolution(grid: GeoBox, metres: float) -> GeoBox:
    """The same ground with square pixels of `metres`, from the same upper left corner."""
    if not (metres > 0 and math.isfinite(metres)):
        raise Refused(f"--resolution {metres} is not a length in metres; give one above 0.")
    height, width = pixel_metres(grid)
    shape = (
        max(1, math.ceil(grid.shape[0] * height / metres - 1e-6)),
        max(1, math.ceil(grid.shape[1] * width / metres - 1e-6)),
    )
    return GeoBox(shape, grid.affine * Affine.scale(metres / width, metres / height), grid.crs)


def overview_grid(grid: GeoBox, side: int) -> GeoBox:
    """A coarser grid over the same ground, at most `side` pixels long."""
    factor = max(1.0, max(grid.shape) / side)
    shape = max(1, round(grid.shape[0] / factor)), max(1, round(grid.shape[1] / factor))
    scale = Affine.scale(grid.shape[1] / shape[1], grid.shape[0] / shape[0])
    return GeoBox(shape, grid.affine * scale, grid.crs)


def area_of_interest(
    grid: GeoBox,
    bbox: tuple[float, float, float, float] | None,
    aoi: str | Path | None,
) -> shapely.Geometry | None:
    """The wanted area in the grid's CRS: `bbox` (W, S, E, N in EPSG:4326) and `aoi` polygons in any CRS.

    None means everything. Raises UsageError for a box that is none, Refused for a file without
    polygons, NothingToAnalyse when they do not touch the grid.
    """
    area = None
    if bbox is not None:
        wanted = lonlat_box(bbox)
        near = grid.geographic_extent.geom.buffer(0.01)
        # Cut to the image's surroundings: a projection need not hold for half the earth.
        box = Geometry(wanted & near if wanted.intersects(near) else wanted, "EPSG:4326")
        area = box.to_crs(grid.crs, resolution="auto").geom
    if aoi is not None:
        polygons = read_polygons(aoi, grid.crs.to_wkt())
        area = polygons if area is None else area.intersection(polygons)
    if area is not None:
        area = polygonal(area)
    if area is not None and not polygonal(area.intersection(grid.extent.geom)).area:
        raise NothingToAnalyse(
            f"The area asked for ({_bounds(area)}) does not touch the image "
            f"({_bounds(grid.extent.geom)}). Check --bbox (W S E N in degrees) and --aoi."
        )
    return area


def lonlat_box(
    bbox: tuple[float, float, float, float], argument: str = "--bbox"
) -> shapely.Geometry:
    """A box west, south, east, north in degrees; UsageError, by the argument's name, for others."""
    west, south, east, north = bbox
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise UsageError(
            f"{argument} {west} {south} {east} {north} is not west south east north in degrees "
            "with west < east and south < north."
        )
    return shapely.box(west, south, east, north)


def read_polygons(path: str | Path, crs: str, argument: str = "--aoi") -> shapely.Geometry:
    """The union of the polygons of a vector file in a coordinate system.

    Raises Refused, by the argument's name, for a file without polygons or coordinate system.
    """
    file = Path(path)
    check_vector_file(file, "area of interest", argument)
    try:
        with offline():
            frame = pyogrio.read_dataframe(file, columns=[])
    except Exception as error:  # pyogrio raises several kinds, all meaning the same here
        raise Refused(f"{argument} {file} cannot be read as vector data: {error}") from error
    if getattr(frame, "crs", None) is None:
        raise Refused(f"{argument} {file} has no coordinate system; save it with one.")
    polygons = frame.to_crs(crs).geometry.force_2d().make_valid()
    kept = polygons[polygons.geom_type.isin(["Polygon", "MultiPolygon", "GeometryCollection"])]
    if not shapely.area(kept.to_numpy()).any():
        raise Refused(f"{argument} {file} holds {len(frame)} features, none of them a polygon.")
    return polygonal(kept.union_all())


def region_of(grid: GeoBox, area: shapely.Geometry | None) -> tuple[int, int, int, int]:
    """Row and column bounds (row0, col0, row1, col1) of an area on the grid."""
    if area is None:
        return 0, 0, grid.shape[0], grid.shape[1]
    left, bottom, right, top = area.bounds
    inverse = ~grid.affine
    corners = [inverse * (x, y) for x in (left, right) for y in (bottom, top)]
    cols, rows = zip(*corners, strict=True)
    row0, col0 = max(0, math.floor(min(rows))), max(0, math.floor(min(cols)))
    row1, col1 = min(grid.shape[0], math.ceil(max(rows))), min(grid.shape[1], math.ceil(max(cols)))
    return (
        min(row0, grid.shape[0] - 1),
        min(col0, grid.shape[1] - 1),
        max(row1, row0 + 1),
        max(col1, col0 + 1),
    )


def inside(
    grid: GeoBox, area: shapely.Geometry | None, row0: int, col0: int, row1: int, col1: int
) -> np.ndarray:
    """Which pixels of a window have their centre in the area: bool (h, w)."""
    shape = row1 - row0, col1 - col0
    if area is None:
        return np.ones(shape, bool)
    # In pixel coordinates of the full grid, so that a pixel is judged alike in every window.
    inverse = ~grid.affine
    pixels = shapely.transform(area, lambda xy: np.column_stack(inverse * (xy[:, 0], xy[:, 1])))
    near = shapely.clip_by_rect(pixels, col0 - 1, row0 - 1, col1 + 1, row1 + 1)
    if near.is_empty:
        return np.zeros(shape, bool)
    return geometry_mask([near], shape, Affine.translation(col0, row0), invert=True)


def polygonal(geometry: shapely.Geometry) -> shapely.Geometry:
    """The polygons of a geometry, without the lines and points that repairs leave."""
    parts = shapely.get_parts(shapely.get_parts(geometry))
    kept = parts[shapely.get_dimensions(parts) == 2]
    return kept[0] if len(kept) == 1 else shapely.multipolygons(kept)


def _bounds(area: shapely.Geometry) -> str:
    return ", ".join(f"{value:.6g}" for value in area.bounds)
