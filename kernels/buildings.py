"""From counts to the table of buildings: one damage class, its probabilities, and its area.

The damage class of a building is 255 where less than half of it could be analysed. With a graded
method it is the commonest level among its pixels, the worse one on a tie; a supplied footprint in
which no pixel was classed as building gets the level with the largest mean probability. With a
binary method a supplied footprint is 5 where its mean damage probability reaches the threshold,
and 1 elsewhere, so that the class follows from `damage_score` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer

from ..scenes.layer import FULL, NOT_ANALYSED
from ..scenes.legend import LEVELS, UNGRADED
from ..scenes.plan import Plan
from .stitch import Components
from .tally import CODES, columns

LEVEL_LAYERS = ("p_none", "p_minor", "p_major", "p_destroyed")
"""The probability layers of a graded method, in the order of the levels."""

HALF = 0.5
"""Below this valid share a building counts as not analysed."""

_DECIMALS = 4
_TEXT = ("pre_image", "post_image", "pre_date", "post_date", "method", "weights_sha256", "run_id")
_NUMBERS = ("shift_x_m", "shift_y_m", "align_conf", "gsd_m")
_MEASURES = (
    "damage_class",
    *LEVEL_LAYERS,
    "damage_score",
    "damage_frac",
    "valid_frac",
    "shift_x_m",
    "shift_y_m",
    "align_conf",
    "pre_image",
    "post_image",
    "pre_date",
    "post_date",
    "gsd_m",
    "method",
    "weights_sha256",
    "run_id",
    "det_method",
    "area_m2",
    "geometry",
)

BUILDING_COLUMNS = ("building_id", "source_id", "footprint_source", *_MEASURES)
"""The columns of the buildings table, in order."""

AREA_COLUMNS = ("area_id", *_MEASURES)
"""The columns of the table of damage areas that a binary method finds without footprints."""


@dataclass(frozen=True)
class Origin:
    """What every row of a run has in common; None where it is not known."""

    method: str
    weights_sha256: str | None
    run_id: str
    pre_image: str | None
    post_image: str
    pre_date: str | None
    post_date: str | None
    gsd_m: float
    shift_x_m: float | None
    shift_y_m: float | None
    align_conf: float | None


@dataclass(frozen=True)
class Rules:
    """How counts become classes."""

    graded: bool
    """Whether the method tells the four levels apart."""
    threshold: float
    """Damage probability from which a binary method says damaged."""
    min_area_m2: float = 15.0
    """Detected components smaller than this are left out."""


def supplied(
    frame: gpd.GeoDataFrame,
    counts: np.ndarray,
    layers: Sequence[str],
    rules: Rules,
    origin: Origin,
    footprint_source: str,
) -> gpd.GeoDataFrame:
    """The buildings table of supplied footprints.

    `frame` holds `position`, `source_id` and `geometry`, `counts` the matching rows of a tally.
    Sorted by position in the source.
    """
    table = _measured(counts, layers, rules)
    table["damage_class"] = _supplied_class(counts, layers, rules, table)
    table["building_id"] = frame["position"].astype(str).to_numpy()
    table["source_id"] = frame["source_id"].to_numpy()
    table["footprint_source"] = footprint_source
    table["det_method"] = "supplied"
    geometry = _multi(frame.geometry.to_numpy())
    placed = _finished(table, geometry, frame.crs, origin, BUILDING_COLUMNS)
    return placed.iloc[np.argsort(frame["position"].to_numpy(), kind="stable")].reset_index(
        drop=True
    )


def detected(
    components: Components,
    layers: Sequence[str],
    rules: Rules,
    origin: Origin,
    grid: GeoBox,
    plan: Plan,
    scene_prefix: str,
) -> gpd.GeoDataFrame:
    """The buildings table (graded) or the table of damage areas (binary) of stitched components.

    `grid` is the georeference of the plan's region. Sorted by first pixel; components below the
    minimum area are left out.
    """
    order = np.argsort(components.first, kind="stable")
    counts = components.counts[order]
    table = _measured(counts, layers, rules)
    table["damage_class"] = _majority(counts, layers) if rules.graded else UNGRADED
    row, col = np.divmod(components.first[order], plan.shape[1])
    ids = [f"{scene_prefix}-r{r}c{c}" for r, c in zip(row.tolist(), col.tolist(), strict=True)]
    wanted = BUILDING_COLUMNS if rules.graded else AREA_COLUMNS
    table[wanted[0]] = ids
    table["source_id"] = None
    table["footprint_source"] = "detected"
    table["det_method"] = "components of classes 1-4" if rules.graded else "components of class 5"
    geometry = to_map(components.geometry[order], grid, plan)
    placed = _finished(table, geometry, grid.crs.to_wkt(), origin, wanted)
    return placed[placed["area_m2"] >= rules.min_area_m2].reset_index(drop=True)


def empty_table(wanted: Sequence[str], crs: object) -> gpd.GeoDataFrame:
    """A table without rows, with the columns and types of a full one."""
    kinds = dict.fromkeys(wanted, "str")
    kinds |= dict.fromkeys((*LEVEL_LAYERS, "damage_score", "damage_frac", "valid_frac"), "float64")
    kinds |= dict.fromkeys((*_NUMBERS, "area_m2"), "float64")
    kinds["damage_class"] = "int16"
    plain = {name: pd.Series([], dtype=kinds[name]) for name in wanted if name != "geometry"}
    return gpd.GeoDataFrame(plain, geometry=gpd.GeoSeries([], crs=crs))[list(wanted)]


def geodesic_area(geometry: np.ndarray, crs: object) -> np.ndarray:
    """Areas of polygons and multipolygons on the WGS 84 ellipsoid, m2, holes subtracted."""
    if not len(geometry):
        return np.zeros(0)
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    parts, owner = shapely.get_parts(geometry, return_index=True)
    _, xy, (ring_ends, part_ends) = shapely.to_ragged_array(parts)
    lon, lat = to_degrees.transform(xy[:, 0], xy[:, 1])
    geod = Geod(ellps="WGS84")
    ends = ring_ends.tolist()
    rings = np.array(
        [abs(geod.polygon_area_perimeter(lon[a:b], lat[a:b])[0]) for a, b in pairwise(ends)]
    )
    # The first ring of each part is its outline; the others are holes.
    sign = np.full(len(rings), -1.0)
    sign[part_ends[:-1]] = 1.0
    ring_owner = np.repeat(owner, np.diff(part_ends))
    return np.bincount(ring_owner, weights=sign * rings, minlength=len(geometry))


def to_map(geometry: np.ndarray, grid: GeoBox, plan: Plan) -> np.ndarray:
    """Outlines from pixel coordinates of the full raster to the grid's CRS."""
    affine = grid.affine
    corner = np.array([plan.region[1], plan.region[0]])
    turn = np.array([[affine.a, affine.d], [affine.b, affine.e]])
    moved = shapely.transform(geometry, lambda xy: (xy - corner) @ turn + (affine.c, affine.f))
    return shapely.normalize(moved)


