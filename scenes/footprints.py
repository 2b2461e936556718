"""Footprint polygons from any vector file, cleaned, on the run's grid; nothing vanishes unsaid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
from odc.geo.geobox import GeoBox

from .errors import Refused
from .grid import polygonal
from .vector_file import check_vector_file, offline

ID_COLUMNS = (
    "source_id",
    "building_id",
    "bldg_id",
    "osm_id",
    "osm_way_id",
    "uid",
    "uuid",
    "gml_id",
    "full_plus_code",
    "id",
    "@id",
    "objectid",
    "ogc_fid",
    "fid",
)
"""Names of columns that hold an identifier, best first; case does not matter."""

WHOLE_FILE = 200_000
"""Up to this many features a file is read whole; above, only what the grid's bounds touch."""

_FLAT = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


@dataclass(frozen=True)
class Footprints:
    """Footprints that touch the grid, and what was wrong with the others."""

    frame: gpd.GeoDataFrame
    """`position` (0-based in the file, int64), `source_id` (text), `geometry` in the grid's CRS."""
    problems: pd.DataFrame
    """`position`, `source_id`, `kept` (bool), `reason`: one row per thing that was not right."""
    counts: Mapping[str, int]
    """`in_file`, `kept`, `repaired`, `left_out`, `outside`, `duplicate_ids`."""
    path: Path

    def touching(self, area: shapely.Geometry) -> Footprints:
        """Those that touch an area in the grid's CRS; refused where none does."""
        kept = self.frame.geometry.intersects(area).to_numpy()
        if not kept.any():
            raise Refused(
                f"None of the {len(self.frame)} footprints of {str(self.path)!r} on the image lies in "
                "the area asked for. Check --footprints, --bbox and --aoi."
            )
        outside = self.counts["outside"] + int((~kept).sum())
        counts = {**self.counts, "kept": int(kept.sum()), "outside": outside}
        return replace(self, frame=self.frame[kept].reset_index(drop=True), counts=counts)


def read_footprints(path: Path, grid: GeoBox) -> Footprints:
    """Read the polygons of a vector file that touch a grid.

    Any format and CRS; invalid polygons are repaired, and what cannot be used is listed. Above
    `WHOLE_FILE` features only those within the grid's bounds are looked at, and features without a
    geometry count as outside. Raises Refused if the file is no local vector file with a CRS, or if
    no usable polygon touches the grid.
    """
    check_vector_file(path, "footprint", "--footprints")
    with offline():
        raw, in_file, extent = _read(path, grid)
    raw = raw.assign(source_id=_source_ids(raw))
    cleaned, reasons = _clean(raw.geometry.to_numpy())
    placed = _project(cleaned, reasons, raw.crs, grid)
    usable = ~shapely.is_missing(placed)
    here = usable & shapely.intersects(placed, _corners(grid))
    _refuse_none(path, grid, in_file, usable, here, reasons, extent)
    frame = gpd.GeoDataFrame(
        {"position": raw["position"].to_numpy()[here], "source_id": raw["source_id"][here].array},
        geometry=placed[here],
        crs=grid.crs.to_wkt(),
    )
    copies = frame["source_id"].duplicated(keep="first") & frame["source_id"].notna()
    problems = _problems(raw, reasons, usable, here, frame[copies])
    repaired = int((usable & here & (reasons != "")).sum())
    counts = {
        "in_file": in_file,
        "kept": len(frame),
        "repaired": repaired,
        "left_out": int((~usable).sum()),
        "outside": in_file - len(frame) - int((~usable).sum()),
        "duplicate_ids": int(copies.sum()),
    }
    return Footprints(frame, problems, counts, path)