def _measured(counts: np.ndarray, layers: Sequence[str], rules: Rules) -> pd.DataFrame:
    """Shares and mean probabilities from counts; NaN where there is nothing to divide by."""
    at = {name: k for k, name in enumerate(columns(layers))}
    every = counts[:, : len(CODES)].sum(axis=1)
    valid = every - counts[:, at[f"code_{NOT_ANALYSED}"]]
    damaged = counts[:, [at[f"code_{code}"] for code in (2, 3, 4, UNGRADED)]].sum(axis=1)
    table = pd.DataFrame(index=range(len(counts)))
    table["valid_frac"] = _ratio(valid, every)
    table["damage_frac"] = _ratio(damaged, valid)
    table["damage_score"] = np.nan
    if "damage_probability" in layers:
        total = counts[:, at["sum_damage_probability"]]
        table["damage_score"] = _ratio(total, counts[:, at["n_damage_probability"]] * FULL)
    sums = _level_sums(counts, layers) if rules.graded else None
    for k, name in enumerate(LEVEL_LAYERS):
        table[name] = np.nan if sums is None else _ratio(sums[:, k], sums.sum(axis=1))
    return table


def _level_sums(counts: np.ndarray, layers: Sequence[str]) -> np.ndarray | None:
    """Sums of the four level probabilities, (rows, 4); None where a layer is missing."""
    if not set(LEVEL_LAYERS) <= set(layers):
        return None
    at = {name: k for k, name in enumerate(columns(layers))}
    return counts[:, [at[f"sum_{name}"] for name in LEVEL_LAYERS]]


def _majority(counts: np.ndarray, layers: Sequence[str]) -> np.ndarray:
    """The commonest level, the worse one on a tie; int16."""
    at = {name: k for k, name in enumerate(columns(layers))}
    levels = counts[:, [at[f"code_{level}"] for level in LEVELS]]
    return _worst_largest(levels)


def _supplied_class(
    counts: np.ndarray, layers: Sequence[str], rules: Rules, table: pd.DataFrame
) -> np.ndarray:
    """The damage class of supplied footprints; int16."""
    at = {name: k for k, name in enumerate(columns(layers))}
    if rules.graded:
        levels = counts[:, [at[f"code_{level}"] for level in LEVELS]]
        built = levels.any(axis=1)
        sums = _level_sums(counts, layers)
        likely = levels if sums is None else sums
        known = built | likely.any(axis=1)
        found = np.where(built, _worst_largest(levels), _worst_largest(likely))
        found = np.where(known, found, NOT_ANALYSED)
    else:
        score = table["damage_score"].to_numpy()
        share = table["damage_frac"].to_numpy()
        damaged = np.where(np.isnan(score), share >= HALF, score >= rules.threshold)
        found = np.where(damaged, UNGRADED, LEVELS[0])
    analysed = table["valid_frac"].to_numpy() >= HALF
    return np.where(analysed, found, NOT_ANALYSED).astype(np.int16)


def _worst_largest(amounts: np.ndarray) -> np.ndarray:
    """The level with the largest amount, the worse one on a tie. (rows, 4) to int16."""
    backwards = np.argmax(amounts[:, ::-1], axis=1)
    return np.array(LEVELS[::-1], np.int16)[backwards]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, rounded for reading; NaN where whole is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, np.round(part / whole, _DECIMALS), np.nan)


def _multi(geometry: np.ndarray) -> np.ndarray:
    """Polygons as multipolygons, so that a table has one geometry type."""
    parts, owner = shapely.get_parts(geometry, return_index=True)
    return shapely.multipolygons(parts, indices=owner)


def _finished(
    table: pd.DataFrame,
    geometry: np.ndarray,
    crs: object,
    origin: Origin,
    wanted: Sequence[str],
) -> gpd.GeoDataFrame:
    """Add what all rows share, area and geometry, and order and type the columns."""
    for name in _TEXT:
        table[name] = pd.Series([getattr(origin, name)] * len(table), dtype="str")
    for name in _NUMBERS:
        value = getattr(origin, name)
        table[name] = np.nan if value is None else float(value)
    table["area_m2"] = np.round(geodesic_area(geometry, crs), 2)
    full = gpd.GeoDataFrame(table, geometry=gpd.GeoSeries(list(geometry), crs=crs))[list(wanted)]
    return full.astype(empty_table(wanted, crs).drop(columns="geometry").dtypes.to_dict())