def _read(path: Path, grid: GeoBox) -> tuple[gpd.GeoDataFrame, int, str]:
    """Features of the polygon layer near the grid, their number in the file, its extent."""
    try:
        if path.suffix.lower() in (".parquet", ".geoparquet"):
            frame = gpd.read_parquet(path).reset_index(drop=True)
            frame["position"] = np.arange(len(frame))
            _refuse_no_crs(path, frame.crs)
            return frame, len(frame), _extent(frame.total_bounds, frame.crs)
        layer = _layer(path)
        info = pyogrio.read_info(
            path, layer=layer, force_feature_count=True, force_total_bounds=True
        )
        _refuse_no_crs(path, info["crs"])
        total = int(info["features"])
        bounds = _bounds_in(grid, info["crs"]) if total > WHOLE_FILE else None
        frame = pyogrio.read_dataframe(path, layer=layer, bbox=bounds, fid_as_index=True)
        frame["position"] = _positions(path, layer, frame.index.to_numpy(), total)
        frame["_fid"] = frame.index.to_numpy()
        return frame.reset_index(drop=True), total, _extent(info["total_bounds"], info["crs"])
    except Refused:
        raise
    except Exception as error:  # pyogrio, pyarrow and geopandas each raise their own kinds
        raise Refused(
            f"The footprints {str(path)!r} could not be read as a vector file: {error}. "
            f"Give a file with polygons to --footprints."
        ) from error


def _layer(path: Path) -> str:
    """The layer to read: `buildings` if there is one, else the first with polygons."""
    layers = pyogrio.list_layers(path)
    spatial = [name for name, kind in layers if kind is not None]
    polygonal = [name for name, kind in layers if kind and ("Polygon" in kind or "Unknown" in kind)]
    if not spatial:
        raise Refused(
            f"The footprints {str(path)!r} hold no geometry. Give a file with polygons to "
            f"--footprints."
        )
    candidates = polygonal or spatial
    return next((name for name in candidates if name.lower() == "buildings"), candidates[0])


def _positions(path: Path, layer: str, fids: np.ndarray, total: int) -> np.ndarray:
    """0-based positions in the file of features with the given ids."""
    if len(fids) == total:
        return np.arange(total)
    _, every, _, _ = pyogrio.raw.read(
        path, layer=layer, columns=[], read_geometry=False, return_fids=True
    )
    order = np.argsort(every, kind="stable")
    return order[np.searchsorted(every, fids, sorter=order)]


def _bounds_in(grid: GeoBox, crs: str) -> tuple[float, float, float, float] | None:
    """The grid's bounds in a file's CRS; None where they wrap around the earth."""
    box = grid.extent.to_crs(crs, resolution=max(grid.shape) * abs(grid.affine.a) / 50).boundingbox
    if not np.isfinite(box.bbox).all() or (box.crs and box.crs.geographic and box.span_x > 180):
        return None
    return tuple(box.bbox)


def _source_ids(frame: gpd.GeoDataFrame) -> pd.Series:
    """Each feature's own identifier as text; the file's feature number where no column has one."""
    known = {str(name).lower(): name for name in frame.columns}
    name = next((known[name] for name in ID_COLUMNS if name in known), None)
    values = frame[name] if name is not None else frame.get("_fid", frame["position"])
    if pd.api.types.is_float_dtype(values):
        whole = values.dropna().mod(1).eq(0).all()
        values = values.astype("Int64") if whole else values
    return values.astype("string").astype(object).where(values.notna(), None)


def _clean(geometry: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flat, valid polygons, None where there is none; and a reason wherever something was wrong."""
    reasons = np.full(len(geometry), "", object)
    missing = shapely.is_missing(geometry)
    reasons[missing] = "no geometry"
    empty = ~missing & shapely.is_empty(geometry)
    reasons[empty] = "empty geometry"
    good = geometry.copy()
    good[empty] = None
    good = shapely.force_2d(good)
    kinds = shapely.get_type_id(good)
    mixed = kinds == shapely.GeometryType.GEOMETRYCOLLECTION
    good[mixed] = [polygonal(item) for item in good[mixed]]
    reasons[mixed] = "a collection; its polygons were kept"
    for row in np.flatnonzero(~missing & ~empty & ~mixed & ~np.isin(kinds, _FLAT)):
        reasons[row] = f"a {good[row].geom_type}, not a polygon"
        good[row] = None
    wild = ~shapely.is_missing(good) & ~np.isfinite(shapely.bounds(good)).all(axis=1)
    good[wild], reasons[wild] = None, "coordinates that are not finite"
    torn = ~shapely.is_missing(good) & ~shapely.is_valid(good)
    for row in np.flatnonzero(torn):
        reasons[row] = f"invalid ({shapely.is_valid_reason(good[row])}); repaired"
        good[row] = polygonal(shapely.make_valid(good[row]))
    flat = ~shapely.is_missing(good) & ~(shapely.area(good) > 0)
    good[flat], reasons[flat] = None, "no area"
    lost = shapely.is_missing(good) & (reasons == "a collection; its polygons were kept")
    reasons[lost] = "a collection without polygons"
    return good, reasons


def _project(geometry: np.ndarray, reasons: np.ndarray, crs: object, grid: GeoBox) -> np.ndarray:
    """Polygons in the grid's CRS; what has no place there becomes None with a reason."""
    placed = gpd.GeoSeries(geometry, crs=crs).to_crs(grid.crs.to_wkt()).to_numpy().copy()
    had = ~shapely.is_missing(geometry)
    off = had & ~np.isfinite(shapely.bounds(placed)).all(axis=1)
    placed[off], reasons[off] = None, "cannot be placed in the images' CRS"
    torn = ~shapely.is_missing(placed) & ~shapely.is_valid(placed)
    placed[torn] = [polygonal(shapely.make_valid(item)) for item in placed[torn]]
    return placed


def _corners(grid: GeoBox) -> shapely.Geometry:
    """The grid's outline in its own CRS."""
    return shapely.Polygon([tuple(point) for point in grid.extent.exterior.coords])


def _problems(
    raw: gpd.GeoDataFrame,
    reasons: np.ndarray,
    usable: np.ndarray,
    here: np.ndarray,
    copies: gpd.GeoDataFrame,
) -> pd.DataFrame:
    """What was not right with features, in the order of the file."""
    told = (reasons != "") & (here | ~usable)
    wrong = pd.DataFrame(
        {
            "position": raw["position"].to_numpy()[told],
            "source_id": raw["source_id"].to_numpy()[told],
            "kept": usable[told],
            "reason": reasons[told],
        }
    )
    twice = copies[["position", "source_id"]].assign(kept=True, reason="id used before; kept")
    both = pd.concat([wrong, pd.DataFrame(twice)], ignore_index=True) if len(twice) else wrong
    return both.sort_values(["position", "reason"], kind="stable").reset_index(drop=True)


def _refuse_no_crs(path: Path, crs: object) -> None:
    if crs is None:
        raise Refused(
            f"The footprints {str(path)!r} do not say which CRS their coordinates are in. Save "
            f"them with one (for a shapefile, add its .prj) and give that file to --footprints."
        )


def _refuse_none(
    path: Path,
    grid: GeoBox,
    in_file: int,
    usable: np.ndarray,
    here: np.ndarray,
    reasons: np.ndarray,
    extent: str,
) -> None:
    """Refuse a file of which nothing is left, or nothing touches the grid."""
    if here.any():
        return
    if len(usable) and not usable.any():
        found, counted = np.unique(reasons.astype(str), return_counts=True)
        listed = "; ".join(f"{n} x {reason}" for reason, n in zip(found, counted, strict=True))
        raise Refused(
            f"Of the {in_file} features in {str(path)!r} none is a usable polygon ({listed}). "
            f"Give polygons to --footprints."
        )
    mine = _extent(tuple(_corners(grid).bounds), grid.crs)
    world = _extent(tuple(grid.geographic_extent.boundingbox.bbox), "EPSG:4326")
    raise Refused(
        f"None of the {in_file} footprints in {str(path)!r} overlaps the images: the footprints "
        f"span {extent}; the images span {mine}, which is {world}. Check --footprints."
    )


def _extent(bounds: object, crs: object) -> str:
    """Bounds in words, with their CRS by name."""
    name = gpd.GeoSeries([], crs=str(crs)).crs
    label = ":".join(name.to_authority() or (name.name,))
    values = np.ravel(np.asarray(bounds, dtype=float)) if bounds is not None else np.full(4, np.nan)
    west, south, east, north = (f"{value:.6g}" for value in values)
    return f"{west} to {east}, {south} to {north} ({label})"
